"""Failures of the service and of batches, each with a canary as its prompt: `bench_canaries.py [WORDS OF A KIND]`.

Processes run in Python's development mode (debug messages of asyncio, dumps of faults), may leave cores of any size,
and have a folder of their own for state, temporary files and cores. After each failure the canary is looked for in
answers, outputs, logs, metrics and every file of that folder but the input and the spill of a batch, which only its
owner can read. Exits with 1 where it is found.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
CANARY = "zqcanaryqz"
GOOD = json.dumps(
    {"account_id": "a", "exchanges": [{"prompt": f"{CANARY} sort a list {n}"} for n in range(6)]}
).encode()
EXTEND, SCORE = "/v1/sessions/s/exchanges", "/v1/score"
JSON, ZIPPED = "content-type: application/json\r\n", "content-type: application/json\r\ncontent-encoding: gzip\r\n"
PROTOBUF = "content-type: application/x-protobuf\r\n"


def body(prompt: object = CANARY, **more: object) -> bytes:
    return json.dumps({"account_id": "a", "exchanges": [{"prompt": prompt} | more]}).encode()


REQUESTS: dict[str, tuple[str, bytes, str]] = {
    "not JSON": (EXTEND, GOOD[:-5], JSON),
    "prompt of another type": (EXTEND, body({CANARY: CANARY}), JSON),
    "time that is none": (EXTEND, body(at=CANARY), JSON),
    "key twice": (EXTEND, body().replace(b'": "zq', b'": 1, "prompt": "zq'), JSON),
    "half a surrogate": (EXTEND, body().replace(b'qz"', b'qz\\ud800"'), JSON),
    "NUL": (EXTEND, body(f"{CANARY}\0"), JSON),
    "deep": (EXTEND, b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"," + body()[1:], JSON),
    "too many values": (SCORE, b'["' + CANARY.encode() + b'"' + b",1" * 300_000 + b"]", JSON),
    "too many bytes": (SCORE, b'["' + CANARY.encode() * 900_000 + b'"]', JSON),
    "body not UTF-8": (EXTEND, body().replace(b'qz"', b'qz\xff"'), JSON),
    "cut gzip": (EXTEND, gzip.compress(GOOD)[:-9], ZIPPED),
    "no gzip": (EXTEND, GOOD, ZIPPED),
    "other content type": (EXTEND, GOOD, "content-type: text/plain\r\n"),
    "path not UTF-8": (f"/v1/sessions/{CANARY}%ff/exchanges", GOOD, JSON),
    "nothing there": (f"/{CANARY}?{CANARY}", GOOD, JSON),
    "other host": (EXTEND, GOOD, JSON + f"host: {CANARY}.example\r\n"),
    "name of a request that is none": (EXTEND, GOOD, JSON + f"idempotency-key: {CANARY} {CANARY}\r\n"),
    "name of a request twice": (EXTEND, body(f"{CANARY} other"), JSON + "idempotency-key: n\r\n"),
    "odd head": (EXTEND, GOOD, JSON + f"{CANARY}\r\n"),
    "broken trace": ("/v1/traces", b"\x0a" + CANARY.encode(), PROTOBUF),
    "broken gateway log": ("/v1/litellm/logs", body()[:-4], JSON),
    "broken guardrail": ("/beta/litellm_basic_guardrail_api", json.dumps({"texts": {CANARY: CANARY}}).encode(), JSON),
}  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    for name in ("state", "cache", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    own = {"XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache", "TMPDIR": "tmp"}
    debug = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "default", "PYTHONPATH": str(ROOT)}
    return os.environ | debug | {name: str(folder / where) for name, where in own.items()}


def limits(n_bytes: int | None, n_file_bytes: int | None) -> None:
    """Cores of any size; where given, memory and files that end soon."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    for kind, most in ((resource.RLIMIT_AS, n_bytes), (resource.RLIMIT_FSIZE, n_file_bytes)):
        if most is not None:
            resource.setrlimit(kind, (most, most))


@contextlib.contextmanager
def service(folder: Path, **more: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A service, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "serve.cli", "serve", "--port", str(port)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder) | more, stdout=log, stderr=log,
            preexec_fn=lambda: limits(None, None),  # noqa: PLW1509 (no thread runs here)
        )  # fmt: skip
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError):
                if b" 200 " in sent(port, "/healthz", b"", "", "GET"):
                    break
            time.sleep(0.1)
        yield port, process
    finally:
        process.terminate()
        process.wait(60)


def sent(port: int, path: str, content: bytes, headers: str, method: str = "POST", keep: int = 0) -> bytes:
    """The answer to a request; where `keep` bytes of it are kept back, none is waited for."""
    host = "" if "host:" in headers else "host: localhost\r\n"
    head = f"{method} {path} HTTP/1.1\r\n{host}{headers}connection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    data, found = head.encode() + content, b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as own, contextlib.suppress(OSError):
        own.sendall(data[: len(data) - keep])
        while not keep and (part := own.recv(1 << 16)):
            found += part
    return found


def places(folder: Path) -> list[str]:
    """Files that hold the canary, and cores."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file() or path.name.startswith("in."):
            continue
        is_spill = any(own.name.endswith(".work") and not own.stat().st_mode & 0o077 for own in path.parents)
        if path.name.startswith("core") or (CANARY.encode() in path.read_bytes() and not is_spill):
            found.append(path.name)
    return found


def ended(number: int) -> Callable[[Path], str]:
    """A service that a signal ends while one request is judged and another arrives."""

    def run(folder: Path) -> str:
        with service(folder) as (port, process):
            sent(port, EXTEND, GOOD, JSON)
            sent(port, EXTEND, GOOD, JSON, keep=9)
            many = json.dumps({"account_id": "a", "exchanges": [{"prompt": f"{CANARY} {n}"} for n in range(9_000)]})
            with socket.create_connection(("127.0.0.1", port)) as own:
                head = f"POST {EXTEND} HTTP/1.1\r\nhost: localhost\r\n{JSON}content-length: {len(many)}\r\n\r\n"
                own.sendall(head.encode() + many.encode())
                time.sleep(0.3)
                process.send_signal(number)
                return f"exit code {process.wait(60)}"

    return run


def batch(
    n_bytes: int | None = None, n_file_bytes: int | None = None, number: int | None = None
) -> Callable[[Path], str]:
    """A batch that lacks memory or disk, or that a signal ends."""

    def run(folder: Path) -> str:
        row = json.dumps({"account_id": "a", "prompt": f"{CANARY} sort a list"}) + "\n"
        (folder / "in.jsonl").write_text(row * 60_000 + '{"prompt": "' + CANARY)
        command = [sys.executable, "-m", "serve.cli", "score", "in.jsonl", "--out", "out.jsonl", "--workers", "1"]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=environment(folder), stdout=log, stderr=log,
                preexec_fn=lambda: limits(n_bytes, n_file_bytes),  # noqa: PLW1509 (no thread runs here)
            )  # fmt: skip
        if number is not None:
            while process.poll() is None and not list(folder.glob("_out.jsonl.work/spill*")):
                time.sleep(0.005)
            process.send_signal(number)
        return f"exit code {process.wait(300)}"

    return run


def without_redis(folder: Path) -> str:
    own = {"STILLWATCH_REDIS_URL": "redis://127.0.0.1:1/0", "STILLWATCH_SECRET": "x" * 32}
    with service(folder, **own) as (port, _):
        return shown(folder, sent(port, EXTEND, GOOD, JSON))


def receivers_gone(folder: Path) -> str:
    """What is flagged can be sent nowhere."""
    own = {"STILLWATCH_ALERTS": f"http://127.0.0.1:1/{CANARY}"}
    with service(folder, **own) as (port, _):
        return shown(folder, sent(port, EXTEND, GOOD, JSON))


def shown(folder: Path, answer: bytes) -> str:
    """The status; the answer is kept, to be looked at."""
    with (folder / "answers").open("ab") as file:
        file.write(answer)
    return (answer.split(b" ", 2)[1:2] or [b"no answer"])[0].decode()


PROCESSES: dict[str, Callable[[Path], str]] = {
    **{f"service: {signal.Signals(own).name}": ended(own) for own in (6, 11, 7, 9, 15, 2)},
    "service: no Redis": without_redis,
    "service: receivers are gone": receivers_gone,
    **{f"batch: {signal.Signals(own).name}": batch(number=own) for own in (6, 11, 9, 15, 2)},
    "batch: disk full": batch(n_file_bytes=40_000),
    "batch: out of memory": batch(n_bytes=700 << 20),
}


def requests(folder: Path) -> Iterator[tuple[str, str]]:
    """Each request, and what became of it."""
    with service(folder) as (port, _):
        sent(port, EXTEND, GOOD, JSON + "idempotency-key: n\r\n")
        for kind, (path, content, headers) in REQUESTS.items():
            yield kind, shown(folder, sent(port, path, content, headers))
        sent(port, EXTEND, GOOD, JSON, keep=9)
        yield "client leaves", "no answer"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as own:
            head = f"POST {EXTEND} HTTP/1.1\r\nhost: localhost\r\n{JSON}content-length: {len(GOOD)}\r\n\r\n"
            own.sendall(head.encode() + GOOD[:-9])
            yield "body that stalls", shown(folder, own.recv(1 << 16))
        yield "metrics after all", shown(folder, sent(port, "/metrics", b"", "", "GET"))


def main() -> int:
    n_kinds, n_leaks, only = 0, 0, " ".join(sys.argv[1:])
    print("| failure | became | canary or core in |\n|---|---|---|")

    def say(kind: str, became: str, folder: Path) -> None:
        nonlocal n_kinds, n_leaks
        found = places(folder)
        n_kinds, n_leaks = n_kinds + 1, n_leaks + bool(found)
        print(f"| {kind} | {became} | {', '.join(found) or '-'} |", flush=True)

    with TemporaryDirectory() as name:
        for kind, became in requests(Path(name)) if not only else ():
            say(kind, became, Path(name))
    for kind, run in [item for item in PROCESSES.items() if only in item[0]]:
        with TemporaryDirectory() as name:
            say(kind, run(Path(name)), Path(name))
    print(f"{n_kinds} kinds, {n_leaks} with a canary or a core; load {os.getloadavg()[0]:.1f}")
    return min(n_leaks, 1)


if __name__ == "__main__":
    sys.exit(main())
