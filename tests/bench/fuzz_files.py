"""Files that are read back, changed at random in ways that know their structure.

    python tests/bench/fuzz_files.py --out work/fuzz [-n 1000] [--kinds whole bundle archive ...] [--seed 0]

Changes are read in another process, started again if it ends. Each must be refused with the error of its kind or judged
to the same bytes as before; any other exception is a failure, and so is the end of the process. Where a change was
sealed again with right digests, it is another file, and another verdict is no failure. The first `N_WHOLE` bundles
(whole) are those of `--bundle`, tried in processes that start for it, which takes two seconds each. The others have 30
trees and 300 rows, and a fork of the process that has begun already tries them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightgbm
import numpy as np
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.batch import job as batch  # noqa: E402
from serve.bundle import bundle, files, trial  # noqa: E402
from serve.campaigns import indicators  # noqa: E402
from serve.campaigns import job as inquiry  # noqa: E402
from serve.io.writers import sealed  # noqa: E402
from serve.jobs.progress import Progress  # noqa: E402
from serve.scoring import trial_verdict  # noqa: E402
from serve.scoring.scorer import Scorer  # noqa: E402
from serve.sessions.records import Exchange, Session  # noqa: E402
from tests.bench.file_changes import SEALED, change_any, change_bundle, seal  # noqa: E402

SESSIONS = [
    Session(f"s{n}", f"a{n}", tuple(Exchange(f"write a test of the function number {i * n}") for i in range(n + 1)))
    for n in (1, 4, 12)
]
N_WHOLE = 50


def smaller(made: Path, folder: Path) -> Path:
    """A copy of a bundle with fewer trees and training rows."""
    shutil.copytree(made, folder)
    lightgbm.Booster(model_file=folder / files.CLASSIFIER).save_model(folder / files.CLASSIFIER, num_iteration=30)
    pq.write_table(pq.read_table(folder / files.FEATURES).slice(0, 300), folder / files.FEATURES)
    seal(folder)
    return folder


def forked(command: tuple[str, ...], **given: Any) -> subprocess.CompletedProcess[bytes]:
    """The trial's process, as a fork of this one."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        code = 1
        with contextlib.suppress(BaseException):
            os.dup2(writer, 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            sys.argv = ["", *command[-2:]]
            trial_verdict.main()
            code = 0
        os._exit(code)
    os.close(writer)
    with open(reader, "rb") as answers:
        answer = answers.read()
    return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answer)


class Bundles:
    """Bundles: tried out in a child, then judging."""

    faults = (files.BundleError,)

    def __init__(self, work: Path, made: Path) -> None:
        self.source = made

    def change(self, folder: Path, rng: random.Random) -> str:
        return change_bundle(folder, rng)

    def judged(self, folder: Path) -> str:
        loaded = bundle.Bundle.load(folder)
        return repr(Scorer(loaded).score_many(SESSIONS)).replace(loaded.bundle_id, "")


class SmallBundles(Bundles):
    """As they are, but small, and tried in a fork."""

    def __init__(self, work: Path, made: Path) -> None:
        super().__init__(work, smaller(made, work / "small"))

    def judged(self, folder: Path) -> str:
        with patch.object(trial.subprocess, "run", forked):
            return super().judged(folder)


class Indicators:
    """Indicator files: read and matched."""

    faults = (ValueError,)

    def __init__(self, work: Path, made: Path) -> None:
        self.source = work / "indicators"
        self.source.mkdir()
        cells = {str(cell): 0.01 for cell in range(50)}
        campaigns = [
            {"campaign_id": f"c{n}", "skeletons": [f"{key:016x}" for key in range(n, n + 9)], "cells": cells}
            for n in range(3)
        ]
        listed = {"format_version": 1, "bundle": "b1", "n_cells": 64, "usual": cells, "campaigns": campaigns}
        (self.source / "indicators.json").write_text(json.dumps(sealed(listed)))

    def change(self, folder: Path, rng: random.Random) -> str:
        return change_any(folder, rng)

    def judged(self, folder: Path) -> str:
        from serve.sessions.records import Sessions

        known = indicators.read(folder / "indicators.json")
        if known.bundle_id == "b1":
            indicators.check_map(known, folder, "b1", 64)
        sessions = Sessions.of(SESSIONS)
        return str(indicators.match(known, sessions, np.arange(len(sessions.prompts)) % 64, "b1").to_pylist())


class Archives:
    """Archives of campaigns: a second run joins them."""

    faults = (ValueError,)

    def __init__(self, work: Path, made: Path) -> None:
        self.bundle, self.work = made, work
        self.source = work / "archive"
        rows = [{"account_id": f"a{n % 9}", "prompt": f"explain point {n} of the plan"} for n in range(60)]
        (work / "days.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (work / "next.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:20]))
        self._run(work / "days.jsonl", self.source)

    def _run(self, source: Path, archive: Path) -> str:
        out = self.work / "campaigns.json"
        wanted = inquiry.CampaignJob(
            (source,), out, self.work / "r.jsonl", members=self.work / "members.jsonl", archive=archive,
            bundle=self.bundle, n_workers=1,
        )  # fmt: skip
        inquiry.run(wanted, Progress(io.StringIO()))
        return out.read_text() + (self.work / "members.jsonl").read_text()

    def change(self, folder: Path, rng: random.Random) -> str:
        return change_any(folder, rng)

    def judged(self, folder: Path) -> str:
        return self._run(self.work / "next.jsonl", folder)


class Checkpoints:
    """Work folders of a job that stopped after reading: `--resume` goes on."""

    faults = (ValueError,)

    def __init__(self, work: Path, made: Path) -> None:
        self.bundle, self.work = made, work
        self.source = work / "_out.jsonl.work"
        rows = [{"account_id": f"a{n % 9}", "prompt": f"explain point {n} of the plan"} for n in range(90)]
        (work / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": 5}]))
        write_all, batch._write_all = batch._write_all, self._full
        try:
            batch.run(self._job(), Progress(io.StringIO()))
        except batch.JobStoppedError:
            pass
        finally:
            batch._write_all = write_all
        self.kept = work / "kept"
        shutil.copytree(self.source, self.kept)

    @staticmethod
    def _full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def _job(self) -> batch.Job:
        out = self.work / "out.jsonl"
        return batch.Job(
            (self.work / "in.jsonl",), out, self.work / "rejects.jsonl", self.work / "accounts.jsonl",
            bundle=self.bundle, n_workers=1, resume=True,
        )  # fmt: skip

    def change(self, folder: Path, rng: random.Random) -> str:
        return change_any(folder, rng)

    def judged(self, folder: Path) -> str:
        shutil.rmtree(self.source, ignore_errors=True)
        shutil.copytree(folder, self.source)
        batch.run(self._job(), Progress(io.StringIO()))
        return "".join((self.work / name).read_text() for name in ("out.jsonl", "rejects.jsonl", "accounts.jsonl"))


KINDS: dict[str, Any] = {
    "whole": Bundles, "bundle": SmallBundles, "indicators": Indicators, "archive": Archives, "checkpoint": Checkpoints,
}  # fmt: skip


FINE = {"refused", "the same", "another file"}


def outcome(subject: Any, folder: Path, whole: str, said: str) -> str:
    """What became of a changed file."""
    try:
        judged = subject.judged(folder)
    except subject.faults as fault:
        return "refused" if 0 < len(str(fault)) < 2_000 else "FAILED: an empty or a long message"
    except BaseException as fault:  # any other is what is looked for
        return f"FAILED: {type(fault).__name__} {str(fault)[:80]}"
    if judged == whole:
        return "the same"
    return "another file" if said.endswith(SEALED) else "FAILED: another verdict"


def fuzz(kind: str, made: Path, out: Path, seeds: range, report: Any) -> None:
    """Change and read, in one process; `report` gets a line each time."""
    work = out / f"{kind}-{seeds.start}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    subject = KINDS[kind](work, made)
    source = getattr(subject, "kept", subject.source)
    first = Path(shutil.copytree(source, work / "first"))
    whole = subject.judged(first)
    for seed in seeds:
        folder = Path(shutil.copytree(source, work / "changed"))
        said = subject.change(folder, random.Random(seed))
        report((kind, seed, said, "begun"))
        report((kind, seed, said, outcome(subject, folder, whole, said)))
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument("--bundle", type=Path, default=files.RELEASED, help="bundle to change and to judge with")
    parser.add_argument("-n", type=int, default=1000, help="changes of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    # One thread, so that a fork lacks none; and what passed its trial is noted for this run alone.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    shutil.rmtree(cache := options.out.resolve() / "cache", ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = str(cache)
    context = multiprocessing.get_context("spawn")
    counts: Counter[tuple[str, str]] = Counter()
    n_whole = min(N_WHOLE, options.n)
    for kind in options.kinds:
        seed, began_at = options.seed + (n_whole if kind == "bundle" else 0), time.perf_counter()
        last = options.seed + (n_whole if kind == "whole" else options.n)
        while seed < last:
            queue: Any = context.SimpleQueue()
            child = context.Process(target=fuzz, args=(kind, options.bundle, options.out, range(seed, last), queue.put))
            child.start()
            line = ("", seed, "", "")
            while child.is_alive() or not queue.empty():
                if queue.empty():
                    child.join(0.05)
                    continue
                line = queue.get()
                if line[3] == "begun":
                    continue
                counts[kind, line[3].split(":")[0]] += 1
                if line[3] not in FINE:
                    print(*line, flush=True)
            seed = line[1] + 1
            if child.exitcode and line[3] == "begun":
                counts[kind, "CRASHED"] += 1
                print(*line[:3], f"CRASHED the process: exit code {child.exitcode}", flush=True)
            elif child.exitcode:
                raise SystemExit(f"{kind}: can't begin")
        n_changes = sum(count for (own, _), count in counts.items() if own == kind)
        print(f"{kind}: {n_changes} changes in {time.perf_counter() - began_at:.0f} s", flush=True)
    for (kind, what), count in sorted(counts.items()):
        print(f"{kind:12}{what:40}{count:6}")
    return int(not {what for _, what in counts} <= FINE)


if __name__ == "__main__":
    sys.exit(main())
