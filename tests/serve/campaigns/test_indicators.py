from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from serve.campaigns.fingerprints import fingerprint_keys
from serve.campaigns.indicators import SCHEMA, check_map, match, read
from serve.sessions.records import Exchange, Session, Sessions

TEMPLATE = "write a function in rust that parses the field called {} from a line of the log"


@dataclass
class Listed:
    """An indicator file of one campaign that sends `TEMPLATE` and cells 0 and 1."""

    path: Path

    def write(self, **changes: object) -> Path:
        key = int(fingerprint_keys([TEMPLATE.format("x").lower()])[0, 0])
        campaign = {"campaign_id": "c1", "skeletons": [f"{key:016x}"], "cells": {"0": 0.5, "1": 0.5}}
        usual = {str(cell): 0.1 for cell in range(10)}
        listed = {"format_version": 1, "bundle": "b1", "n_cells": 10, "usual": usual, "campaigns": [campaign]}
        self.path.write_text(json.dumps(listed | changes))
        return self.path


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    return Listed(tmp_path / "indicators.json")


def sessions_of(*prompts: list[str]) -> Sessions:
    return Sessions.of([
        Session(f"s{index}", f"a{index}", tuple(map(Exchange, own))) for index, own in enumerate(prompts)
    ])  # fmt: skip


def test_a_session_of_the_template_is_matched_whatever_fills_it_and_another_is_not(listed: Listed):
    sent = sessions_of(
        [TEMPLATE.format(f"field{n}") for n in range(4)], ["what shall I cook for six people tonight"] * 4
    )
    table = match(read(listed.write()), sent, np.full(8, -1), "b1")
    assert table.schema == SCHEMA
    assert table.column("session_id").to_pylist() == ["s0"]
    assert table.column("n_skeletons").to_pylist() == [4]
    assert table.column("campaign_id").to_pylist() == ["c1"]


def test_three_prompts_or_less_than_a_tenth_match_nobody(listed: Listed):
    def matched(n_template: int, n_other: int) -> bool:
        sent = [TEMPLATE.format(f"field{n}") for n in range(n_template)] + [f"text {n}" for n in range(n_other)]
        return len(match(read(listed.write()), sessions_of(sent), np.full(len(sent), -1), "b1")) == 1

    assert [matched(3, 0), matched(4, 0), matched(4, 36), matched(4, 37)] == [False, True, True, False]


def test_cells_of_the_profile_are_reported_and_match_nobody(listed: Listed):
    template = [TEMPLATE.format(f"field{n}") for n in range(40)]
    sent = sessions_of(template, [f"other {n}" for n in range(40)])
    cells = np.tile(np.arange(40) % 2, 2)
    table = match(read(listed.write()), sent, cells, "b1")
    assert table.column("session_id").to_pylist() == ["s0"]
    ratio = np.log((0.95 * 0.5 + 0.005) / (0.95 * 0.1 + 0.005))
    assert table.column("gain").to_pylist() == [pytest.approx(40 * ratio, abs=1e-3)]
    assert match(read(listed.write()), sent, cells, "b2").column("gain").to_pylist() == [None]  # another map


def test_no_session_is_matched_by_nothing(listed: Listed):
    assert len(match(read(listed.write(campaigns=[])), sessions_of(["a"]), np.zeros(1, np.int64), "b1")) == 0


@pytest.mark.parametrize("changes", [{"campaigns": None}, {"campaigns": [{"cells": {}}]}, {"n_cells": 1}])
def test_a_file_of_something_else_is_refused_by_name(listed: Listed, changes: dict[str, object]):
    with pytest.raises(ValueError, match=r"indicators\.json holds no indicators"):
        read(listed.write(**changes))


def test_a_file_of_another_release_is_refused(listed: Listed):
    with pytest.raises(ValueError, match="has format version 2, this release reads 1"):
        read(listed.write(format_version=2))


CAMPAIGN = {"campaign_id": "c1", "skeletons": ["ab"], "cells": {"0": 1.0}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_cells": 10**10}, "n_cells 10000000000, expected 1 to"),
        ({"n_cells": -1}, "n_cells -1, expected"),
        ({"n_cells": 2.5}, "n_cells 2.5, expected"),
        ({"n_cells": True}, "n_cells True, expected"),
        ({"n_cells": 3}, "the cell '3', expected 0 to 2"),
        ({"usual": {"0": float("nan")}}, "the number NaN"),
        ({"usual": {"0": 10**400}}, "of a cell, expected 0 to 1"),
        ({"usual": {"0": -0.5}}, "the share -0.5 of a cell"),
        ({"usual": {"0": 0.7, "1": 0.7}}, "add up to 1.4"),
        ({"usual": {"-1": 0.7}}, "the cell '-1'"),
        ({"bundle": "<b>"}, "a bundle that is no name"),
        ({"campaigns": [CAMPAIGN | {"campaign_id": "../../etc"}]}, "a campaign_id that is no name"),
        ({"campaigns": [CAMPAIGN | {"skeletons": ["f" * 40]}]}, "a skeleton that is no hash"),
        ({"campaigns": [CAMPAIGN | {"skeletons": ["-1"]}]}, "a skeleton that is no hash"),
        ({"campaigns": [CAMPAIGN | {"skeletons": "ab"}]}, "skeletons are no list"),
        ({"campaigns": [CAMPAIGN | {"cells": {"0": "1"}}]}, "the share 1 of a cell"),
    ],
)
def test_a_hostile_file_is_refused_and_says_what_is_wrong(listed: Listed, changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=r"indicators\.json holds no indicators: ") as fault:
        read(listed.write(**changes))
    assert message in str(fault.value)


@pytest.mark.parametrize("content", ["[" * 100_000, "", "null", "[1]", '{"format_version": 1', "\ud800"])
def test_what_is_no_indicator_file_is_refused(listed: Listed, content: str):
    listed.path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match="holds no indicators"):
        read(listed.path)


def test_another_number_of_cells_than_the_bundles_is_refused(listed: Listed):
    known = read(listed.write())
    check_map(known, listed.path, "b1", 10)
    check_map(known, listed.path, "b2", 11)
    with pytest.raises(ValueError, match="has 10 cells for bundle b1, expected 11"):
        check_map(known, listed.path, "b1", 11)
