"""Loading: real and starter prompts, loaded and checked before any work starts. The only datasets import."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serve.sessions.records import text_fault
from train.corpora.description import USES, Description
from train.corpora.pool import KINDS, LABELS, Pool, PromptRow, Source
from train.corpora.starter.corpus import starter_corpora

MIN_CONVERSATIONS = 2
"""Fewer can't be split between learning and calibration."""
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class CorporaSettings:
    """Which prompts sessions are composed from.

    `dir` is a folder of `NAME.jsonl.gz` files with a CARDS.json, or None; `described` names corpora that have a file in
    `conf/descriptions` (or is the path of such a file), which come from the hub or, where they lie there, from
    `hub_dir`/OWNER/NAME; `use` limits both to these uses; `starter` adds `starter_prompts` of the embedded starter
    corpus. Of a real corpus at most `max_prompts` are taken, whole conversations from all over it.
    """

    dir: str | None = None
    described: tuple[str, ...] = field(default=())
    hub_dir: str | None = None
    use: tuple[str, ...] = ("train",)
    max_prompts: int = 6000
    starter: bool = True
    starter_prompts: int = 36000
    exclude: tuple[str, ...] = field(default=())
    cache_dir: str = ".cache/corpora"


def load_pool(settings: CorporaSettings, *, seed: int) -> Pool:
    """All prompts that the settings name.

    Raises:
        ValueError: naming file, field and what was expected, when a corpus is missing, empty or malformed.
    """
    found = [_found(description, settings.hub_dir) for description in _described(settings)]
    parts: list[tuple[Source, Sequence[PromptRow]]] = []
    if settings.starter:
        parts += starter_corpora(settings.starter_prompts, seed=seed)
    if settings.dir is not None:
        parts += [(source, rows) for source, rows in _folder(Path(settings.dir), settings)]
    parts += [(place.description.source, _read(place, settings)) for place in found]
    if not parts:
        raise ValueError("corpora: none of starter, dir and described is set, expected at least one of them")
    names = [source.name for source, _ in parts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"corpora: {twice} are named twice, expected each corpus once")
    return Pool.of(parts)


def _folder(folder: Path, settings: CorporaSettings) -> Iterator[tuple[Source, Sequence[PromptRow]]]:
    cards = _cards(folder)
    names = {card["name"] for card in cards}
    if unknown := set(settings.exclude) - names:
        raise ValueError(f"corpora.exclude names {sorted(unknown)}, expected some of {sorted(names)}")
    chosen = [card for card in cards if card["use"] in settings.use and card["name"] not in settings.exclude]
    for card in chosen:
        if not (folder / f"{card['name']}.jsonl.gz").is_file():
            raise ValueError(f"{folder / 'CARDS.json'} names {card['name']}, but {card['name']}.jsonl.gz is not there")
    for card in chosen:
        source = Source(
            card["name"], card["label"], card["kind"], card["group"], licence=card.get("licence", ""),
            may_ship=card["use"] == "train",
        )  # fmt: skip
        yield source, _rows(folder / f"{card['name']}.jsonl.gz", settings.max_prompts)


def _cards(folder: Path) -> list[dict[str, Any]]:
    path = folder / "CARDS.json"
    if not path.is_file():
        raise ValueError(f"{path} is not there, expected a folder of corpora with a CARDS.json")
    cards: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    allowed = {"label": LABELS, "kind": KINDS, "use": USES}
    for card in cards:
        for key in ("name", "label", "kind", "group", "use"):
            if key not in card:
                raise ValueError(f"{path}: card {card.get('name', '?')!r} has no {key!r}")
        for key, values in allowed.items():
            if card[key] not in values:
                raise ValueError(f"{path}: {card['name']}: {key} is {card[key]!r}, expected one of {list(values)}")
    return cards


def _rows(path: Path, max_prompts: int) -> list[PromptRow]:
    """At most `max_prompts` usable prompts of one file, whole conversations, evenly from all over the file."""
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    disable_progress_bars()  # a bar for each of a hundred corpora buries what a run says
    try:
        table = load_dataset("json", data_files=str(path), split="train")
    except (DatasetsError, StopIteration, EOFError, OSError) as fault:  # an empty file ends its reader's generator
        raise ValueError(f"{path}: holds no rows that can be read, expected JSON lines") from fault
    for column in ("text", "conversation_id", "turn"):
        if column not in table.column_names:
            raise ValueError(f"{path}: column {column!r} is missing, found {table.column_names}")
    columns = table.to_dict()
    n_rows = len(columns["text"])
    users = columns.get("user_id") or [None] * n_rows
    systems = columns.get("system") or [None] * n_rows
    rows = [
        PromptRow(text, str(conversation), int(turn), None if user is None else str(user), system or None)
        for text, conversation, turn, user, system in zip(
            columns["text"], columns["conversation_id"], columns["turn"], users, systems, strict=True
        )
        if isinstance(text, str) and text_fault(text) is None
    ]
    _check_many(str(path), "conversation_id", (row.conversation for row in rows))
    return _thinned(rows, max_prompts)


def _thinned(rows: list[PromptRow], max_prompts: int) -> list[PromptRow]:
    if len(rows) <= max_prompts:
        return rows
    conversations = list(dict.fromkeys(row.conversation for row in rows))
    step = len(rows) / max_prompts
    kept = {conversations[int(i * step)] for i in range(int(len(conversations) / step))}
    return [row for row in rows if row.conversation in kept]


def _check_many(where: str, column: str, conversations: Iterable[str]) -> None:
    n_found = len(set(conversations))
    if n_found < MIN_CONVERSATIONS:
        raise ValueError(
            f"{where}: holds usable prompts of {n_found} conversations (by {column!r}), "
            f"expected {MIN_CONVERSATIONS} or more"
        )


@dataclass(frozen=True, slots=True)
class _Place:
    """A described corpus where it was found: what `load_dataset` takes, and a digest of what lies there."""

    description: Description
    arguments: Mapping[str, Any]
    digest: str


def _described(settings: CorporaSettings) -> list[Description]:
    descriptions = [Description.read(name) for name in settings.described]
    return [description for description in descriptions if description.use in settings.use]


def _found(description: Description, hub_dir: str | None) -> _Place:
    """Where a described corpus lies, its columns checked on its first row."""
    place = _local(description, hub_dir) if description.hub is None or hub_dir is not None else None
    place = place or _remote(description, hub_dir)
    first = next(_records(place), None)
    if first is None:
        raise ValueError(f"{description.name}: {place.arguments['path']} is empty, expected rows")
    wanted = (*description.columns.names, *(("where", column) for column in description.where))
    for key, column in wanted:
        if column not in first:
            raise ValueError(
                f"{description.name}: {key} is said to be column {column!r}, which {place.arguments['path']} doesn't "
                f"have; expected one of {list(first)}"
            )
    return place


def _local(description: Description, hub_dir: str | None) -> _Place | None:
    """The local copy of a corpus; None where a dataset of the hub has none."""
    if description.hub is None:
        path = Path(str(description.path))
        if not path.exists():
            raise ValueError(
                f"{description.name}: {path} is not there, expected a file or a folder of Parquet or JSONL"
            )
    else:
        copies = [Path(str(hub_dir)) / description.hub, Path(str(hub_dir)) / description.hub.rpartition("/")[2]]
        path = next((copy for copy in copies if copy.is_dir()), copies[0])
        if not path.is_dir():
            return None
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    if path.is_file():
        kind = "parquet" if path.suffix == ".parquet" else "json"
        return _Place(description, {"path": kind, "data_files": str(path), "split": "train"}, _digest(stamps))
    arguments = {"path": str(path), "split": description.split}
    if description.subset is not None:  # the card names subsets; a bare copy has them as folders
        arguments |= {"name" if (path / "README.md").is_file() else "data_dir": description.subset}
    return _Place(description, arguments, _digest(stamps))


def _remote(description: Description, hub_dir: str | None) -> _Place:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    hub = str(description.hub)
    try:
        commit = HfApi().dataset_info(hub, revision=description.revision, timeout=_PATIENCE_S).sha
    except (OSError, HfHubHTTPError, OfflineModeIsEnabled, _http_fault()) as fault:
        copy = f"{hub_dir or 'DIR'}/{hub}"
        raise ValueError(
            f"{description.name}: dataset {hub} can't be reached on the hub ({type(fault).__name__}); where it can, "
            f"`hf download {hub} --repo-type dataset --local-dir {copy}` (`hf auth login` if it asks for consent); "
            f"then give corpora.hub_dir={hub_dir or 'DIR'}"
        ) from fault
    arguments = {"path": hub, "name": description.subset, "split": description.split, "revision": commit}
    return _Place(description, arguments, _digest(commit))


def _http_fault() -> type[Exception]:
    import httpx

    return httpx.HTTPError


def _records(place: _Place) -> Iterator[Mapping[str, Any]]:
    """Rows one after the other; a large set is never held whole."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        yield from load_dataset(**place.arguments, streaming=True)
    except (OSError, ValueError, DatasetsError) as fault:
        told = next(iter(str(fault).splitlines()), "")
        raise ValueError(f"{place.description.name}: {place.arguments['path']} can't be read: {told}") from fault


def _read(place: _Place, settings: CorporaSettings) -> list[PromptRow]:
    """The prompts of a described corpus, from the cache where the same was read before."""
    description = place.description
    key = _digest([asdict(description), place.digest, settings.max_prompts])
    path = Path(settings.cache_dir) / f"{description.name}-{key[:16]}.parquet"
    if not path.is_file():
        kept = _sampled(description.rows(_records(place)), settings.max_prompts)
        _check_many(description.name, description.columns.conversation or "row", (row.conversation for row in kept))
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}.tmp")
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in kept], _SCHEMA), fresh)
        fresh.replace(path)
    return [PromptRow(**row) for row in pq.read_table(path).to_pylist()]


_SCHEMA = pa.schema(
    [("text", pa.string()), ("conversation", pa.string()), ("turn", pa.int64()), ("person", pa.string()),
     ("system", pa.string())]
)  # fmt: skip


def _sampled(rows: Iterable[PromptRow], max_prompts: int) -> list[PromptRow]:
    """Whole conversations of at most `max_prompts` prompts in all, those whose names hash lowest (a bottom-k sample:
    any order of the rows gives the same, and never more than twice as many are held)."""
    held: dict[str, list[PromptRow]] = {}
    n_held, limit = 0, b"\xff" * 8
    for row in rows:
        if _rank(row.conversation) > limit:
            continue
        held.setdefault(row.conversation, []).append(row)
        n_held += 1
        if n_held > 2 * max_prompts:
            held, limit = _lowest(held, max_prompts)
            n_held = sum(map(len, held.values()))
    held, _ = _lowest(held, max_prompts)
    return [row for conversation in held.values() for row in conversation]


def _lowest(held: dict[str, list[PromptRow]], max_prompts: int) -> tuple[dict[str, list[PromptRow]], bytes]:
    kept: dict[str, list[PromptRow]] = {}
    n_kept, limit = 0, b"\xff" * 8
    for conversation in sorted(held, key=_rank):
        n_kept += len(held[conversation])
        if n_kept > max_prompts and kept:
            break
        kept[conversation], limit = held[conversation], _rank(conversation)
    return kept, limit if len(kept) < len(held) else b"\xff" * 8


def _rank(conversation: str) -> bytes:
    return blake2b(conversation.encode(), digest_size=8).digest()


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
