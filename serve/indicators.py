"""Indicators: what one provider can tell another of its campaigns: skeleton hashes and cells, no text, no account.

A session is matched when it sends skeletons of a campaign again and again, or when its cells are far likelier under the
campaign's profile than under that of all traffic. Hashes don't reveal what they are of, but whoever holds a prompt can
tell that it is listed; an indicator file is for those who fight the same campaign.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.campaigns import Campaign
from serve.outputs import replacing
from serve.skeletons import skeleton_keys
from serve.sketches import Sketches

FORMAT_VERSION = 1
MIN_PROMPTS = 3
"""Prompts of a session that must carry a listed skeleton."""

MIN_GAIN = 12.0
"""Nats by which a session's cells must be likelier under a campaign's profile."""

_SMOOTHING = 0.05


@dataclass(frozen=True)
class Indicator:
    """One campaign: `skeletons` (hashes), and `profile` (n_cells,) the share of each cell of the map."""

    campaign_id: str
    skeletons: frozenset[int]
    profile: NDArray[np.float64]


@dataclass(frozen=True)
class Indicators:
    """Campaigns to look for, with the `usual` share of each cell; `bundle_id` tells whose map the cells are of."""

    bundle_id: str
    usual: NDArray[np.float64]
    indicators: tuple[Indicator, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """A campaign that a session resembles: prompts with listed skeletons, and the gain (nats) of its cells."""

    campaign_id: str
    n_prompts: int
    gain: float


def write(path: Path, campaigns: Sequence[Campaign], sketches: Sketches, n_cells: int, bundle_id: str) -> None:
    """Write what can be shared of these campaigns."""
    usual = np.bincount(sketches.items.cell.astype(np.int64) + 1, weights=sketches.weight, minlength=n_cells + 1)[1:]
    usual = usual / max(usual.sum(), 1e-9)
    listed = {
        "format_version": FORMAT_VERSION,
        "map": bundle_id,
        "usual": {str(cell): round(float(share), 6) for cell, share in enumerate(usual) if share > 0},
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
        part.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def read(path: Path, n_cells: int) -> Indicators:
    """Read an indicator file, for a map of `n_cells` cells.

    Raises:
        ValueError: naming the file and what is wrong.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        if listed["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"{path} has format version {listed['format_version']!r}, this release reads {FORMAT_VERSION}"
            )
        return Indicators(
            str(listed["map"]), _profile(listed["usual"], n_cells),
            tuple(_indicator(entry, n_cells) for entry in listed["campaigns"]),
        )  # fmt: skip
    except (KeyError, TypeError, IndexError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as fault:
        raise ValueError(f"{path} holds no indicators ({type(fault).__name__})") from fault


def matches(
    known: Indicators, texts: Sequence[str], cells: NDArray[np.int64], *, same_map: bool = True
) -> tuple[Match, ...]:
    """Campaigns that a session of these canonical texts and cells resembles, clearest first.

    Cells count where they are of the `same_map`.
    """
    keys = skeleton_keys(texts)
    counts = np.bincount(cells[cells >= 0], minlength=len(known.usual)) if same_map else np.zeros(len(known.usual))
    found = []
    for indicator in known.indicators:
        n_prompts = sum(not indicator.skeletons.isdisjoint(row) for row in keys.tolist())
        gain = float(counts @ _log_ratio(indicator.profile, known.usual))
        if n_prompts >= MIN_PROMPTS or gain >= MIN_GAIN:
            found.append(Match(indicator.campaign_id, n_prompts, gain))
    return tuple(sorted(found, key=lambda match: (-match.n_prompts, -match.gain)))


def _log_ratio(profile: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = _SMOOTHING / max(len(usual), 1)
    return np.asarray(np.log(((1 - _SMOOTHING) * profile + flat) / ((1 - _SMOOTHING) * usual + flat)))


def _indicator(entry: Mapping[str, Any], n_cells: int) -> Indicator:
    skeletons = frozenset(int(key, 16) for key in entry["skeletons"])
    return Indicator(str(entry["campaign_id"]), skeletons, _profile(entry["cells"], n_cells))


def _profile(shares: Mapping[str, float], n_cells: int) -> NDArray[np.float64]:
    profile = np.zeros(n_cells)
    for cell, share in shares.items():
        profile[int(cell)] = float(share)
    return profile
