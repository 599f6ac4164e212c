from __future__ import annotations

import json

import pytest

from serve.io.repetition import repeated_share, warning


def rows(*sessions: str):
    return [(f"s{index}", text) for index, texts in enumerate(sessions) for text in texts]


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        ("abc", 0.0),
        ("aababc", 3 / 6),
        ("aababcabcd", 6 / 10),
        ("aaaaaaaa", 0.0),
        ("abababab", 6 / 8),
        ("abcacbda", 0.0),
        ("", 0.0),
    ],
)
def test_share_of_rows_that_repeat_their_history(texts, share):
    assert repeated_share(rows(texts)) == pytest.approx(share)


def test_sessions_are_apart():
    assert repeated_share(rows("abc", "abc", "abc")) == 0.0


def test_warning_names_the_share_and_no_prompt(tmp_path):
    path = tmp_path / "rows.jsonl"
    history = [text for n in range(1, 6) for text in ("bake", "bread", "rye", "oven", "crust")[:n]]
    path.write_text("".join(json.dumps({"account_id": "a", "prompt": text}) + "\n" for text in history))
    assert warning([path]).startswith("warning: 67% of the first rows repeat")
    assert "bake" not in warning([path])
    path.write_text("".join(json.dumps({"account_id": "a", "prompt": text}) + "\n" for text in history[-5:]))
    assert warning([path]) is None
