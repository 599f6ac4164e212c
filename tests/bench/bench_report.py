"""How long a report takes, and how large it is: `python tests/bench/bench_report.py`.

The golden verdicts again and again under other names, 10,000 and 100,000 of them, as Parquet and as JSON lines; prints
seconds, their ratio, and bytes. A report of 100,000 is to take less than 20 s and to have less than 5 MB.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from serve.analyst.report import Request, write_report
from serve.io.writers import writing
from serve.scoring.verdict import SCHEMA
from serve.scoring.verdict_files import read_table

GOLDEN = Path(__file__).parents[1] / "golden" / "verdicts.jsonl"
SIZES = (10_000, 100_000)


def rows(n: int) -> Iterator[str]:
    """JSON lines of `n` verdicts, five sessions an account."""
    known = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    for index, row in zip(range(n), itertools.cycle(known), strict=False):
        yield json.dumps(row | {"session_id": f"s{index:06d}", "account_id": f"a{index // 5:06d}"}) + "\n"


def main() -> None:
    print(f"{'verdicts':>10} {'file':<9} {'s':>6} {'ratio':>6} {'bytes':>10}")
    with tempfile.TemporaryDirectory() as name:
        first: dict[str, float] = {}
        for n in SIZES:
            jsonl = Path(name) / f"{n}.jsonl"
            with jsonl.open("w", encoding="utf-8") as file:
                file.writelines(rows(n))
            table: pa.Table = read_table(jsonl, SCHEMA)
            with writing(jsonl.with_suffix(".parquet"), SCHEMA) as writer:
                writer.add(table)
            for path in (jsonl.with_suffix(".parquet"), jsonl):
                began_at = time.perf_counter()
                write_report(Request(path, Path(name) / "report.html"))
                seconds = time.perf_counter() - began_at
                ratio = seconds / first.setdefault(path.suffix, seconds)
                size = (Path(name) / "report.html").stat().st_size
                print(f"{n:>10,} {path.suffix:<9} {seconds:>6.2f} {ratio:>6.1f} {size:>10,}")


if __name__ == "__main__":
    main()
