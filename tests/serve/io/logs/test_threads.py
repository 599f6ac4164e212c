from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.io.logs import threads as module
from serve.io.logs.threads import RETRY_SECONDS, Ask, Threads, text_hash


def ask(*texts: str, summary: tuple[int, ...] = (), **about: object):
    hashes = tuple(map(text_hash, texts))
    return Ask(hashes, tuple(index in summary for index in range(len(texts))), **about)


def new(threads: Threads, *texts: str, **about: object):
    return [texts[index] for index in threads.add(ask(*texts, **about)).new]


def test_history_counts_once():
    threads = Threads()
    assert new(threads, "a") == ["a"]
    assert new(threads, "a", "b") == ["b"]
    assert new(threads, "a", "b", "c", "d") == ["c", "d"]


def test_same_words_later_are_another_prompt():
    threads = Threads()
    assert new(threads, "a", "go on", "go on") == ["a", "go on", "go on"]
    assert new(threads, "a", "go on", "go on", "go on") == ["go on"]


def test_retry_adds_nothing_even_after_the_thread_moved_on():
    threads = Threads()
    for texts in (("a",), ("a", "b"), ("a", "b", "c")):
        new(threads, *texts)
    assert new(threads, "a", "b") == []
    assert new(threads, "a", "b", "c", "d") == ["d"]


def test_edit_branches_and_older_branch_goes_on():
    threads = Threads()
    new(threads, "a", "b", "c")
    assert new(threads, "a", "B") == ["B"]
    assert new(threads, "a", "b", "c", "d") == ["d"]
    assert new(threads, "a", "B", "e") == ["e"]


def test_one_thread_keeps_one_name_through_edit_and_compaction():
    threads = Threads()
    requests = [ask("a"), ask("a", "b"), ask("a", "B"), ask("B", "c", summary=(0,)), ask("B", "c", "d", summary=(0,))]
    places = [threads.add(request) for request in requests]
    assert len({place.session_id for place in places}) == 1
    assert [place.new for place in places] == [(0,), (1,), (1,), (1,), (2,)]


def test_two_threads_of_an_account_stay_two():
    threads = Threads()
    names = [threads.add(ask(*texts)).session_id for texts in (("a",), ("x",), ("a", "b"), ("x", "y"))]
    assert names[0] == names[2] != names[1] == names[3]


def test_compaction_without_kept_messages_goes_on_with_the_latest_thread():
    threads = Threads()
    threads.add(ask("x"))
    before = threads.add(ask("a", "b"))
    after = threads.add(ask("c", summary=(0,)))
    assert after.session_id == before.session_id
    assert after.new == (0,)
    assert new(threads, "c", "d", summary=(0,)) == ["d"]


def test_compaction_prefers_the_thread_that_ends_with_what_was_kept():
    threads = Threads()
    ends_so = threads.add(ask("b", "go on"))
    threads.add(ask("a", "go on", "more"))
    assert threads.add(ask("go on", "next", summary=(0,))).session_id == ends_so.session_id


def test_history_without_its_beginning_is_known():
    threads = Threads()
    new(threads, "a", "b", "c")
    assert new(threads, "b", "c", "d") == ["d"]


def test_fresh_thread_that_opens_with_known_words_counts():
    threads = Threads()
    new(threads, "a", "b")
    assert new(threads, "b") == ["b"]


def test_sessions_are_apart():
    threads = Threads()
    assert new(threads, "a", session_id="s1") == ["a"]
    assert new(threads, "a", session_id="s2") == ["a"]
    assert new(threads, "a", session_id="s1", branch="other") == ["a"]


def test_keys_count_once():
    threads = Threads()
    assert new(threads, "a", session_id="s", key="1") == ["a"]
    assert new(threads, "a", session_id="s", key="2") == ["a"]
    assert new(threads, "a", session_id="t", key="1") == []


def test_chain_of_responses():
    threads = Threads()
    first = threads.add(ask("a", request_id="1"))
    threads.add(ask(request_id="2", follows="1"))
    again = threads.add(ask("b", request_id="3", follows="2"))
    assert again.new == (0,)
    assert again.session_id == first.session_id
    assert new(threads, "b", request_id="4", follows="2") == []
    assert new(threads, "b", request_id="5", follows="3") == ["b"]
    assert new(threads, "c", request_id="6", follows="1") == ["c"]


def test_stateful_session_takes_the_same_words_later_as_another_prompt():
    about = {"session_id": "s", "is_stateful": True}
    threads = Threads()
    assert new(threads, "go on", at=0.0, request_id="1", **about) == ["go on"]
    assert new(threads, "go on", at=RETRY_SECONDS, request_id="2", **about) == []
    assert new(threads, "go on", at=100.0, request_id="3", **about) == ["go on"]
    assert new(threads, "go on", at=200.0, request_id="3", **about) == []


turns = st.lists(st.sampled_from("abcd"), min_size=1, max_size=6)


@given(turns, st.data())
def test_any_mix_of_retries_of_a_thread_gives_its_turns_once(texts, data):
    lengths = data.draw(st.lists(st.integers(1, len(texts)), max_size=8))
    threads = Threads()
    found = [text for length in (*lengths, len(texts)) for text in new(threads, *texts[:length], session_id="s")]
    assert found == texts


@given(st.lists(turns, max_size=8))
def test_prompts_are_the_nodes_of_the_tree(requests):
    threads = Threads()
    for index, texts in enumerate(requests):
        new(threads, f"opening {index % 2}", *texts, session_id="s")
    paths = {(index % 2, *texts[:n]) for index, texts in enumerate(requests) for n in range(len(texts) + 1)}
    again = [new(threads, f"opening {path[0]}", *path[1:], session_id="s") for path in sorted(paths)]
    assert again == [[] for _ in paths]


class CountedSlices(tuple[int, ...]):
    """Turns that count how often a part of them is copied."""

    n_copied = 0

    def __getitem__(self, place: Any) -> Any:
        CountedSlices.n_copied += isinstance(place, slice)
        return super().__getitem__(place)


def test_a_long_history_takes_work_in_proportion() -> None:
    """What follows each turn was copied: 60,000 turns took four seconds."""
    threads, hashes = Threads(), CountedSlices(range(1, 3_001))
    CountedSlices.n_copied = 0
    threads.add(Ask(hashes, (False,) * 3_000))
    assert CountedSlices.n_copied < 5


def test_thousands_of_summaries_take_work_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind each, all that is known was looked through: 2,400 of them took 18 seconds."""
    step, n_steps = module._step, 0

    def counted(node: int, text: int) -> int:
        nonlocal n_steps
        n_steps += 1
        return step(node, text)

    threads, known = Threads(), tuple(range(1, 101))
    for first in range(64):
        threads.add(Ask((-first - 1, *known), (False,) * 101, session_id="s"))
    monkeypatch.setattr(module, "_step", counted)
    for n_repeats in (4, 8):
        n_steps = 0
        n_turns = n_repeats * len(known)
        threads.add(Ask((-99, *known * n_repeats), (False, *(True,) * n_turns), session_id="s"))
        assert n_steps < 16 * 65 * 101 + 10 * n_turns
