from __future__ import annotations

import builtins
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from serve.cli import main
from serve.jobs.executors import ONE_THREAD, LocalExecutor, RayExecutor, SerialExecutor
from serve.jobs.tasks import TaskError
from serve.sessions.records import Session

ROOT = Path(__file__).parents[3]
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install 'stillwatch[cluster]'"
)

CLUSTER = """
import os, signal, sys, threading, time
import serve.batch.job
serve.batch.job._SHARE_BYTES, serve.batch.job._PARTITION_BYTES = (2_000, 2_000), 1_000
from pathlib import Path
from ray.cluster_utils import Cluster
from serve.cli import main

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
os.environ["RAY_ADDRESS"] = cluster.address
manifest = Path(sys.argv[1])

def workers():
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_text().startswith("ray::_run_in") and os.getpgid(int(folder.name)) > 0:
                yield int(folder.name)
        except OSError:
            continue

def lose():
    lost_worker = False
    while True:
        n_done = manifest.read_text().count("\\n") if manifest.exists() else 0
        if n_done > 3 and not lost_worker:
            for process in list(workers())[:1]:
                os.kill(process, signal.SIGKILL)
                lost_worker = True
                print("lost a worker", flush=True)
        if n_done > 6 and lost_worker:
            cluster.remove_node(node, allow_graceful=False)
            print("lost a node", flush=True)
            return
        time.sleep(0.002)

threading.Thread(target=lose, daemon=True).start()
code = main(sys.argv[2:])
os._exit(code)
"""


@dataclass(frozen=True)
class Saying:
    """A task that says where it ran."""

    word: str

    def run(self) -> Any:
        return self.word, os.getpid(), {name: os.environ.get(name) for name in ONE_THREAD}


@dataclass(frozen=True)
class Waiting:
    """A task that takes its time."""

    seconds: float

    def run(self) -> Any:
        time.sleep(self.seconds)


@dataclass(frozen=True)
class Dying:
    """A task whose process is killed."""

    def run(self) -> Any:
        os._exit(9)


def test_serial_runs_here_in_order() -> None:
    with SerialExecutor() as engine:
        assert [done[:2] for done in engine.run([Saying("a"), Saying("b")])] == [("a", os.getpid()), ("b", os.getpid())]  # type: ignore[index,list-item]


def test_a_pool_runs_elsewhere_with_one_thread_a_process() -> None:
    before = dict(os.environ)
    with LocalExecutor(1) as engine:
        found: list[Any] = list(engine.run([Saying("a"), Saying("b")]))  # type: ignore[list-item]
    assert sorted(word for word, _, _ in found) == ["a", "b"]
    assert os.getpid() not in {process for _, process, _ in found}
    assert all(environment == ONE_THREAD for _, _, environment in found)
    assert dict(os.environ) == before


def test_a_worker_that_dies_is_said() -> None:
    with pytest.raises(TaskError, match="a worker process died"), LocalExecutor(1) as engine:
        list(engine.run([Dying()]))  # type: ignore[list-item]


def test_ray_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_ray(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(ValueError, match=r"--engine ray needs: pip install 'stillwatch\[cluster\]'"):
        RayExecutor(1)


@needs_ray
def test_a_cluster_that_loses_a_worker_and_a_node_gives_the_same_output(
    tmp_path: Path, sessions: tuple[Session, ...], bundle_folder: Path
) -> None:
    rows = [
        {"account_id": session.account_id, "session_id": session.session_id, "prompt": exchange.prompt}
        for session in sessions
        for exchange in session.exchanges
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["score", str(source), "--bundle", str(bundle_folder), "--out"]
    assert main([*arguments, str(tmp_path / "local.jsonl")]) == 0
    manifest = tmp_path / "_ray.jsonl.work" / "manifest.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(manifest), *arguments, str(tmp_path / "ray.jsonl"), "--engine", "ray"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lost a worker" in done.stdout
    assert "lost a node" in done.stdout
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()


def test_nothing_of_a_pool_is_left_when_a_job_is_broken_off() -> None:
    def broken_off() -> None:
        with LocalExecutor(2) as engine:
            next(iter(engine.run([Saying("here"), Waiting(60.0), Waiting(60.0)])))
            raise KeyboardInterrupt

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert set(threading.enumerate()) == before
    assert not multiprocessing.active_children()
