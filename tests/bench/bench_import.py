"""What importing costs: OpenAI requests with their history, beside plain rows of the same prompts.

    python tests/bench/bench_import.py [--requests 1000000] [--history 12]

Threads of one account each, every request repeating its thread. Prints requests and prompts a second, seconds of the
processor, and the most memory of the process that imported; `--columns` rows of the same prompts are read beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.cli import main as stillwatch  # noqa: E402

WORDS = "sort list explain each step proof and write tests for every function in this module of mine".split()  # noqa: SIM905


def prompt(thread: int, turn: int) -> str:
    """A prompt of some 30 words, unlike any other."""
    return " ".join(WORDS[(thread * 7 + turn * 3 + place) % len(WORDS)] for place in range(30)) + f" {thread}.{turn}"


def write(folder: Path, n_requests: int, n_history: int) -> int:
    """Requests and rows of the same prompts; how many prompts there are. n turns repeat n - 1 on average."""
    n_turns, n_written = n_history, 0
    with (folder / "requests.jsonl").open("w") as requests, (folder / "rows.jsonl").open("w") as rows:
        for thread in range(-(-n_requests // n_turns)):
            messages: list[dict[str, str]] = []
            for turn in range(n_turns):
                text, at = prompt(thread, turn), 1_767_225_600 + thread + 60 * turn
                messages.append({"role": "user", "content": text})
                body = {"model": "m", "user": f"u{thread % 5000}", "messages": messages}
                requests.write(json.dumps({"created": at, "path": "/v1/chat/completions", "body": body}) + "\n")
                rows.write(json.dumps({"account_id": f"u{thread % 5000}", "at": at, "prompt": text}) + "\n")
                messages.append({"role": "assistant", "content": "Here is a short answer. " * 5})
                n_written += 1
    return n_written


def run(source: str, out: str) -> None:
    """Import in this process, and print what it took."""
    began, used = time.monotonic(), time.process_time()
    code = stillwatch(["import", source, "--out", out])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([code, time.monotonic() - began, time.process_time() - used, peak]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests (default: 1,000,000)")
    parser.add_argument("--history", type=int, default=12, help="messages of history on average (default: 12)")
    parser.add_argument("--run", nargs=2, metavar=("IN", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(*options.run)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_prompts = write(folder, options.requests, options.history)
        print(f"{n_prompts:,} prompts\n{'':10} {'MiB':>7} {'s':>6} {'CPU s':>6} {'prompts/s':>10} {'peak MiB':>9}")
        for kind in ("requests", "rows"):
            source, out = folder / f"{kind}.jsonl", folder / f"{kind}.parquet"
            command = [sys.executable, __file__, "--run", str(source), str(out)]
            said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
            code, seconds, used, peak = json.loads(said[-1])
            size = source.stat().st_size / 2**20
            print(f"{kind:10} {size:>7.0f} {seconds:>6.1f} {used:>6.1f} {n_prompts / used:>10,.0f} {peak:>9.0f}")
            print(f"  {said[0]}" + (f" (exit code {code})" if code else ""))


if __name__ == "__main__":
    main()
