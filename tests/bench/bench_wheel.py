"""From an empty virtual environment to verdicts: what installing the wheel and a first `stillwatch score` cost.

    python tests/bench/bench_wheel.py

Builds the wheel of the last commit twice and compares the bytes, installs it with the versions of constraints.txt, and
judges a log of OpenAI requests in an empty folder. Prints seconds and MiB; exits with 1 where something is not as it
should be. The cache of pip is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
N_ACCOUNTS, N_TURNS = 20, 25


def wheel(folder: Path) -> Path:
    """The wheel that `make wheel` builds in this folder."""
    subprocess.run(["make", "--silent", "wheel", f"DIST={folder}"], cwd=ROOT, check=True)
    (found,) = folder.glob("*.whl")
    return found


def requests() -> Iterator[dict[str, object]]:
    """Requests of several accounts, each repeating its history."""
    for account in range(N_ACCOUNTS):
        messages: list[dict[str, str]] = []
        for turn in range(N_TURNS):
            text = f"Write function {account}.{turn} that sorts a list, and explain every step of your reasoning."
            messages.append({"role": "user", "content": text})
            at = 1_767_225_600 + 3600 * account + 60 * turn
            body = {"model": "m", "user": f"u{account}", "messages": messages}
            yield {"created": at, "path": "/v1/chat/completions", "body": body}
            messages.append({"role": "assistant", "content": "Here it is."})


def size_mib(folder: Path) -> float:
    """What the files of a folder hold."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _cpu_seconds() -> float:
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime


def timed(name: str, command: list[str | Path], folder: Path) -> str:
    """Run a command in a folder, without this project's environment; print its seconds, return what it said."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    began, used = time.monotonic(), _cpu_seconds()
    done = subprocess.run(command, check=False, cwd=folder, env=own, capture_output=True, text=True)
    print(f"{name:34} {time.monotonic() - began:7.1f} s ({_cpu_seconds() - used:.1f} s of the processor)", flush=True)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels = [wheel(folder / "first"), wheel(folder / "second")]
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels]
        if digests[0] != digests[1]:
            sys.exit("two builds of one commit are unlike")
        print(f"{wheels[0].name}  {wheels[0].stat().st_size / 2**20:.1f} MiB, twice sha256 {digests[0][:16]}")

        environment, work = folder / "empty", folder / "work"
        work.mkdir()
        (work / "log.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests()))
        timed("make the environment", [sys.executable, "-m", "venv", environment], work)
        before = size_mib(environment)
        pip = [environment / "bin/python", "-m", "pip", "install", "--quiet", "--no-cache-dir"]
        timed("pip install", [*pip, "--constraint", ROOT / "constraints.txt", wheels[0]], work)
        print(f"{'installed':34} {size_mib(environment) - before:7.0f} MiB")
        score = [environment / "bin/stillwatch", "score", "log.jsonl", "--out", "verdicts.jsonl", "--quiet"]
        said = timed("stillwatch score, the first time", score, work)
        timed("stillwatch score, once more", score, work)
        print(said)
        verdicts = [json.loads(line) for line in (work / "verdicts.jsonl").read_text().splitlines()]
        if sum(verdict["n_exchanges"] for verdict in verdicts) != N_ACCOUNTS * N_TURNS:
            sys.exit("verdicts do not hold every prompt")


if __name__ == "__main__":
    main()
