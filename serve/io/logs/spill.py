"""Spill: requests laid down on disk by account, each text of an account once, so that memory stays bounded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from serve.io.logs.requests import Request
from serve.io.logs.threads import Ask, text_hash

UNKNOWN = "unknown"
"""The account of requests that name none."""

_MAX_WAITING_CHARS = 32 << 20
_MAX_TEXTS = 1 << 19
"""Texts that are remembered as written; beyond it all are forgotten, and may be written again."""

_cached_hash = lru_cache(maxsize=1 << 14)(text_hash)


@dataclass(frozen=True, slots=True)
class Spilled:
    """A request read back: when it is dealt with, and its turns as hashes; see `Texts` for the texts."""

    account_id: str
    order: tuple[float, int, int]
    ask: Ask
    turn_times: tuple[float, ...]
    ends_with_tool: bool
    system: int | None


class Spill:
    """Files of requests, one a partition of accounts."""

    def __init__(self, folder: Path, n_partitions: int, *, with_system: bool = False) -> None:
        """Write into `folder`; the system texts, too, where asked for."""
        self._paths = [folder / f"requests-{index}.jsonl" for index in range(n_partitions)]
        self._waiting: list[list[str]] = [[] for _ in self._paths]
        self._n_waiting_chars = 0
        self._written: set[int] = set()
        self._with_system = with_system
        self._n_requests = 0
        self._latest = -math.inf
        for path in self._paths:
            path.unlink(missing_ok=True)

    def begin_log(self) -> None:
        """Forget the time of the last request, for requests without one that come next."""
        self._latest = -math.inf

    def add(self, request: Request) -> None:
        """Write a request."""
        account_id = request.account_id or UNKNOWN
        has_time = not math.isnan(request.at)
        self._latest = request.at if has_time else self._latest
        self._n_requests += 1
        order = self._latest, len(request.talk.turns) if has_time else 0, self._n_requests
        line = json.dumps([account_id, order, *self._fields(account_id, request)])
        self._waiting[_partition(account_id, len(self._paths))].append(line)
        self._n_waiting_chars += len(line)
        if self._n_waiting_chars > _MAX_WAITING_CHARS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        for path, lines in zip(self._paths, self._waiting, strict=True):
            if lines:
                with path.open("a", encoding="ascii") as file:
                    file.write("\n".join(lines) + "\n")
                lines.clear()
        self._n_waiting_chars = 0

    def _fields(self, account_id: str, request: Request) -> list[Any]:
        talk, texts = request.talk, dict[str, str]()
        hashes = [self._noted(account_id, turn.text, texts) for turn in talk.turns]
        system = self._noted(account_id, talk.system, texts) if self._with_system and talk.system else None
        return [
            [request.at, request.session_id, request.branch, request.key, request.request_id, request.follows,
             request.is_stateful, talk.has_answers],
            hashes, [turn.after_summary for turn in talk.turns], [turn.at for turn in talk.turns],
            talk.ends_with_tool, system, texts,
        ]  # fmt: skip

    def _noted(self, account_id: str, text: str, texts: dict[str, str]) -> int:
        """The hash of a text, which goes to `texts` unless this account's files hold it."""
        hashed = _cached_hash(text)
        name = hash((account_hash(account_id), hashed))
        if name not in self._written:
            if len(self._written) >= _MAX_TEXTS:
                self._written.clear()
            self._written.add(name)
            texts[str(hashed)] = text
        return hashed


class Texts:
    """The texts of a partition by account and hash."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, int], str] = {}

    def add(self, account_id: str, texts: dict[str, str]) -> None:
        """Take texts by hash in."""
        for hashed, text in texts.items():
            self._texts.setdefault((account_id, int(hashed)), text)

    def get(self, account_id: str, hashed: int) -> str:
        """The text of this hash."""
        return self._texts[account_id, hashed]


def read_partition(folder: Path, index: int) -> tuple[list[Spilled], Texts]:
    """The requests of a partition by account and in order of time, and their texts."""
    path, texts, requests = folder / f"requests-{index}.jsonl", Texts(), list[Spilled]()
    if path.exists():
        for account_id, order, *fields, own_texts in _lines(path):
            texts.add(account_id, own_texts)
            requests.append(_spilled(account_id, order, fields))
    requests.sort(key=lambda request: (request.account_id, request.order))
    return requests, texts


def _lines(path: Path) -> Iterator[list[Any]]:
    with path.open(encoding="ascii") as file:
        yield from map(json.loads, file)


def _spilled(account_id: str, order: list[Any], fields: list[Any]) -> Spilled:
    about, hashes, after_summary, times, ends_with_tool, system = fields
    at, session_id, branch, key, request_id, follows, is_stateful, has_answers = about
    ask = Ask(
        tuple(hashes), tuple(after_summary), at, session_id, branch, key, request_id, follows, is_stateful, has_answers
    )
    return Spilled(account_id, (order[0], order[1], order[2]), ask, tuple(times), ends_with_tool, system)


@lru_cache(maxsize=1 << 14)
def account_hash(account_id: str) -> int:
    """64 bits of an account's id, the same in every process."""
    return int.from_bytes(blake2b(account_id.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _partition(account_id: str, n_partitions: int) -> int:
    return account_hash(account_id) * n_partitions >> 64
