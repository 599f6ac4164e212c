"""How long a batch job takes, and on what: `python tests/bench/bench_batch.py --millions 1`.

Writes N exchanges of made-up traffic (texts of the corpora, cut to lengths that are theirs, scaled to a mean of 140
characters; every text unique; 24,000 accounts of uneven size for N of 16 million, in proportion below; 1 % of them
send texts of the harvesting corpora), scores them in a process of its own, and prints time by stage, memory and bytes.
Stages are in processor time, so that what else a machine does is not counted. `--minilm` also encodes some of the
prompts with MiniLM, and with model2vec as it comes; `--plot` draws cost against N.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
CORPORA = ROOT.parent / "shared" / "corpora"
MEAN_CHARS = 140
ROWS_PER_ACCOUNT = 16_000_000 // 24_000
ROWS_PER_SESSION = 25
ROWS_PER_FILE = 500_000
MONTH = 30 * 86_400.0
NEIGHBOURHOOD = 1_000
CAMPAIGN_SHARE = 0.01
DISK_BYTES = 400
"""Bytes of disk that an exchange takes at most, from its file to its verdict."""


@dataclass(frozen=True)
class Stream:
    """Texts of corpora as one run of ASCII words.

    `starts` are where texts begin, the first `n_organic` of them organic; `lengths` are those to draw from.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    n_organic: int

    @classmethod
    def read(cls, folder: Path) -> Stream:
        """Texts of all corpora, organic ones first."""
        if not (folder / "CARDS.json").exists():
            raise SystemExit(f"{folder} holds no corpora")
        cards = json.loads((folder / "CARDS.json").read_text())
        organic = [text for card in cards if card["label"] == "organic" for text in plain_texts(folder, card["name"])]
        harvest = [
            text for card in cards if card["label"] == "harvesting" for text in plain_texts(folder, card["name"])
        ]
        texts = organic + harvest
        lengths = np.array([len(text) for text in texts])
        starts = np.cumsum(lengths + 1) - lengths - 1
        data = np.frombuffer((" ".join(texts) + " " * 2001).encode(), dtype=np.uint8)
        scaled = np.clip(lengths * (MEAN_CHARS / lengths.mean()), 8, 2000)
        scaled = np.clip(scaled * (MEAN_CHARS / scaled.mean()), 8, 2000)
        return cls(data, starts, scaled.astype(np.int64), len(organic))

    def texts(self, chosen: NDArray[np.int64], lengths: NDArray[np.int64], first: int) -> pa.Array:
        """What begins where the chosen texts do, each with a number of its own at the end."""
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.arange(offsets[-1]) + np.repeat(self.starts[chosen] - offsets[:-1], lengths)
        runs = pa.LargeStringArray.from_buffers(
            len(lengths), pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(self.data[positions])
        )
        numbers = pa.array(np.arange(first, first + len(lengths))).cast(pa.large_string())
        return pc.binary_join_element_wise(runs, numbers, pa.scalar(" ", pa.large_string()))


def plain_texts(folder: Path, name: str) -> list[str]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = (json.loads(line)["text"][:2000].encode("ascii", "ignore").decode() for line in file)
        return [" ".join(text.split()) for text in texts if text.strip()]


def generate(folder: Path, n_rows: int, repeated: float = 0.0, n_each: int = ROWS_PER_ACCOUNT) -> None:
    """Write Parquet files of traffic in no order: each account sends texts from one neighbourhood of the corpora,
    `n_each` on average. A share `repeated` of the prompts were sent before, by anybody."""
    rng = np.random.default_rng(0)
    stream = Stream.read(CORPORA)
    n_texts = len(stream.starts)
    n_accounts = max(10, n_rows // n_each)
    weights = rng.lognormal(0.0, 1.0, n_accounts)
    edges = np.cumsum(weights / weights.sum())
    organic = rng.integers(0, stream.n_organic - NEIGHBOURHOOD, n_accounts)
    harvest = rng.integers(stream.n_organic, n_texts - NEIGHBOURHOOD, n_accounts)
    homes = np.where(rng.random(n_accounts) < CAMPAIGN_SHARE, harvest, organic)
    for number, first in enumerate(range(0, n_rows, ROWS_PER_FILE)):
        n = min(ROWS_PER_FILE, n_rows - first)
        account = np.minimum(np.searchsorted(edges, rng.random(n)), n_accounts - 1)
        n_sessions = np.maximum(1, (weights[account] / weights.mean() * n_each / ROWS_PER_SESSION).astype(np.int64))
        session = (rng.random(n) * n_sessions).astype(np.int64)
        mixed = (account * 1_000_003 + session).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        at = 1_770_000_000.0 + mixed.astype(np.float64) / 2.0**64 * MONTH + rng.random(n) * 2400.0
        chosen = homes[account] + (session * 37 + rng.integers(0, 200, n)) % NEIGHBOURHOOD
        prompts = stream.texts(chosen, rng.choice(stream.lengths, n), first)
        if repeated:
            again = rng.random(n) < repeated
            prompts = prompts.take(pa.array(np.where(again, rng.integers(0, n, n), np.arange(n))))
        names = pa.array(np.char.add("acct-", account.astype(str)))
        table = pa.table({"account_id": names, "at": at, "prompt": prompts})
        pq.write_table(table, folder / f"exchanges-{number:03}.parquet", compression="zstd", row_group_size=100_000)


def peaks_of_tree(process: subprocess.Popen[str], folder: Path) -> tuple[int, int]:
    """Highest memory of a process and those below it (shared pages counted once), and most bytes of files in `folder`,
    until it ends."""
    memory, disk = 0, 0
    while process.poll() is None:
        memory = max(memory, sum(map(proportional_bytes, below(process.pid))))
        disk = max(disk, file_bytes(folder))
        time.sleep(0.5)
    return memory, disk


def file_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # deleted meanwhile
            continue
    return total


def below(root: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [root]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def proportional_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def run_job(source: Path, out: Path, more: list[str]) -> dict[str, Any]:
    """Score a folder in a process of its own; its summary and the peak of its memory."""
    command = [sys.executable, str(Path(__file__)), "--job", str(source), str(out), *more]
    before = cpu_seconds()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peaks: list[int] = []
    watcher = threading.Thread(target=lambda: peaks.extend(peaks_of_tree(process, out.parent)))
    watcher.start()
    shown, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    memory, disk = peaks
    return {**json.loads(shown), "peak_bytes": memory, "disk_bytes": disk, "cpu_seconds": cpu_seconds() - before}


def cpu_seconds() -> float:
    """Processor time of all processes that ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def job(source: str, out: str, engine: str, bundle: str | None) -> None:
    """Do a job and print its summary as JSON."""
    from serve.batch.job import Job, run
    from serve.bundle.files import RELEASED
    from serve.jobs.progress import Progress

    target = Path(out)
    described = Job(
        (Path(source),), target, target.with_suffix(".rejects.jsonl"), target.with_name("accounts.parquet"),
        bundle=Path(bundle) if bundle else RELEASED, engine=engine,
    )  # fmt: skip
    print(json.dumps(dataclasses.asdict(run(described, Progress(sys.stderr)))))


def seconds_a_prompt(source: Path, n_minilm: int = 256, n_model2vec: int = 20_000) -> dict[str, float]:
    """Processor time that other encoders take for a prompt of this traffic, on one core."""
    import torch
    from model2vec import StaticModel

    from serve.bundle.files import RELEASED, STATIC
    from serve.embedding.encoders import minilm

    group = pq.ParquetFile(next(source.iterdir())).read_row_group(0, columns=["prompt"])
    texts = group.column("prompt").to_pylist()[:n_model2vec]
    encoders = {
        "minilm": (minilm().embed, texts[: n_minilm + 32]),
        "model2vec": (StaticModel.from_pretrained(str(RELEASED / STATIC)).encode, texts),
    }
    torch.set_num_threads(1)  # threads that wait for others would count as work
    found = {}
    for name, (encode, own) in encoders.items():
        encode(own[:32])
        start = time.process_time()
        encode(own[32:])
        found[name] = (time.process_time() - start) / (len(own) - 32)
    return found


def measure(n_rows: int, options: argparse.Namespace) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="bench-batch-", dir=options.dir))
    try:
        if (free := shutil.disk_usage(folder).free) < n_rows * DISK_BYTES:
            raise SystemExit(f"{folder} has {free / 2**30:.0f} GiB free, expected {n_rows * DISK_BYTES / 2**30:.0f}")
        source = folder / "exchanges"
        source.mkdir()
        start = time.perf_counter()
        generate(source, n_rows, options.repeated)
        size = sum(path.stat().st_size for path in source.iterdir())
        print(f"generated {n_rows:,} exchanges, {size:,} bytes, in {time.perf_counter() - start:.0f} s", flush=True)
        more = ["--engine", options.engine, *(["--bundle", str(options.bundle)] if options.bundle else [])]
        found = run_job(source, folder / "verdicts.parquet", more) | {"input_bytes": size}
        if options.minilm:
            found["others"] = seconds_a_prompt(source)
        return found
    finally:
        shutil.rmtree(folder)


def report(found: dict[str, Any]) -> None:
    n, seconds = found["n_exchanges"], found["seconds"]
    beside = sum(value for stage, value in seconds.items() if stage not in ("encode", "load"))
    work = beside + seconds["encode"]
    print(f"{n:,} exchanges, {found['n_sessions']:,} sessions ({found['n_flagged']:,} flagged), ", end="")
    print(f"{found['n_accounts']:,} accounts, {found['n_processes']} processes")
    print(f"clock {found['clock_seconds']:.1f} s, {n / found['clock_seconds']:,.0f} exchanges/s")
    print(
        f"processor time of all processes {found['cpu_seconds']:.1f} s, {found['cpu_seconds'] / n * 1e6:.1f} µs",
        end=" ",
    )
    print(f"an exchange: {n / found['cpu_seconds'] * 2:,.0f} exchanges/s on two cores that do nothing else")
    for stage, value in seconds.items():
        print(f"  {stage:<8}{value:10.1f} s of work {value / n * 1e6:8.1f} µs an exchange")
    print(f"beside encoding / encoding {beside / seconds['encode']:.2f}")
    print(f"peak memory of all processes {found['peak_bytes'] / 2**30:.2f} GiB, ", end="")
    print(f"files at most {found['disk_bytes'] / 2**30:.2f} GiB, {found['disk_bytes'] / n:.0f} bytes an exchange")
    print(f"bytes read {found['input_bytes']:,}, written {sum(found['written'].values()):,}")
    for name, own in found.get("others", {}).items():
        print(
            f"{name} takes {own * 1e6:,.1f} µs a prompt: beside our encoding / {name} {beside / n / own:.3f}, ", end=""
        )
        print(f"{name} with our features / all of ours {(own + beside / n) * n / work:.1f}", flush=True)


def compare(runs: list[dict[str, Any]]) -> None:
    """One line a size: what an exchange costs, and that over the first size."""
    first = runs[0]["cpu_seconds"] / runs[0]["n_exchanges"]
    print(f"{'exchanges':>12}{'µs each':>10}{'of first':>10}{'clock s':>10}{'GiB':>8}{'disk GiB':>10}")
    for found in runs:
        each = found["cpu_seconds"] / found["n_exchanges"]
        print(
            f"{found['n_exchanges']:>12,}{each * 1e6:>10.1f}{each / first:>10.2f}{found['clock_seconds']:>10.0f}"
            f"{found['peak_bytes'] / 2**30:>8.2f}{found['disk_bytes'] / 2**30:>10.2f}"
        )


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    millions = [found["n_exchanges"] / 1e6 for found in runs]
    minutes = [sum(found["seconds"].values()) / 60 for found in runs]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.loglog(millions, minutes, "o-", label="stillwatch score")
    axes.loglog(millions, [minutes[-1] / millions[-1] * n for n in millions], ":", label="linear")
    axes.set(xlabel="million exchanges", ylabel="minutes of processor time", title="Batch scoring, all stages")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1.0])
    parser.add_argument(
        "--repeated", type=float, default=0.0, help="share of prompts that were sent before (default: 0)"
    )
    parser.add_argument("--engine", default="local")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--dir", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--minilm", action="store_true")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--job", nargs=2, metavar=("SOURCE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job(*options.job, options.engine, options.bundle)
        return
    runs = []
    for millions in options.millions:
        runs.append(measure(int(millions * 1e6), options))
        report(runs[-1])
    compare(runs)
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1))
    if options.plot:
        plot(runs, options.plot)


if __name__ == "__main__":
    main()
