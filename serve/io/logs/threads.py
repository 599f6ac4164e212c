"""Threads: the requests of one account in order of time, and which of their user messages are new.

A thread is a tree of user messages, each known by a hash of it and of all before it: a request that repeats its history
walks along a branch, and only what leaves the tree is new. No text is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

RETRY_SECONDS = 5.0
"""Within this time, the newest message of a stateful session sent again is a retry, later it is another prompt."""

_MAX_ANCHORS, _MAX_SUMMARIES = 64, 16
"""Known turns that a turn may go on from, and summaries of one request behind which any are looked for: a client could
send thousands."""


def text_hash(text: str) -> int:
    """64 bits of a text, whose blanks count as one."""
    return int.from_bytes(blake2b(" ".join(text.split()).encode("utf-8", "replace"), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as threads see it: hashes of its turns, and before which of them a summary stands.

    The other fields are those of `requests.Request`; `at` is NaN where unknown.
    """

    hashes: tuple[int, ...]
    after_summary: tuple[bool, ...]
    at: float = 0.0
    session_id: str | None = None
    branch: str = ""
    key: str | None = None
    request_id: str | None = None
    follows: str | None = None
    is_stateful: bool = False
    has_answers: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request belongs: the session, and which of its turns are new."""

    session_id: str
    new: tuple[int, ...]


@dataclass(slots=True)
class Threads:
    """The threads of one account. Requests are to be added in order of time.

    A node stands for a user message after all those before it; the root of a scope (a session, or all threads of the
    account that have none) stands for nothing said yet. Memory is a few hundred bytes for each prompt.
    """

    _thread_of: dict[int, int] = field(default_factory=dict)
    _nodes_with: dict[int, list[int]] = field(default_factory=dict)
    _parents: set[int] = field(default_factory=set)
    _ends: dict[str, int] = field(default_factory=dict)
    _newest: dict[int, tuple[int, tuple[int, ...], float]] = field(default_factory=dict)
    _keys: set[int] = field(default_factory=set)

    def add(self, ask: Ask) -> Place:
        """Find a request's place, and learn its turns."""
        if ask.key is not None:
            return self._add_keyed(ask)
        scope = hash((text_hash(ask.session_id or ""), text_hash(ask.branch), ask.session_id is None))
        if ask.is_stateful and self._is_retry(ask, scope):
            return Place(ask.session_id or "", ())
        end, new = self._walk(ask, scope, self._start(ask, scope))
        if ask.request_id is not None:
            self._ends.setdefault(ask.request_id, end)
        self._newest[scope] = end, ask.hashes, ask.at
        return Place(self._name(end) if ask.session_id is None else ask.session_id, tuple(new))

    def _add_keyed(self, ask: Ask) -> Place:
        key = text_hash(ask.key or "")
        new = () if key in self._keys else tuple(range(len(ask.hashes)))
        self._keys.add(key)
        return Place(ask.session_id or "", new)

    def _is_retry(self, ask: Ask, scope: int) -> bool:
        if ask.request_id is not None and ask.request_id in self._ends:
            return True
        _, hashes, at = self._newest.get(scope, (0, (), 0.0))
        return bool(hashes) and hashes == ask.hashes and not ask.at - at > RETRY_SECONDS

    def _name(self, node: int) -> str:
        return f"thread-{self._thread_of.get(node, node) & 0xFFFFFFFFFFFFFFFF:016x}"

    def _start(self, ask: Ask, scope: int) -> int:
        """The node that a request's turns come after."""
        if ask.follows is not None:
            return self._ends.setdefault(ask.follows, _step(scope, text_hash(ask.follows)))
        brings_history = len(ask.hashes) > 1 and _step(scope, ask.hashes[0]) in self._thread_of
        return self._newest[scope][0] if ask.is_stateful and scope in self._newest and not brings_history else scope

    def _walk(self, ask: Ask, scope: int, start: int) -> tuple[int, list[int]]:
        """Go along known turns and learn the new ones: where it ends, and which were new."""
        node, new, n_summaries = start, list[int](), 0
        for index, text in enumerate(ask.hashes):
            n_summaries += ask.after_summary[index]
            is_looked_for = ask.after_summary[index] and n_summaries <= _MAX_SUMMARIES
            child = self._next(ask, scope, node, index, is_looked_for=is_looked_for)
            if child not in self._thread_of:
                new.append(index)
                node = self._latest(scope, node) if ask.after_summary[index] else node
                child = self._learn(scope, node, text)
            node = child
        return node, new

    def _next(self, ask: Ask, scope: int, node: int, index: int, *, is_looked_for: bool) -> int:
        """The node of a turn: after the last one, or where it is known elsewhere and older history was left out."""
        child = _step(node, ask.hashes[index])
        is_known = child in self._thread_of
        if not is_looked_for and (is_known or index or not self._may_go_on(ask, scope, node)):
            return child
        rest = ask.hashes[index:]
        anchor, length = self._anchor(scope, rest)
        return anchor if length > (1 + self._reach(child, rest[1:]) if is_known else 0) else child

    def _may_go_on(self, ask: Ask, scope: int, start: int) -> bool:
        """Whether a request that begins with no thread's first message may go on with an older one."""
        if start != scope:
            return False
        is_newest = ask.session_id is not None and self._newest.get(scope, (0, (), 0.0))[1][-1:] == ask.hashes
        return len(ask.hashes) > 1 or ask.has_answers or is_newest

    def _anchor(self, scope: int, hashes: Sequence[int]) -> tuple[int, int]:
        """The node of the first of these turns from which most of them are known, and of how many they are.

        Of equal ones the one where a thread ends, then the latest.
        """
        candidates = self._nodes_with.get(_step(scope, hashes[0]), [])[-_MAX_ANCHORS:]
        after = hashes[1:]
        ranked = [(*self._run(node, after), place, node) for place, node in enumerate(candidates)]
        length, _, _, node = max(ranked, default=(0, False, 0, 0))
        return node, length

    def _run(self, node: int, hashes: Sequence[int]) -> tuple[int, bool]:
        """How many turns are known from this one on, itself included, and whether a thread ends with the last."""
        length = 1
        for text in hashes:
            child = _step(node, text)
            if child not in self._thread_of:
                break
            node, length = child, length + 1
        return length, node not in self._parents

    def _reach(self, node: int, hashes: Sequence[int]) -> int:
        return self._run(node, hashes)[0] - 1

    def _latest(self, scope: int, node: int) -> int:
        """Where turns after a summary go that stands for all of the history: the thread that was last heard of."""
        return self._newest[scope][0] if scope in self._newest else node

    def _learn(self, scope: int, node: int, text: int) -> int:
        child = _step(node, text)
        if child not in self._thread_of:
            self._thread_of[child] = self._thread_of.get(node, child if node == scope else node)
            self._nodes_with.setdefault(_step(scope, text), []).append(child)
            self._parents.add(node)
        return child


def _step(node: int, text: int) -> int:
    return hash((node, text))
