"""The pool: conversations whole and in order, codes unique over all corpora."""

from __future__ import annotations

import numpy as np

from train.corpora.pool import Pool, PromptRow, Source

ALICE, BOB = Source("one", "organic", "person", "g1"), Source("two", "harvesting", "harvest", "g2")


def test_rows_of_a_conversation_lie_together_in_order_of_turn() -> None:
    rows = [
        PromptRow("b1", "b", 1),
        PromptRow("a0", "a", 0),
        PromptRow("b0", "b", 0),
        PromptRow("a10", "a", 10),
        PromptRow("a2", "a", 2),
    ]
    pool = Pool.of([(ALICE, rows)])
    assert pool.texts == ("a0", "a2", "a10", "b0", "b1")
    assert pool.conversation.tolist() == [0, 0, 0, 1, 1]


def test_equal_names_in_two_corpora_are_two_people_and_conversations() -> None:
    row = PromptRow("hello", "c1", 0, "p1")
    pool = Pool.of([(ALICE, [row]), (BOB, [row])])
    assert pool.source.tolist() == [0, 1]
    assert len(set(pool.conversation.tolist())) == len(set(pool.person.tolist())) == 2


def test_a_person_keeps_a_code_over_conversations_and_nobody_is_a_person_per_conversation() -> None:
    named = [PromptRow("x", "c1", 0, "p"), PromptRow("y", "c2", 0, "p"), PromptRow("z", "c3", 0)]
    nameless = [PromptRow("x", "c1", 0), PromptRow("y", "c1", 1), PromptRow("z", "c2", 0)]
    assert Pool.of([(ALICE, named)]).person.tolist() == [0, 0, 1]
    assert Pool.of([(ALICE, nameless)]).person.tolist() == [0, 0, 1]


def test_a_person_called_like_a_conversation_is_still_a_person_of_their_own() -> None:
    pool = Pool.of([(ALICE, [PromptRow("x", "a", 0), PromptRow("y", "b", 0, "conversation 0")])])
    assert len(set(pool.person.tolist())) == 2


def test_columns_say_what_the_source_says(pool: Pool) -> None:
    for row in range(0, len(pool), 97):
        own = pool.sources[pool.source[row]]
        assert (pool.labels[row], pool.kinds[row], pool.groups[row]) == (own.label, own.kind, own.group)
    assert len(pool.texts) == len(pool.systems) == len(pool) == len(pool.person)


def test_an_empty_pool_has_no_prompts() -> None:
    assert len(Pool.of([])) == 0
    assert Pool.of([]).person.dtype == np.int32
