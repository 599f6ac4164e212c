from __future__ import annotations

import random

import pytest

from serve.io.logs import groups


@pytest.mark.parametrize("limit", [1 << 20, 200])
def test_groups_are_whole_in_any_order_and_size(monkeypatch, limit):
    monkeypatch.setattr(groups, "_MAX_CHARS", limit)
    pieces = [(f"k{index % 7}", index, {"n": index}) for index in range(100)]
    random.Random(4).shuffle(pieces)
    found = {key: [(line, value) for line, value in own] for key, own in groups.grouped(pieces)}
    assert {key: sorted(lines) for key, lines in found.items()} == {
        f"k{key}": [(n, {"n": n}) for n in range(key, 100, 7)] for key in range(7)
    }
