"""Account metadata: addresses, keys, payment and the like of accounts, as keyed hashes; no value is stored anywhere."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serve.io.discovery import InputError, fault_text
from serve.io.log_files.files import Log
from serve.io.log_files.opening import LogError
from serve.io.logs.values import text_id

KINDS = ("ip", "asn", "api_key", "payment", "signup", "user_agent", "country")
"""Columns that are read, all optional; an IPv6 address counts as its network of 64 bits."""

MAX_VALUES = 32
"""Values of a kind that are kept of an account: those with the smallest hashes, so that accounts keep the same ones."""

MIN_KEY_BYTES = 16

_ALIASES = {
    "ip": ("ip", "clientip", "ipaddress", "sourceip", "remoteaddr", "calleripaddress", "requesteripaddress"),
    "asn": ("asn", "autonomoussystem", "asnumber"),
    "api_key": ("apikey", "apikeyid", "apikeyhash", "keyid"),
    "payment": ("payment", "paymenthash", "paymentfingerprint", "cardfingerprint"),
    "signup": ("signup", "signuphash", "signupip", "signupdevice"),
    "user_agent": ("useragent",),
    "country": ("country", "countrycode"),
}
_ROWS = 65_536
_NOTHING = frozenset({"", "-", "null", "none", "unknown", "n/a"})


@dataclass(frozen=True)
class AccountMetadata:
    """What accounts were used from: `value` (n,), a keyed hash, of `kind` (n,), an index of `KINDS`, for the account
    `owner` (n,), an index of `account_ids`; each account's value once."""

    account_ids: tuple[str, ...]
    owner: NDArray[np.int64]
    kind: NDArray[np.int8]
    value: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.owner)

    @classmethod
    def nothing(cls) -> Self:
        """Of no account."""
        return cls((), np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0, np.uint64))

    @classmethod
    def of_pairs(cls, pairs: Mapping[str, set[tuple[int, int]]]) -> Self:
        """From the kinds and hashes of each account."""
        names = tuple(sorted(pairs))
        rows = np.array(
            [(place, kind, value) for place, name in enumerate(names) for kind, value in sorted(pairs[name])],
            dtype=np.uint64,
        ).reshape(-1, 3)
        return cls(names, rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int8), rows[:, 2])._bounded()

    @classmethod
    def joined(cls, parts: Sequence[AccountMetadata]) -> Self:
        """What is known from all parts."""
        names = tuple(sorted({name for part in parts for name in part.account_ids}))
        index = {name: place for place, name in enumerate(names)}
        owner = [np.array([index[name] for name in part.account_ids], np.int64)[part.owner] for part in parts]
        kind, value = ([getattr(part, name) for part in parts] for name in ("kind", "value"))
        whole = cls(
            names, np.concatenate([np.zeros(0, np.int64), *owner]), np.concatenate([np.zeros(0, np.int8), *kind]),
            np.concatenate([np.zeros(0, np.uint64), *value]),
        )  # fmt: skip
        return whole._bounded()

    def n_accounts(self, account_ids: Sequence[str]) -> dict[str, int]:
        """How many of these accounts have a value, by kind; none for kinds that nobody has."""
        owner = self.owned_by(account_ids)
        kind = self.kind[owner >= 0]
        pairs = np.unique(np.stack([kind, owner[owner >= 0]]), axis=1)
        return {KINDS[place]: int((pairs[0] == place).sum()) for place in np.unique(kind).tolist()}

    def owned_by(self, account_ids: Sequence[str]) -> NDArray[np.int64]:
        """The place of each row's account among these ids, -1 for one that isn't there (n,)."""
        place = {name: index for index, name in enumerate(account_ids)}
        return np.array([place.get(name, -1) for name in self.account_ids], np.int64)[self.owner]

    def _bounded(self) -> Self:
        """Each value once, and at most `MAX_VALUES` of a kind an account, sorted."""
        order = np.lexsort((self.value, self.kind, self.owner))
        owner, kind, value = self.owner[order], self.kind[order], self.value[order]
        group = owner * len(KINDS) + kind
        new = np.append(True, (np.diff(group) != 0) | (np.diff(value.view(np.int64)) != 0))[: len(group)]
        owner, kind, value, group = owner[new], kind[new], value[new], group[new]
        few = np.arange(len(group)) - np.searchsorted(group, group) < MAX_VALUES
        return type(self)(self.account_ids, owner[few], kind[few], value[few])


def read_metadata(paths: Sequence[Path], key: bytes) -> AccountMetadata:
    """What these files say of accounts: Parquet, JSON or CSV with a column account_id and some of `KINDS`, or other
    names of them; a file without those says nothing.

    Raises:
        InputError: when a file can't be read.
        ValueError: when the key is shorter than `MIN_KEY_BYTES` or longer than 64 bytes.
    """
    if not MIN_KEY_BYTES <= len(key) <= 64:
        raise ValueError(f"the key has {len(key)} bytes, expected {MIN_KEY_BYTES} to 64")
    pairs: dict[str, set[tuple[int, int]]] = {}
    hashes: dict[tuple[int, str], int] = {}
    for path in paths:
        for account_id, kind, value in _values(path):
            if (kind, value) not in hashes:
                hashes[kind, value] = _hash(kind, value, key)
            pairs.setdefault(account_id, set()).add((kind, hashes[kind, value]))
    return AccountMetadata.of_pairs(pairs)


def _values(path: Path) -> Iterator[tuple[str, int, str]]:
    """Account, kind and value as text, of each row that has them; a value may come again."""
    try:
        for columns in _tables(path):
            owners = columns.pop("account_id")
            for name, column in columns.items():
                kind = KINDS.index(name)
                for owner, given in dict.fromkeys(zip(owners, column, strict=True)):
                    account_id, value = text_id(owner), _plain(kind, given)
                    if account_id is not None and value is not None:
                        yield account_id, kind, value
    except (OSError, LogError, pa.ArrowException) as fault:
        text = str(fault) if isinstance(fault, LogError) else f"{path}: {fault_text(fault)}"
        raise InputError(text) from fault


def _tables(path: Path) -> Iterator[dict[str, list[Any]]]:
    """Columns by the field that they hold, some rows at a time."""
    log = Log(path)
    if log.kind == "parquet":
        with pq.ParquetFile(path) as file:
            if fields := _fields(file.schema_arrow.names):
                for batch in file.iter_batches(_ROWS, columns=sorted(set(fields.values())), use_threads=False):
                    yield {field: batch.column(name).to_pylist() for field, name in fields.items()}
        return
    fields = _fields(list(dict.fromkeys(name for row in log.sample.objects for name in row)))
    if fields:
        kept = (
            [_hashable(record.value.get(name)) for name in fields.values()]
            for record in log.records()
            if isinstance(record.value, dict)
        )
        while rows := list(itertools.islice(kept, _ROWS)):
            yield dict(zip(fields, map(list, zip(*rows, strict=True)), strict=True))


def _fields(names: Sequence[str]) -> dict[str, str]:
    """The column that holds each field; empty where there is no account or nothing about it."""
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(names)}
    found = {
        kind: next(plain[alias] for alias in aliases if alias in plain)
        for kind, aliases in _ALIASES.items()
        if any(alias in plain for alias in aliases)
    }
    return {"account_id": "account_id", **found} if found and "account_id" in names else {}


def _hashable(value: object) -> str | int | float | None:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _plain(kind: int, given: object) -> str | None:
    """A value in one spelling; None where there is none."""
    text = text_id(given)
    if text is None or (text := text.casefold()) in _NOTHING:
        return None
    if KINDS[kind] == "asn":
        return text.removeprefix("as")
    return _network(text) if KINDS[kind] == "ip" else text


def _network(text: str) -> str:
    """An address; of IPv6 the network that one subscriber has."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


def _hash(kind: int, value: str, key: bytes) -> int:
    digest = hashlib.blake2b(value.encode(), key=key, digest_size=8, person=KINDS[kind].encode()).digest()
    return int.from_bytes(digest, "big")
