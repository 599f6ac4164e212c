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
    out = str(tmp_path / "ray.jsonl")
    given = ["worker+node", "3", out, *arguments, out, "--engine", "ray"]
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "bench" / "lossy_cluster.py", *given], cwd=ROOT, capture_output=True,
        text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lost worker" in done.stdout
    assert "lost node" in done.stdout
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
