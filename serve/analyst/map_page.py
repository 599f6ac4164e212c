"""Map page: traffic on the capability map, as one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.analyst.map_projection import MapProjection
from serve.analyst.mapped_traffic import MappedTraffic, Units
from serve.analyst.rendering import render
from serve.bundle.bundle import Bundle
from serve.capability.breadth import LEVELS, CoverageNull
from serve.capability.capability_map import CapabilityMap
from serve.io.writers import replacing
from serve.sessions.size_classes import SIZE_EDGES

MAX_MARKS = 2_000
"""Sessions and accounts, each, that are drawn at most; more are drawn evenly from all."""
N_LISTED = 20
_WIDTH, _HEIGHT, _MARGIN = 1200.0, 820.0, 70.0
_LETTER, _LINE = 6.7, 13.0  # a letter's width and a line's height on the map, about
_TITLE_LETTER, _TITLE_LINE = 9.4, 18.0
_MAX_RADIUS = 26.0
_CHART_WIDTH, _CHART_HEIGHT = 900.0, 320.0
_BAND = (0.05, 0.95)


def write_map(placed: MappedTraffic, bundle: Bundle, path: Path) -> None:
    """Write the page: one file that needs no other, no network and no script, without any prompt text."""
    page = page_of(placed, bundle)
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def page_of(placed: MappedTraffic, bundle: Bundle) -> str:
    """The page as HTML."""
    capabilities = bundle.capabilities
    return render(
        "map.html",
        placed=placed,
        bundle_id=bundle.bundle_id,
        drawing=_drawing(placed, capabilities),
        heat=_heat(placed.skills, capabilities),
        band=None if bundle.benign is None else _band(bundle.benign.coverage),
        marks=[("session", _marks(placed.sessions)), ("account", _marks(placed.accounts))],
        listed=[
            ("accounts", _listed(placed.accounts, capabilities)),
            ("sessions", _listed(placed.sessions, capabilities)),
        ],
        ticks=[(f"{n:,}", _x(n)) for n in (8, 20, 50, 100, 200, 500, 1000, 10_000)],
        levels=[(f"{value:+.1f}", _y(value)) for value in (-1.0, -0.5, 0.0, 0.5, 1.0)],
        size=(_WIDTH, _HEIGHT),
        n_listed=N_LISTED,
        chart=(_CHART_WIDTH, _CHART_HEIGHT),
    )


@dataclass(frozen=True, slots=True)
class _Bubble:
    """A skill on the map; `label` is where its name is written, None where there is no room for it."""

    title: str
    area: str
    count: int
    share: float
    x: float
    y: float
    radius: float
    label: tuple[float, float, str] | None


@dataclass(frozen=True)
class _Drawing:
    outlines: list[str]
    names: list[tuple[str, float, float]]
    cells: list[tuple[float, float, bool]]
    bubbles: list[_Bubble]


def _drawing(placed: MappedTraffic, capabilities: CapabilityMap) -> _Drawing:
    layout = MapProjection.of(capabilities)
    skills, cells, areas = (_on_page(places) for places in (layout.skills, layout.cells, layout.areas))
    titles = list(capabilities.titles.values())
    share = placed.skills / max(int(placed.skills.sum()), 1)
    radius = np.maximum(_MAX_RADIUS * np.sqrt(share / max(float(share.max()), 1e-9)), 2.0)
    room = _Room()
    names = []
    for title, (x, y) in zip(titles, areas.tolist(), strict=True):
        names.append((title, x, room.title(title, x, y)))
    order = np.argsort(-placed.skills, kind="stable").tolist()
    labels = {
        index: room.label(skills[index], float(radius[index]), capabilities.skills[index].title) for index in order
    }
    return _Drawing(
        [" ".join(f"{x:.1f},{y:.1f}" for x, y in _on_page(outline).tolist()) for outline in layout.outlines],
        names,
        [(x, y, bool(count)) for (x, y), count in zip(cells.tolist(), placed.cells.tolist(), strict=True)],
        [
            _Bubble(
                skill.title, titles[skill.area], int(placed.skills[index]), float(share[index]),
                float(skills[index, 0]), float(skills[index, 1]), float(radius[index]), labels[index],
            )
            for index, skill in enumerate(capabilities.skills)
        ],
    )  # fmt: skip


class _Room:
    """Room for labels: each takes a box that no later one may touch."""

    def __init__(self) -> None:
        self._boxes: list[tuple[float, float, float, float]] = []

    def take(self, x: float, y: float, width: float, height: float) -> bool:
        """Take a box if it is free and on the page."""
        box = (x, y, x + width, y + height)
        if box[0] < 0 or box[2] > _WIDTH or box[1] < 0 or box[3] > _HEIGHT:
            return False
        if any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in self._boxes):
            return False
        self._boxes.append(box)
        return True

    def title(self, text: str, x: float, y: float) -> float:
        """How high an area's name is written: at `y`, or as near above or below as there is room."""
        width = _TITLE_LETTER * len(text)
        steps = sorted(range(-24, 25), key=abs)
        tops = (y + step * _TITLE_LINE - _TITLE_LINE / 2 for step in steps)
        free = (top for top in tops if self.take(x - width / 2, top, width, _TITLE_LINE))
        return next(free, y - _TITLE_LINE / 2) + _TITLE_LINE * 0.75

    def label(self, place: NDArray[np.float64], radius: float, text: str) -> tuple[float, float, str] | None:
        """Where a label goes and how it is anchored: to the right, to the left, below or above of a bubble."""
        (x, y), width, gap = place.tolist(), _LETTER * len(text), radius + 3
        for left, middle, anchor in (
            (x + gap, y, "start"), (x - gap - width, y, "end"), (x - width / 2, y + gap + _LINE / 2, "middle"),
            (x - width / 2, y - gap - _LINE / 2, "middle"),
        ):  # fmt: skip
            if self.take(left, middle - _LINE / 2, width, _LINE):
                return {"start": left, "end": left + width, "middle": x}[anchor], middle + 3.5, anchor
        return None


@dataclass(frozen=True, slots=True)
class _Warmth:
    """One skill of the heat table: `heat` is 0-1, its share against the largest of any."""

    title: str
    count: int
    share: float
    heat: float


def _heat(skills: NDArray[np.int64], capabilities: CapabilityMap) -> list[tuple[str, int, float, list[_Warmth]]]:
    """Areas with count, share, and their skills."""
    total, most = max(int(skills.sum()), 1), max(int(skills.max(initial=0)), 1)
    rows = []
    for area, name in enumerate(capabilities.areas):
        own = [
            _Warmth(skill.title, int(count), int(count) / total, int(count) / most)
            for skill, count in zip(capabilities.skills, skills, strict=True)
            if skill.area == area
        ]
        count = sum(warmth.count for warmth in own)
        rows.append((capabilities.titles[name], count, count / total, own))
    return rows


def _band(null: CoverageNull) -> str:
    """Corners of the band that 90 % of benign sessions keep to, by number of exchanges."""
    bands = null.band
    low, high = (bands[:, int(np.abs(LEVELS - level).argmin())] for level in _BAND)
    edges = [edge for edge in SIZE_EDGES if edge >= 8]
    first = len(SIZE_EDGES) - len(edges)
    steps = [(edges[i], edges[i + 1] if i + 1 < len(edges) else 20_000, first + i) for i in range(len(edges))]
    upper = [(_x(n), _y(high[i])) for start, stop, i in steps for n in (start, stop)]
    lower = [(_x(n), _y(low[i])) for start, stop, i in steps for n in (start, stop)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])


def _marks(units: Units) -> list[tuple[str, int, float, float, float, bool]]:
    """Id, exchanges, systematicness, place and whether outside the benign band, of units that have a number."""
    known = np.flatnonzero(~np.isnan(units.systematicness))
    drawn = known[:: max(1, -(-len(known) // MAX_MARKS))]
    outside = (units.position < _BAND[0]) | (units.position > _BAND[1])
    return [
        (
            units.ids[i], int(units.n_placed[i]), float(units.systematicness[i]), _x(int(units.n_placed[i])),
            _y(float(units.systematicness[i])), bool(outside[i]),
        )
        for i in drawn.tolist()
    ]  # fmt: skip


def _listed(units: Units, capabilities: CapabilityMap) -> list[tuple[str, int, int, float, float, str]]:
    """The units that lie farthest from benign ones, of those with a number, farthest first."""
    known = np.flatnonzero(~np.isnan(units.position))
    distance = np.abs(units.position[known] - 0.5)
    order = known[np.lexsort((-np.abs(units.systematicness[known]), -distance))][:N_LISTED]
    titles = list(capabilities.titles.values())
    return [
        (
            units.ids[i], int(units.n_placed[i]), int(units.reached[i]), float(units.systematicness[i]),
            float(units.position[i]), titles[int(units.area[i])] if units.area[i] >= 0 else "none of these",
        )
        for i in order.tolist()
    ]  # fmt: skip


def _x(n: float) -> float:
    """Place of a number of exchanges on the chart: logarithmic from 8 to 20,000."""
    return float(_CHART_WIDTH * np.log(np.clip(n, 8, 20_000) / 8) / np.log(20_000 / 8))


def _y(systematicness: float) -> float:
    return float(_CHART_HEIGHT * (1.0 - systematicness) / 2.0)


def _on_page(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places 0-1 on the page, upwards."""
    return np.stack(
        [
            _MARGIN + places[:, 0] * (_WIDTH - 2 * _MARGIN),
            _HEIGHT - _MARGIN - places[:, 1] * (_HEIGHT - 2 * _MARGIN),
        ],
        axis=1,
    )
