"""A batch on a Ray cluster of two machines, both on this one, of which something ends in the midst.

    python tests/bench/lossy_cluster.py LOST N_DONE OUT score ... --out OUT --engine ray --resume

`LOST` names what ends, joined by +: a `worker`, a `node` (with all of its workers) or the `batch`, which is begun
again. The first ends when `N_DONE` parts of the batch are finished, each next one when two more are. The exit code is
the batch's. For `bench_kills.py` and a test.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BETWEEN = 2
BATCH = (
    "import sys, serve.batch.job as b, serve.jobs.partitioned as p; from serve.cli import main; "
    "b.SMALL_BYTES = p.SMALL_BYTES = 0; b._SHARE_BYTES = (2_000,) * 2; b._PARTITION_BYTES = 1_000; "
    "sys.exit(main(sys.argv[1:]))"
)


def workers() -> list[tuple[bool, int]]:
    """Processes of the cluster that run tasks: whether each has none now; those at work first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (folder / "cmdline").read_text()
            if title.startswith(("ray::_run_in", "ray::IDLE")) and is_own(int(folder.name)):
                found.append((title.startswith("ray::IDLE"), int(folder.name)))
    return sorted(found)


def is_own(pid: int) -> bool:
    """Whether this process started that one, or one that did."""
    while pid > 1 and pid != os.getpid():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == os.getpid()


def is_lost(what: str, batch: subprocess.Popen[bytes], cluster: Any, node: Any) -> bool:
    """End it, where it is there."""
    if what == "batch":
        batch.kill()
    elif what == "node":
        cluster.remove_node(node, allow_graceful=False)
    elif own := workers():
        os.kill(own[0][1], signal.SIGKILL)
    else:
        return False
    print(f"lost {what}", flush=True)
    return True


def run(lost: list[str], n_done: int, out: Path, arguments: list[str]) -> int:
    """The exit code of a batch that ends by itself."""
    from ray.cluster_utils import Cluster

    manifest = out.parent / f"_{out.name}.work" / "manifest.jsonl"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node, code = cluster.add_node(num_cpus=1), None
    own = os.environ | {"RAY_ADDRESS": cluster.address}
    try:
        while code is None or code == -signal.SIGKILL:
            batch = subprocess.Popen([sys.executable, "-c", BATCH, *arguments], cwd=ROOT, env=own)
            while (code := batch.poll()) is None:
                time.sleep(0.002)
                n_now = manifest.read_bytes().count(b"\n") if lost and manifest.exists() else -1
                if n_now >= n_done and is_lost(lost[0], batch, cluster, node):
                    lost, n_done = lost[1:], n_now + BETWEEN
        return code
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1].split("+"), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]))
