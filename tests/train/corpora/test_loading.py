"""Corpora: folders with cards, described files and copies of the hub's Parquet; faults are said before any work."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from train.corpora.loading import CorporaSettings, load_pool
from train.corpora.pool import Pool


def settings(tmp_path: Path, **given: Any) -> CorporaSettings:
    return CorporaSettings(**{"starter": False, "cache_dir": str(tmp_path / "cache")} | given)


def load(tmp_path: Path, **given: Any) -> Pool:
    return load_pool(settings(tmp_path, **given), seed=0)


def hub_copy(tmp_path: Path) -> Path:
    """Three datasets laid out as the hub has them: shards under data/, a folder a subset."""
    wildchat = tmp_path / "hub" / "allenai" / "WildChat-1M" / "data"
    gsm8k = tmp_path / "hub" / "gsm8k" / "main"
    wildchat.mkdir(parents=True)
    gsm8k.mkdir(parents=True)
    for shard in range(2):
        rows = [
            {
                "conversation_hash": f"h{shard}{i}",
                "language": "English" if i % 3 else "French",
                "conversation": [
                    {"role": "user", "content": f"question {shard} {i}"}, {"role": "assistant", "content": "answer"},
                    {"role": "user", "content": f"and then {shard} {i}"},
                ],
            }
            for i in range(30)
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), wildchat / f"train-0000{shard}-of-00002.parquet")
    rows = [{"question": f"If {i} apples cost {2 * i}, what does one cost?", "answer": "2"} for i in range(12)]
    pq.write_table(pa.Table.from_pylist(rows), gsm8k / "train-00000-of-00001.parquet")
    return tmp_path / "hub"


def folder(tmp_path: Path, card: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "corpora"
    path.mkdir()
    full = {"name": "mine", "label": "organic", "kind": "person", "group": "mine", "use": "train"} | card
    (path / "CARDS.json").write_text(json.dumps([full]), encoding="utf-8")
    with gzip.open(path / "mine.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def row(number: int, **given: Any) -> dict[str, Any]:
    return {"text": f"prompt {number}", "conversation_id": f"c{number}", "turn": 0} | given


def test_copies_of_the_hub_are_read_and_sampled_by_whole_conversations(tmp_path: Path) -> None:
    pool = load(tmp_path, described=("wildchat_1m", "gsm8k"), hub_dir=str(hub_copy(tmp_path)), max_prompts=15)
    first, second = pool.sources
    assert (first.name, first.kind, first.group, first.may_ship) == ("wildchat_1m", "person", "wildchat", True)
    assert (second.name, second.label) == ("gsm8k", "harvesting")
    chats = [text for text, source in zip(pool.texts, pool.source.tolist(), strict=True) if source == 0]
    assert len(chats) == 14
    assert {text.split(" ", 1)[0] for text in chats} == {"question", "and"}
    ends = [tuple(text.split()[-2:]) for text in chats]
    assert all(ends.count(end) == 2 for end in ends)
    assert all(int(end[1]) % 3 for end in ends)
    assert len(pool.texts) == 14 + 12


def test_a_second_reading_comes_from_the_cache_and_a_changed_file_does_not(tmp_path: Path) -> None:
    hub = hub_copy(tmp_path)
    given = {"described": ("gsm8k",), "hub_dir": str(hub)}
    pool = load(tmp_path, **given)
    (cached,) = (tmp_path / "cache").glob("*.parquet")
    stamp = cached.stat().st_mtime_ns
    assert load(tmp_path, **given).texts == pool.texts
    assert cached.stat().st_mtime_ns == stamp
    shard = hub / "gsm8k" / "main" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(shard).slice(0, 5), shard)
    assert len(load(tmp_path, **given).texts) == 5


def test_a_described_local_file_is_read(tmp_path: Path) -> None:
    data, card = tmp_path / "asked.jsonl", tmp_path / "asked.yaml"
    data.write_text("".join(json.dumps({"q": f"why {i}?", "who": i % 2}) + "\n" for i in range(6)), encoding="utf-8")
    card.write_text(
        f"path: {data}\nlabel: organic\nkind: person\ngroup: g\nuse: evaluate\ncolumns: {{text: q, person: who}}\n",
        encoding="utf-8",
    )
    with pytest.raises(ValueError, match="none of starter, dir and described"):
        load(tmp_path, described=(str(card),))
    pool = load(tmp_path, described=(str(card),), use=("evaluate",))
    assert (len(pool), len(set(pool.person.tolist())), pool.sources[0].may_ship) == (6, 2, False)


def test_a_missing_column_is_named_with_those_there(tmp_path: Path) -> None:
    hub = hub_copy(tmp_path)
    shard = hub / "gsm8k" / "main" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(shard).rename_columns(["query", "answer"]), shard)
    with pytest.raises(ValueError, match=r"gsm8k: text is said to be column 'question'.*\['query', 'answer'\]"):
        load(tmp_path, described=("gsm8k",), hub_dir=str(hub))


def test_what_the_hub_does_not_give_is_said_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from huggingface_hub import HfApi

    def refuse(*_: object, **__: object) -> None:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(HfApi, "dataset_info", refuse)
    with pytest.raises(
        ValueError, match=r"oasst1: dataset OpenAssistant/oasst1 can't be reached.*hf download OpenAssistant/oasst1"
    ):
        load(tmp_path, described=("oasst1",), hub_dir=str(hub_copy(tmp_path)))


@pytest.mark.parametrize(
    ("card", "rows", "said"),
    [
        ({}, [], r"mine\.jsonl\.gz: holds no rows"),
        ({}, [row(0), row(1, conversation_id="c0", turn=1)], "1 conversations"),
        ({}, [{"text": "a", "turn": 0}], "column 'conversation_id' is missing"),
        ({"label": "benign"}, [row(0), row(1)], "mine: label is 'benign', expected one of"),
        ({"use": "ship"}, [row(0), row(1)], "mine: use is 'ship', expected one of"),
    ],
)
def test_a_bad_folder_names_file_and_field(
    tmp_path: Path, card: dict[str, Any], rows: list[dict[str, Any]], said: str
) -> None:
    path = folder(tmp_path, card, rows)
    with pytest.raises(ValueError, match=said):
        load(tmp_path, dir=str(path))


def test_an_unknown_name_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, {}, [row(0), row(1)])
    with pytest.raises(ValueError, match=r"corpora.exclude names \['other'\], expected some of \['mine'\]"):
        load(tmp_path, dir=str(path), exclude=("other",))
    (path / "mine.jsonl.gz").unlink()
    with pytest.raises(ValueError, match=r"CARDS.json names mine, but mine.jsonl.gz is not there"):
        load(tmp_path, dir=str(path))
    with pytest.raises(ValueError, match=r"CARDS.json is not there"):
        load(tmp_path, dir=str(tmp_path / "nowhere"))
