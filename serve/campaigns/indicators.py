"""Indicators: what one provider can tell another of its campaigns: skeleton hashes and cells, no text, no account.

A session is matched when it sends skeletons of a campaign again and again. How much likelier its cells are under the
campaign's profile than under that of all traffic is reported with it, and matches nobody: 1 in 40 benign accounts asks
about the same areas for long. Hashes don't reveal what they are of, but whoever holds a prompt can tell that it is
listed; an indicator file is for those who fight the same campaign.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.campaigns.fingerprints import fingerprint_keys
from serve.io.writers import check_seal, replacing, sealed
from serve.sessions.canonical_text import canonical
from serve.sessions.records import Sessions

if TYPE_CHECKING:
    from serve.campaigns.findings import Campaign
    from serve.campaigns.sketches import Sketches

FORMAT_VERSION = 1
MIN_PROMPTS, MIN_SHARE = 4, 0.1
"""Prompts of a session, and share of them, that must carry a listed skeleton."""

SCHEMA = pa.schema([
    ("session_id", pa.string()), ("account_id", pa.string()), ("campaign_id", pa.string()), ("n_exchanges", pa.int64()),
    ("n_skeletons", pa.int64()), ("gain", pa.float64()),
])  # fmt: skip
"""Columns of a matches file, one row a session and campaign: prompts with a listed skeleton, and the gain of its cells
(nats), null where the indicators are of another map."""

MAX_BYTES, MAX_CAMPAIGNS, MAX_SKELETONS, MAX_CELLS = 64 << 20, 10_000, 100_000, 32_767

_SMOOTHING = 0.05
_ROUNDING = 1e-6  # of each share that `write` writes
_NAME = re.compile(r"[\w.:-]{1,80}", re.ASCII)
_KEY = re.compile(r"[0-9a-f]{1,16}")
_CELL = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True)
class Indicator:
    """One campaign: `skeletons` (hashes), and `profile` (n_cells,) the share of each cell of the map."""

    campaign_id: str
    skeletons: frozenset[int]
    profile: NDArray[np.float64]


@dataclass(frozen=True)
class Indicators:
    """Campaigns to look for, with the `usual` share (n_cells,) of each cell of the map of bundle `bundle_id`."""

    bundle_id: str
    usual: NDArray[np.float64]
    indicators: tuple[Indicator, ...]


def write(path: Path, campaigns: Sequence[Campaign], sketches: Sketches, n_cells: int, bundle_id: str) -> None:
    """Write what can be shared of these campaigns."""
    usual = np.bincount(sketches.items.cell.astype(np.int64) + 1, weights=sketches.weight, minlength=n_cells + 1)[1:]
    shares = usual / max(usual.sum(), 1e-9)
    listed = {
        "format_version": FORMAT_VERSION,
        "bundle": bundle_id,
        "n_cells": n_cells,
        "usual": {str(cell): round(float(share), 6) for cell, share in enumerate(shares) if share > 0},
        "campaigns": [
            {
                "campaign_id": campaign.campaign_id,
                "skeletons": sorted(campaign.skeletons),
                "cells": {str(cell): round(share, 6) for cell, share in campaign.cells.items()},
            }
            for campaign in campaigns
        ],
    }
    with replacing(path) as part:
        part.write_text(json.dumps(sealed(listed), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Indicators:
    """Read an indicator file, which may come from anyone.

    Raises:
        ValueError: naming the file and what is wrong.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{path} has {size} bytes, expected at most {MAX_BYTES}")
        listed = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        if listed["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"{path} has format version {str(listed['format_version'])[:20]}, this release reads {FORMAT_VERSION}"
            )
        _check_seal(listed)
        n_cells = _n_cells(listed["n_cells"])
        if not isinstance(listed["campaigns"], list) or len(listed["campaigns"]) > MAX_CAMPAIGNS:
            raise _WrongError(f"campaigns that are no list of at most {MAX_CAMPAIGNS}")
        found = tuple(_indicator(entry, n_cells) for entry in listed["campaigns"])
        return Indicators(_name(listed["bundle"], "bundle"), _profile(listed["usual"], n_cells), found)
    except _WrongError as fault:
        raise ValueError(f"{path} holds no indicators: {fault}") from fault
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as fault:
        raise ValueError(f"{path} holds no indicators ({type(fault).__name__})") from fault
    except (json.JSONDecodeError, UnicodeDecodeError) as fault:
        raise ValueError(f"{path} holds no indicators ({type(fault).__name__})") from fault


def check_map(known: Indicators, path: Path, bundle_id: str, n_cells: int) -> None:
    """Refuse indicators that name this bundle but have another number of cells than its map.

    Raises:
        ValueError: with both numbers.
    """
    if known.bundle_id == bundle_id and len(known.usual) != n_cells:
        raise ValueError(f"{path} has {len(known.usual)} cells for bundle {bundle_id}, expected {n_cells}")


def match(known: Indicators, sessions: Sessions, cells: NDArray[np.int64], bundle_id: str) -> pa.Table:
    """Sessions that resemble a campaign, of `SCHEMA`; `cells` (n_prompts,) holds the cell of each prompt, -1 for none.

    Cells count only where bundle `bundle_id`, which told them, is the one that the indicators were made with.
    """
    keys = fingerprint_keys([canonical(prompt) for prompt in sessions.prompts])
    owner = np.repeat(np.arange(len(sessions)), sessions.n_exchanges)
    columns = []
    for indicator in known.indicators:
        listed = np.array(sorted(indicator.skeletons), dtype=np.uint64)
        n_skeletons = np.bincount(owner, weights=np.isin(keys, listed).any(axis=1), minlength=len(sessions))
        gain = np.full(len(sessions), np.nan)
        if bundle_id == known.bundle_id:
            ratio = np.append(_log_ratio(indicator.profile, known.usual), 0.0)
            gain = np.bincount(owner, weights=ratio[cells], minlength=len(sessions))
        enough = np.maximum(MIN_PROMPTS, MIN_SHARE * sessions.n_exchanges)
        alike = np.flatnonzero(n_skeletons >= enough)
        columns += [(row, indicator.campaign_id, int(n_skeletons[row]), float(gain[row])) for row in alike.tolist()]
    return pa.Table.from_pylist([
        {
            "session_id": sessions.session_ids[row],
            "account_id": sessions.account_ids[row],
            "campaign_id": campaign_id,
            "n_exchanges": int(sessions.n_exchanges[row]),
            "n_skeletons": n_skeletons,
            "gain": None if np.isnan(gain) else round(gain, 3),
        }
        for row, campaign_id, n_skeletons, gain in sorted(columns)
    ], SCHEMA)  # fmt: skip


def _log_ratio(profile: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = _SMOOTHING / max(len(usual), 1)
    return np.asarray(np.log(((1 - _SMOOTHING) * profile + flat) / ((1 - _SMOOTHING) * usual + flat)))


class _WrongError(ValueError):
    """Something in an indicator file that can't be: says what, and what was expected."""


def _check_seal(listed: Mapping[str, Any]) -> None:
    try:
        check_seal(listed)
    except ValueError as fault:
        raise _WrongError(str(fault)) from fault


def _n_cells(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= MAX_CELLS:
        raise _WrongError(f"n_cells {str(given)[:20]}, expected 1 to {MAX_CELLS}")
    return given


def _name(given: object, what: str) -> str:
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise _WrongError(f"a {what} that is no name, expected up to 80 letters, digits and . : _ -")
    return given


def _indicator(entry: Mapping[str, Any], n_cells: int) -> Indicator:
    skeletons = entry["skeletons"]
    if not isinstance(skeletons, list) or len(skeletons) > MAX_SKELETONS:
        raise _WrongError(f"a campaign whose skeletons are no list of at most {MAX_SKELETONS}")
    for key in skeletons:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise _WrongError("a skeleton that is no hash, expected 1 to 16 hex digits")
    keys = frozenset(int(key, 16) for key in skeletons)
    return Indicator(_name(entry["campaign_id"], "campaign_id"), keys, _profile(entry["cells"], n_cells))


def _profile(shares: Mapping[str, object], n_cells: int) -> NDArray[np.float64]:
    profile = np.zeros(n_cells)
    for cell, share in shares.items():
        if not _CELL.fullmatch(cell) or int(cell) >= n_cells:
            raise _WrongError(f"the cell {cell[:10]!r}, expected 0 to {n_cells - 1}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
            raise _WrongError(f"the share {str(share)[:20]} of a cell, expected 0 to 1")
        profile[int(cell)] = share
    if (total := float(profile.sum())) > 1.0 + _ROUNDING * n_cells:
        raise _WrongError(f"shares of cells that add up to {total:.4g}, expected at most 1")
    return profile


def _refuse_constant(name: str) -> float:
    raise _WrongError(f"the number {name}, expected finite ones")
