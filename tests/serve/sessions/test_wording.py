"""Numbers and nouns agree."""

from __future__ import annotations

from serve.sessions.wording import counted


def test_one_is_singular_and_all_else_plural() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 2000)] == ["0 rows", "1 row", "2 rows", "2,000 rows"]
    assert [counted(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]
