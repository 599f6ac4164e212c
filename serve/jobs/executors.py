"""Executors: who runs the tasks of a job. All give the same results; they differ in where tasks run, and how many."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol, Self

from serve.jobs.checkpoint import Done
from serve.jobs.tasks import Task, TaskError

ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false", "ARROW_IO_THREADS": "1",
}  # fmt: skip
"""Environment of a worker: every core has a process, so no process may take more than one."""


class Executor(Protocol):
    """Runs tasks, each at least once and to the same files, and tells of each when it is done."""

    n_workers: int

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Results in the order in which tasks end; the first fault of a task ends it."""
        ...


class SerialExecutor:
    """This process, one task after another; libraries may use all cores."""

    n_workers = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        return

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """See `Executor.run`."""
        for task in tasks:
            yield task.run()


class LocalExecutor:
    """Processes on this machine, one thread each, that end with this one."""

    def __init__(self, n_workers: int) -> None:
        """Use `n_workers` processes."""
        self.n_workers = n_workers
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_begin_worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for process in multiprocessing.active_children():
                process.kill()
        # Only the first shutdown waits for the thread that feeds the workers; it must be over when the process ends.
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """See `Executor.run`."""
        with _worker_environment():
            waiting: set[Future[Done]] = {self._pool.submit(_run, task) for task in tasks}
        try:
            while waiting:
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        except BrokenProcessPool as fault:
            raise TaskError("a worker process died (killed, or out of memory)") from fault


class RayExecutor:
    """A Ray cluster, or this machine as one; all machines must see the same files under the same names."""

    def __init__(self, n_workers: int) -> None:
        """Join the cluster that `RAY_ADDRESS` names, or begin one here.

        Raises:
            ValueError: when Ray isn't installed, with the command that installs it.
        """
        try:
            import ray
        except ImportError as fault:
            raise ValueError("--engine ray needs: pip install 'stillwatch[cluster]'") from fault
        self._ray = ray
        self._is_mine = not ray.is_initialized()
        if self._is_mine:
            options: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": n_workers}
            ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False, **options)
        self.n_workers = int(ray.cluster_resources().get("CPU", 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_mine:
            self._ray.shutdown()

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """See `Executor.run`; a task whose worker or machine is lost runs again elsewhere."""
        options = {"num_cpus": 1, "max_retries": -1, "runtime_env": {"env_vars": ONE_THREAD}}
        remote = self._ray.remote(**options)(_run_in)
        waiting = [remote.remote(os.getcwd(), task) for task in tasks]
        try:
            while waiting:
                ended, waiting = self._ray.wait(waiting, num_returns=1)
                yield self._ray.get(ended[0])
        except self._ray.exceptions.RayTaskError as fault:
            raise fault.cause from fault
        except self._ray.exceptions.RayError as fault:
            raise TaskError(f"Ray: {type(fault).__name__}") from fault


def _run(task: Task) -> Done:
    return task.run()


def _run_in(folder: str, task: Task) -> Done:
    os.chdir(folder)
    return task.run()


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Processes that begin inside have one thread each, and leave Ctrl-C to this process."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


EXECUTORS: dict[str, type[LocalExecutor] | type[RayExecutor]] = {"local": LocalExecutor, "ray": RayExecutor}
