"""The clearest accounts of all parts come first, and nobody who isn't a suspect."""

from __future__ import annotations

import json
from pathlib import Path

from serve.batch.clearest import N_CLEAREST, clearest


def account(name: str, p_value: float, label: str = "harvesting", flagged_share: float = 0.5) -> str:
    row = {"account_id": name, "label": label, "p_value": p_value, "max_score": 0.9, "n_exchanges": 12}
    return json.dumps(row | {"flagged_share": flagged_share}) + "\n"


def test_the_smallest_p_values_of_all_parts_come_first(tmp_path: Path) -> None:
    parts = [tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.jsonl"]
    parts[0].write_text("".join(account(f"a{k}", 0.01 * k) for k in range(1, 9)))
    parts[1].write_text("".join(account(f"b{k}", 0.01 * k + 0.005, "organic") for k in range(1, 9)))
    parts[2].write_text(account("clean", 0.0001, "organic", 0.0))
    found = clearest(parts)
    assert [own.account_id for own in found] == ["a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4", "a5", "b5"]
    assert len(found) == N_CLEAREST
    assert (found[0].label, found[0].p_value, found[0].n_exchanges) == ("harvesting", 0.01, 12)


def test_there_may_be_nobody(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(account("clean", 0.5, "organic", 0.0))
    assert clearest([tmp_path / "a.jsonl"]) == clearest([]) == ()
