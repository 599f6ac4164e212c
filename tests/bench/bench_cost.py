"""What each command costs, beside its peers and as its input grows: `python tests/bench/bench_cost.py [PARTS]`.

Parts: `peer` (all of score over model2vec's own encoding of the same prompts, in turn, each in a process of its own
with one thread), `cold` (starting), `bits` (the same verdicts with libraries held to older instructions) and `growth`
(every command at 1, 4 and 16 times `--rows` exchanges). Times are of the processor, so that what else a machine does
counts less; where processors share their units it still makes all of them longer, so what compares are ratios of a run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bench")]

from bench_batch import ROWS_PER_ACCOUNT, generate  # noqa: E402

ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "ARROW_IO_THREADS": "1",
}  # fmt: skip
PEERS = {
    "model2vec": "from model2vec import StaticModel; e = StaticModel.from_pretrained({static!r}).encode",
    "minilm": "from serve.embedding.encoders import minilm; import torch; torch.set_num_threads(1); e = minilm().embed",
}
ENCODE = """
import pyarrow.parquet as pq, sys, time
{load}
texts = pq.read_table({source!r}, columns=["prompt"]).column("prompt").to_pylist()[:{n}]
e(texts[:32])
start = time.process_time()
e(texts)
print((time.process_time() - start) / len(texts) * 1e6)
"""
NO_AVX2 = {"NPY_DISABLE_CPU_FEATURES": "X86_V3"}
SETTINGS: dict[str, dict[str, str]] = {
    "as it comes": {},
    "one thread": ONE_THREAD,
    "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "OpenBLAS for Sandy Bridge, one thread": {**ONE_THREAD, "OPENBLAS_CORETYPE": "Sandybridge"},
    "OpenBLAS for Prescott (SSE3), one thread": {**ONE_THREAD, "OPENBLAS_CORETYPE": "Prescott"},
    "numpy without AVX2": NO_AVX2,
    "OpenBLAS for Nehalem, numpy without AVX2": {"OPENBLAS_CORETYPE": "Nehalem", **NO_AVX2},
    "another order of hashing": {"PYTHONHASHSEED": "7"},
}  # fmt: skip


@dataclass(frozen=True)
class Used:
    """What a process took: seconds of the processor and of the clock, and the most memory of one process in MiB."""

    cpu: float
    clock: float
    peak: float
    shown: str


def measured(command: Sequence[str], more: Mapping[str, str] | None = None) -> Used:
    """Run a command and wait for it and all that it starts."""
    timed = (
        "import json, resource, subprocess, sys, time; began = time.monotonic();"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, time.monotonic() - began,"
        " used.ru_maxrss / 1024, done.stdout[-2000:], done.stderr[-2000:]]))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", timed, *command], cwd=ROOT, env=environment | dict(more or {}), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    code, cpu, clock, peak, shown, complaint = json.loads(done.stdout)
    if code not in (0, 3):
        raise SystemExit(f"{command}: {code}\n{complaint}")
    return Used(cpu, clock, peak, shown)


def stillwatch(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "serve.cli", *map(str, arguments)]


def traffic(folder: Path, n_rows: int, repeated: float = 0.0, n_each: int = ROWS_PER_ACCOUNT) -> Path:
    source = folder / f"exchanges-{n_rows}-{repeated}"
    source.mkdir()
    generate(source, n_rows, repeated, n_each)
    return source


def peer(folder: Path, options: argparse.Namespace) -> None:
    from serve.bundle.files import RELEASED, STATIC

    n = options.rows
    source = traffic(folder, n)
    files = {"static": str(RELEASED / STATIC)}

    def encoding(name: str, n_texts: int) -> float:
        code = ENCODE.format(load=PEERS[name].format(**files), source=str(source), n=n_texts)
        return float(measured([sys.executable, "-c", code], ONE_THREAD).shown.split()[-1])

    ours, theirs, whole = [], [], []
    for turn in range(options.turns):
        out = folder / f"peer-{turn}.parquet"
        used = measured(stillwatch("score", source, "--out", out, "--workers", 1, "--json", "--quiet"), ONE_THREAD)
        seconds = json.loads(used.shown.splitlines()[-1])["seconds"]
        ours.append({stage: value / n * 1e6 for stage, value in seconds.items()})
        whole.append(used.cpu / n * 1e6)
        theirs.append(encoding("model2vec", n))
    print(f"{n:,} exchanges, all texts different, in turn, {options.turns} times; µs of one core an exchange, medians")
    for stage in ours[0]:
        print(f"  {stage:<8}{median(own[stage] for own in ours):8.1f}")
    encode = median(own["encode"] for own in ours)
    beside = [sum(own.values()) - own["encode"] - own["load"] for own in ours]
    pairs = [own / other for own, other in zip(whole, theirs, strict=True)]
    print(f"all of score, with start {median(whole):8.1f}")
    steady = [sum(own.values()) - own["load"] for own in ours]
    print(f"all stages, without start {median(steady):7.1f}")
    print(f"model2vec's encoding     {median(theirs):8.1f}")
    print(f"score / model2vec        {median(pairs):8.2f}  ({min(pairs):.2f} to {max(pairs):.2f})")
    pairs = [own / other for own, other in zip(steady, theirs, strict=True)]
    print(f"  without start          {median(pairs):8.2f}  ({min(pairs):.2f} to {max(pairs):.2f})")
    print(
        f"beside encoding / encoding {median(beside) / encode:.2f}; encoding / model2vec {encode / median(theirs):.2f}"
    )
    try:
        minilm = encoding("minilm", 128)
    except SystemExit as fault:
        print("MiniLM can't be measured here:", str(fault).splitlines()[-1][:100])
        return
    print(f"MiniLM's encoding        {minilm:8.1f}, with our features over all of ours ", end="")
    print(f"{(minilm + median(beside)) / median(whole):.0f}")


def cold(folder: Path, options: argparse.Namespace) -> None:
    path = folder / "ten.jsonl"
    rows = pq.read_table(next(traffic(folder, 2_000).iterdir())).slice(0, 500).to_pylist()
    with path.open("w") as file:
        for place, row in enumerate(rows):
            own = {"account_id": f"a{place // 50}", "session_id": "s", "at": row["at"], "prompt": row["prompt"]}
            file.write(json.dumps(own) + "\n")
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "import numpy": [sys.executable, "-c", "import numpy"],
        "import serve": [sys.executable, "-c", "import serve"],
        "load()": [sys.executable, "-c", "from serve import load; load()"],
        "stillwatch --help": stillwatch("--help"),
        "score of ten sessions": stillwatch("score", path, "--out", folder / "ten.parquet", "--quiet"),
    }
    print("seconds of the processor (of the clock), the least of", options.turns + 2)
    for name, command in commands.items():
        measured(command)
        runs = [measured(command) for _ in range(options.turns + 2)]
        print(f"  {name:<24}{min(run.cpu for run in runs):6.2f} ({min(run.clock for run in runs):.2f})")


def bits(folder: Path, options: argparse.Namespace) -> None:
    source = traffic(folder, 20_000)
    print("sha256 of the verdicts and accounts of 20,000 exchanges")
    found: dict[str, dict[str, str]] = {}
    for name, setting in SETTINGS.items():
        out, accounts = folder / "bits.parquet", folder / "bits-accounts.parquet"
        for path in (out, accounts):
            path.unlink(missing_ok=True)
        measured(stillwatch("score", source, "--out", out, "--accounts", accounts, "--quiet", "--workers", 1), setting)
        found[name] = {f"{path.stem} {column}": digest for path in (out, accounts) for column, digest in digests(path)}
        whole = hashlib.sha256(json.dumps(found[name]).encode()).hexdigest()[:16]
        first = found["as it comes"]
        others = [column for column, digest in found[name].items() if digest != first[column]]
        print(f"  {whole}  {name}{f': other {chr(44).join(others)}' if others else ''}", flush=True)
    print("the same bits" if all(own == first for own in found.values()) else "NOT THE SAME BITS")


def digests(path: Path) -> list[tuple[str, str]]:
    """A digest of each column's values."""
    table = pq.read_table(path)
    rows = [(name, repr(table.column(name).to_pylist()).encode()) for name in table.column_names]
    return [(name, hashlib.sha256(row).hexdigest()) for name, row in rows]


def growth(folder: Path, options: argparse.Namespace) -> None:
    sizes = [options.rows * factor for factor in (1, 4, 16)]
    print(
        "seconds of the processor, and the most MiB of one process; in brackets what an exchange costs, over the first"
    )
    print(f"{'exchanges':<12}" + "".join(f"{n:>26,}" for n in sizes))
    table: dict[str, list[Used | None]] = {}
    for n in sizes:
        source = traffic(folder, n, 0.3, 50)
        logs = folder / f"logs-{n}.jsonl"
        write_logs(source, logs)
        verdicts, accounts, more = (folder / f"{name}-{n}.parquet" for name in ("verdicts", "accounts", "imported"))
        quiet = ("--quiet",)
        commands = {
            "score": stillwatch("score", source, "--out", verdicts, "--accounts", accounts, *quiet),
            "report": stillwatch("report", verdicts, "--out", folder / f"report-{n}.html"),
            "import": stillwatch("import", logs, "--out", more, *quiet),
            "map": stillwatch("map", source, "--out", folder / f"map-{n}.html"),
            "campaigns": stillwatch("campaigns", source, "--out", folder / f"campaigns-{n}.json", *quiet),
            "adapt": stillwatch("adapt", source, "--out", folder / f"bundle-{n}", *quiet),
        }
        for name in options.commands or commands:
            try:
                table.setdefault(name, []).append(measured(commands[name]))
            except SystemExit as fault:  # too little traffic to adapt to, say
                table[name].append(None)
                print(f"# {name} {n:,}: {str(fault).splitlines()[-1]}", file=sys.stderr, flush=True)
            else:
                print(f"# {name} {n:,}: done", file=sys.stderr, flush=True)
    for name, runs in table.items():
        costs = [None if run is None else run.cpu / n for run, n in zip(runs, sizes, strict=True)]
        first = next((cost for cost in costs if cost is not None), 1.0)
        cells = (
            "refused" if run is None or cost is None else f"{run.cpu:>10.1f} s{run.peak:>6.0f} ({cost / first:.2f})"
            for run, cost in zip(runs, costs, strict=True)
        )
        print(f"{name:<12}" + "".join(f"{cell:>26}" for cell in cells))


def write_logs(source: Path, out: Path) -> None:
    """The same prompts as requests to OpenAI's chat completions, one a line."""
    with out.open("w") as file:
        for path in sorted(source.iterdir()):
            for batch in pq.ParquetFile(path).iter_batches():
                file.writelines(
                    map(_request, *(batch.column(name).to_pylist() for name in ("account_id", "at", "prompt")))
                )


def _request(account_id: str, at: float, prompt: str) -> str:
    body = {"model": "m", "user": account_id, "messages": [{"role": "user", "content": prompt}]}
    return json.dumps({"created": at, "path": "/v1/chat/completions", "body": body}) + "\n"


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "peer": peer, "cold": cold, "bits": bits, "growth": growth,
}  # fmt: skip


def machine() -> str:
    """The processor, its vector instructions, and how busy it is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = {key.strip(): value for key, _, value in (line.partition(":") for line in lines)}
    levels = [level for level in ("avx2", "avx512f", "avx512_vnni") if level in named.get("flags", "").split()]
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    processor = named.get("model name", platform.processor()).strip()
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, pyarrow {pa.__version__}"
    return f"{processor}, {os.cpu_count()} cores, {' '.join(levels)}; load {load}; {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to measure (default: all)")
    parser.add_argument("--rows", type=int, default=50_000, help="exchanges (default: 50,000)")
    parser.add_argument("--turns", type=int, default=3, help="how often each of a pair runs (default: 3)")
    parser.add_argument("--commands", nargs="+", help="only these commands in `growth`")
    parser.add_argument("--dir", type=Path, help="where to write (default: the system's temporary folder)")
    options = parser.parse_args()
    for part in options.parts or PARTS:
        print(f"== {part}: {machine()}", flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-cost-", dir=options.dir) as folder:
            PARTS[part](Path(folder), options)
        print(flush=True)


if __name__ == "__main__":
    main()
