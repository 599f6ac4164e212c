"""A day of growing sessions in one process: `python tests/bench/bench_long_run.py [--sessions 1000000]`.

New sessions of short prompts come evenly over 24 hours of a clock that is moved, two hours being the age at which an
unused one ends. Printed are observations a second, memory, and what the store holds; the exit code is 1 where memory
at the end is more than 5 % above that at half.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve import Exchange, load  # noqa: E402
from serve.live.growing_sessions import LiveSessions  # noqa: E402
from serve.live.process_store import ProcessStore  # noqa: E402

DAY_S, TTL_S, N_ACCOUNTS = 86_400.0, 7_200.0, 24_000
PRINTED = (0.1, 0.25, 0.5, 0.75, 1.0)


def memory_mib() -> int:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) >> 10


def observe_a_day(n_sessions: int, store_mib: int) -> dict[float, int]:
    """Memory in MiB at parts of the day."""
    store = ProcessStore(max_bytes=store_mib << 20, ttl_s=TTL_S)
    live, found, began_at = LiveSessions(load(), store=store), dict[float, int](), time.perf_counter()
    places = {round(n_sessions * share): share for share in PRINTED}
    print(f"{memory_mib()} MiB before")
    print("| of the day | observations/s | memory | sessions held | MiB | evicted | expired |")
    print("|---|---|---|---|---|---|---|")
    now = 0.0
    with patch("time.monotonic", lambda: now):
        for n in range(1, n_sessions + 1):
            now = DAY_S * n / n_sessions
            live.observe(f"a{n % N_ACCOUNTS}", Exchange(f"tell me about the number {n % 977}"), f"s{n}")
            if (share := places.get(n)) is not None:
                counts, found[share] = store.counts, memory_mib()
                print(
                    f"| {share:.0%} | {n / (time.perf_counter() - began_at):.0f} | {found[share]} MiB |"
                    f" {counts.n_sessions:,} | {counts.n_bytes >> 20} | {counts.n_evicted:,} | {counts.n_expired:,} |",
                    flush=True,
                )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--store-mib", type=int, default=256, help="bound of the store")
    options = parser.parse_args()
    found = observe_a_day(options.sessions, options.store_mib)
    return int(found[1.0] > 1.05 * found[0.5])


if __name__ == "__main__":
    sys.exit(main())
