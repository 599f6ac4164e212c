"""The drawn counts what was judged where it falls, and reads no more of an account than it shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from serve.analyst import map_counts as module
from serve.analyst.map_counts import cell_order, cell_skills, count_map
from serve.capability.capability_map import CapabilityMap
from serve.io.discovery import InputError
from serve.scoring.scorer import Scorer
from serve.scoring.verdict_files import read_verdicts
from serve.sessions.records import Session, Sessions


@pytest.fixture
def traffic(tmp_path: Path, sessions: tuple[Session, ...], tiny_scorer: Scorer) -> Path:
    rows = [
        {"account_id": s.account_id, "session_id": s.session_id, "prompt": e.prompt, "at": e.at}
        for s in sessions
        for e in s.exchanges
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(tiny_scorer.judge(Sessions.of(sessions)).table(), tmp_path / "v.parquet")
    return tmp_path


def test_every_placed_prompt_is_counted_once_on_its_side(
    traffic: Path, sessions: tuple[Session, ...], tiny_scorer: Scorer
) -> None:
    ledger = read_verdicts(traffic / "v.parquet")
    found = count_map([traffic / "in.jsonl"], ledger, ["a000"], tiny_scorer.bundle)
    share_of = {s: 1.0 - row[-1] for s, row in zip(ledger.session_ids, ledger.area_share, strict=True)}
    placed = {
        side: sum(
            round(share_of[s] * n)
            for s, n, f in zip(ledger.session_ids, ledger.n_exchanges, ledger.is_flagged, strict=True)
            if f == side
        )
        for side in (True, False)
    }
    assert (found.flagged.sum(), found.others.sum()) == (placed[True], placed[False])
    assert found.usual.sum() == placed[False]
    own = [s for s in sessions if s.account_id == "a000"]
    assert found.skills["a000"].sum() == sum(round(share_of[s.session_id] * len(s.exchanges)) for s in own)


def test_a_sample_holds_the_accounts_asked_for(
    traffic: Path, tiny_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "N_PROMPTS", 20)
    monkeypatch.setattr(module, "N_OWN_PROMPTS", 2)
    ledger = read_verdicts(traffic / "v.parquet")
    found = count_map([traffic / "in.jsonl"], ledger, ["a007"], tiny_scorer.bundle)
    assert 0 < found.skills["a007"].sum() <= 2
    assert found.flagged.sum() + found.others.sum() < ledger.n_exchanges.sum()


def test_exchanges_of_others_are_refused(traffic: Path, tiny_scorer: Scorer) -> None:
    (traffic / "in.jsonl").write_text('{"account_id": "x", "prompt": "write a poem"}\n')
    with pytest.raises(InputError, match="none of the sessions there has a verdict"):
        count_map([traffic / "in.jsonl"], read_verdicts(traffic / "v.parquet"), [], tiny_scorer.bundle)


def test_cells_keep_their_areas(capabilities: CapabilityMap) -> None:
    order = cell_order(capabilities)
    assert sorted(order.tolist()) == list(range(len(capabilities.cells)))
    assert (np.diff(capabilities.cell_areas[order]) >= 0).all()
    owners = [capabilities.skills[skill].area for skill in cell_skills(capabilities).tolist()]
    assert owners == capabilities.cell_areas.tolist()
