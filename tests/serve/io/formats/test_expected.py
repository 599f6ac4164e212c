"""The cases of ../shared/formats: what every file holds, by its own checker; skipped where they are not there."""

from __future__ import annotations

import importlib.util
import io
import json
import random
from pathlib import Path

import pytest

from serve.io.formats import FORMATS
from serve.io.importing import SCHEMA, Choice, Import, format_of
from serve.io.log_files.files import Log
from serve.io.log_files.opening import LogError
from serve.io.writers import writing

CASES = Path(__file__).parents[4] / ".." / "shared" / "formats"
N_MUTATIONS = 4
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/formats is not there")

FILES = sorted(path for path in CASES.glob("*.*") if path.name not in ("README.md", "EXPECTED.json", "check.py"))
NAMES = {"parts_column": "columns", "messages_column": "columns", "sharegpt_lines": "sharegpt"}


class Nowhere:
    """A writer for rows that nobody looks at."""

    def add(self, table):
        """See `Writer.add`."""


def imported(path, writer, form=None):
    log = Log(path)
    chosen = format_of(log, Choice(form))
    if chosen is None:
        return None, None
    job, rejects = Import(chosen, path.parent, path.stat().st_size), io.StringIO()
    job.read(log, rejects)
    job.write(writer)
    return chosen.name, job.reading


@pytest.fixture(scope="module")
def checker():
    spec = importlib.util.spec_from_file_location("check", CASES / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_case_is_recognised_and_right(tmp_path, path, checker):
    case = json.loads((CASES / "EXPECTED.json").read_text(encoding="utf-8"))[path.stem]
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with writing(tmp_path / "out.jsonl", SCHEMA) as writer:
        name, reading = imported(copy, writer)
    assert name == NAMES.get(path.stem, path.stem)
    assert checker.compare(case, checker.read(tmp_path / "out.jsonl")) is None
    assert reading.rejected.total() == case["rejected"]


def mutated(value, luck):
    """The value with one thing missing, null, of another type, or in another's place."""
    if isinstance(value, dict) and value and luck.random() < 0.8:
        name = luck.choice(list(value))
        if luck.random() < 0.3:
            return {other: inner for other, inner in value.items() if other != name}
        return value | {name: mutated(value[name], luck)}
    if isinstance(value, list) and value and luck.random() < 0.8:
        place = luck.randrange(len(value))
        return [*value[:place], mutated(value[place], luck), *value[place + 1 :]]
    if isinstance(value, str) and value[:1] in ("{", "[") and luck.random() < 0.7:
        return json.dumps(mutated(json.loads(value), luck)) if is_json(value) else value[: len(value) // 2]
    return luck.choice(
        [None, "", 0, -1, True, [], {}, [[]], [None], {"a": {}}, "x", "\ud800", 1e300, 10**30, [1, "a"], value]
    )


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def mutated_text(text, luck):
    """A text with a part cut out, doubled or broken; JSON lines also inside their values."""
    lines = text.split("\n")
    for _ in range(luck.randint(1, 6)):
        place = luck.randrange(len(lines))
        line = lines[place]
        kind = luck.randrange(4)
        if kind == 0:
            lines[place] = line[: luck.randrange(len(line) + 1)]
        elif kind == 1:
            lines.insert(luck.randrange(len(lines)), line)
        elif kind == 2 or not is_json(line):
            cut = luck.randrange(len(line) + 1)
            lines[place] = (
                line[:cut]
                + luck.choice(["\0", '"', "\\", "{", "]", "é", "\n", "NaN", "<system-reminder>"])
                + line[cut:]
            )
        else:
            lines[place] = json.dumps(mutated(json.loads(line), luck))
    return "\n".join(lines)


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix != ".parquet"], ids=lambda path: path.name)
def test_mutations_never_break_the_reading(tmp_path, path):
    fuzz(path, tmp_path, range(N_MUTATIONS))


def fuzz(path, folder, seeds):
    text = path.read_text(encoding="utf-8")
    whole = json.loads(text) if path.suffix == ".json" else None
    for seed in seeds:
        luck = random.Random(f"{path.name} {seed}")
        changed = (
            json.dumps(mutated(whole, luck)) if whole is not None and luck.random() < 0.5 else mutated_text(text, luck)
        )
        log = folder / path.name
        log.write_bytes(changed.encode("utf-8", "surrogatepass"))
        try:
            _, reading = imported(log, Nowhere())
            imported(log, Nowhere(), luck.choice(FORMATS).name)
        except LogError:
            continue
        assert reading is None or reading.n_prompts >= 0
