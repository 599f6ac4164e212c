"""Logs of every format, changed at random and imported: `python tests/bench/fuzz_logs.py [-n 2000] [--seed 0]`.

Each case of `../shared/formats` is changed `-n` times (fields missing, null or of another type, lines cut, doubled or
broken) and imported as what it looks like, then as any format. A traceback is a failure, printed with its seed.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def cases() -> Any:
    """The tests of the cases, which change files."""
    path = ROOT / "tests" / "serve" / "io" / "formats" / "test_expected.py"
    spec = importlib.util.spec_from_file_location("cases", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=2000, help="changes of each case (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=1e9, help="time for each case (default: no bound)")
    options = parser.parse_args()
    tried, n_failed = cases(), 0
    print(f"{'case':32} {'changed':>8} {'failed':>7} {'s':>6}")
    for path in [path for path in tried.FILES if path.suffix != ".parquet"]:
        began, n_tried, n_own = time.monotonic(), 0, 0
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(options.seed, options.seed + options.n):
                if time.monotonic() - began > options.seconds:
                    break
                n_tried += 1
                try:
                    tried.fuzz(path, Path(folder), [seed])
                except Exception:
                    n_own += 1
                    place = traceback.format_exc().strip().splitlines()[-3:]
                    print(f"{path.name} --seed {seed} -n 1: {' | '.join(map(str.strip, place))[:200]}", flush=True)
        n_failed += n_own
        print(f"{path.name:32} {n_tried:>8} {n_own:>7} {time.monotonic() - began:>6.0f}", flush=True)
    sys.exit(bool(n_failed))


if __name__ == "__main__":
    main()
