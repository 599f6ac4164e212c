"""Files that are read back, changed at random in ways that know their structure.

    python tests/bench/fuzz_files.py --out work/fuzz [-n 250] [--kinds bundle indicators archive checkpoint] [--seed 0]

Changes are read in another process, started again if it ends. Each must be refused with the error of its kind or judged
to the same bytes as before; any other exception is a failure, and so is the end of the process. Where a change was
sealed again with right digests, it is another file, and another verdict is no failure.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.batch import job as batch  # noqa: E402
from serve.bundle import bundle, files  # noqa: E402
from serve.bundle import manifest as manifests  # noqa: E402
from serve.campaigns import indicators  # noqa: E402
from serve.campaigns import job as inquiry  # noqa: E402
from serve.io.writers import SEAL, sealed  # noqa: E402
from serve.jobs.progress import Progress  # noqa: E402
from serve.scoring.scorer import Scorer  # noqa: E402
from serve.sessions.records import Exchange, Session  # noqa: E402

SESSIONS = [
    Session(f"s{n}", f"a{n}", tuple(Exchange(f"write a test of the function number {i * n}") for i in range(n + 1)))
    for n in (1, 4, 12)
]
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    float("nan"),
    "",
    "\ud800",
    "../x",
    [],
    {},
    [[]],
    "x" * 9999,
)

SEALED = ", sealed again"
Changer = Callable[[Path, random.Random], str]


def flip(path: Path, rng: random.Random) -> str:
    """Bits flipped, bytes cut or doubled."""
    raw = bytearray(path.read_bytes())
    kind = rng.choice(("bit", "cut", "double", "zero")) if raw else "none"
    place = rng.randrange(max(len(raw), 1))
    if kind == "bit":
        raw[place] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del raw[place:]
    elif kind == "double":
        raw[place:place] = raw[: rng.randrange(1, 4096)]
    elif kind == "zero":
        raw[place : place + 8] = bytes(8)
    path.write_bytes(raw)
    return f"{kind} of {path.name} at {place}"


def change_json(path: Path, rng: random.Random) -> str:
    """A value anywhere replaced, dropped, or its key renamed."""
    content = json.loads(path.read_text(encoding="utf-8"))
    node: Any = content
    place: list[str] = []
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return f"nothing of {path.name}"
        key = rng.choice(keys)
        place.append(str(key)[:30])
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.85:
            node = node[key]
            continue
        kind = rng.choice(("odd", "odd", "drop", "shift"))
        if kind == "drop":
            del node[key]
        elif kind == "shift" and isinstance(node[key], int | float):
            node[key] = node[key] * rng.choice((-1, 2, 1000))
        else:
            node[key] = rng.choice(ODD)
        break
    path.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
    return f"{kind} of {path.name}:{'.'.join(place)}"


def change_array(path: Path, rng: random.Random) -> str:
    """An array with odd values, of another shape or kind, renamed or left out."""
    arrays = load_file(path)
    key = rng.choice(sorted(arrays))
    array = arrays.pop(key)
    kind = rng.choice(("value", "flat", "cut", "drop", "rename", "kind", "huge"))
    if kind == "value" and array.size:
        array = array.copy()
        odd = rng.choice((np.nan, np.inf, -1e30, -1, 0, 127)) if array.dtype.kind == "f" else rng.choice((-1, 0, 127))
        array.reshape(-1)[rng.randrange(array.size)] = odd
    elif kind == "flat":
        array = array.reshape(-1)
    elif kind == "cut":
        array = array[: rng.randrange(len(array) + 1)]
    elif kind == "kind":
        array = array.astype(rng.choice((np.int8, np.int64, np.float64)))
    elif kind == "huge" and array.dtype.kind == "f":
        array = array * array.dtype.type(1e4)
    if kind != "drop":
        arrays[f"{key}x" if kind == "rename" else key] = np.ascontiguousarray(array)
    save_file(arrays, path)
    return f"{kind} of {path.name}:{key}"


def change_trees(path: Path, rng: random.Random) -> str:
    """A number or a line of the trees, with sizes put right half of the time."""
    text = path.read_text()
    found = rng.choice(list(re.finditer(r"-?\d[\d.e+-]*", text)))
    other = rng.choice(("nan", "inf", "-1", "0", "1", "7", "1e300", "99999999", "-99999999", ""))
    text = text[: found.start()] + other + text[found.end() :]
    if rng.random() < 0.5 and "end of trees" in text:
        starts = [place.start() for place in re.finditer(r"^Tree=", text, flags=re.M)] + [text.index("end of trees")]
        sizes = " ".join(str(size) for size in np.diff(starts))
        text = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text, count=1, flags=re.M)
    path.write_text(text)
    return f"{found.group()} to {other or 'nothing'} in {path.name}"


def change_bundle(folder: Path, rng: random.Random) -> str:
    """One file changed, and the manifest made to fit most of the time."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(paths)
    if rng.random() < 0.2:
        said = flip(path, rng)
    else:
        change = {".json": change_json, ".safetensors": change_array, ".txt": change_trees}.get(path.suffix, flip)
        said = change(path, rng)
    if path.name != files.MANIFEST:
        manifest = json.loads((folder / files.MANIFEST).read_text(encoding="utf-8"))
        derived = ("format_version", "bundle_id", "files", "manifest_sha256")
        manifests.write_manifest(folder, {key: value for key, value in manifest.items() if key not in derived})
        return said + SEALED
    if rng.random() < 0.8:
        with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError):
            manifest = json.loads(path.read_text(encoding="utf-8"))
            manifest["manifest_sha256"] = manifests.manifest_digest(manifest)
            path.write_text(json.dumps(manifest), encoding="utf-8")
            return said + SEALED
    return said


def change_any(folder: Path, rng: random.Random) -> str:
    """One file of a folder changed, with lines of its own digest put right where there are some."""
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock"))
    if path.suffix != ".json" or rng.random() < 0.2:
        return flip(path, rng)
    said = change_json(path, rng)
    listed = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    if SEAL in listed and rng.random() < 0.6:
        path.write_text(json.dumps(sealed(listed)), encoding="utf-8")
        said += SEALED
    return said


class Bundles:
    """Bundles: tried out in a child, then judging."""

    faults = (files.BundleError,)

    def __init__(self, work: Path, made: Path) -> None:
        self.source = made

    def change(self, folder: Path, rng: random.Random) -> str:
        return change_bundle(folder, rng)

    def judged(self, folder: Path) -> str:
        bundle.examine(folder)
        loaded = bundle.Bundle.load(folder)
        return repr(Scorer(loaded).score_many(SESSIONS)).replace(loaded.bundle_id, "")


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
    "bundle": Bundles, "indicators": Indicators, "archive": Archives, "checkpoint": Checkpoints,
}  # fmt: skip


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument("--bundle", type=Path, default=files.RELEASED, help="bundle to change and to judge with")
    parser.add_argument("-n", type=int, default=250, help="changes of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    counts: Counter[tuple[str, str]] = Counter()
    last = options.seed + options.n
    for kind in options.kinds:
        seed = options.seed
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
                if line[3] not in ("refused", "the same", "another file"):
                    print(*line, flush=True)
            seed = line[1] + 1
            if child.exitcode and line[3] == "begun":
                counts[kind, "CRASHED"] += 1
                print(*line[:3], f"CRASHED the process: exit code {child.exitcode}", flush=True)
            elif child.exitcode:
                raise SystemExit(f"{kind}: can't begin")
    for (kind, what), count in sorted(counts.items()):
        print(f"{kind:12}{what:40}{count:6}")


if __name__ == "__main__":
    main()
