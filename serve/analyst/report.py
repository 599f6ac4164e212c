"""Report: a file of verdicts as one page to read, print and pass on; it needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.analyst.account_details import AccountDetails, Shade, account_details, accounts_of, depths
from serve.analyst.charts import Chart, histogram, timeline
from serve.analyst.map_counts import MapCounts, cell_order, cell_skills, count_map
from serve.analyst.map_drawing import MapDrawing
from serve.analyst.rendering import check_page, render
from serve.bundle.bundle import Bundle
from serve.bundle.files import RELEASED
from serve.campaigns.campaign_files import CampaignFile, read_campaigns
from serve.io.discovery import InputError
from serve.io.writers import check_places, replacing
from serve.scoring import accounts
from serve.scoring.accounts import suspects
from serve.scoring.verdict import LABELS, Verdicts
from serve.scoring.verdict_card import plain
from serve.scoring.verdict_files import read_table, read_verdicts
from serve.sessions.size_classes import SIZE_EDGES, size_class

N_ACCOUNTS = 50
"""Accounts that are listed one by one."""

_NONE_TITLE = "None of the known areas"
_ACCOUNT_COLUMNS = ("account_id", "n_exchanges", "max_score", "p_value", "flagged_share", "label")


@dataclass(frozen=True)
class Request:
    """What to write a page of: a file of verdicts, and beside it what else is there of the same traffic."""

    verdicts: Path
    out: Path
    exchanges: tuple[Path, ...] = ()
    accounts: Path | None = None
    campaigns: Path | None = None
    bundle: Path = RELEASED


@dataclass(frozen=True, slots=True)
class SizeLine:
    """Sessions of one size class."""

    name: str
    n_sessions: int
    n_flagged: int
    threshold: float


@dataclass(frozen=True, slots=True)
class AreaTraffic:
    """Share (0-1) that an area has of the exchanges of flagged sessions and of all other ones."""

    title: str
    flagged: float
    others: float

    @property
    def most(self) -> float:
        """The larger share."""
        return max(self.flagged, self.others)


@dataclass(frozen=True, slots=True)
class AreaCells:
    """An area's cells on the map, like ones side by side, for flagged sessions and for others."""

    title: str
    flagged: tuple[Shade, ...]
    others: tuple[Shade, ...]


@dataclass(frozen=True)
class Page:
    """Everything that the page shows. `fpr` is the share of benign sessions that are flagged, None where no verdict
    tells; `expected` the sessions flagged if all were benign; `fpr_is_known` where the bundle says so itself."""

    source: str
    bundle: str
    n_sessions: int
    n_accounts: int
    n_exchanges: int
    n_flagged: int
    n_flagged_accounts: int
    n_suspects: int
    labels: Mapping[str, int]
    first_at: float
    last_at: float
    fpr: float | None
    fpr_is_known: bool
    expected: float | None
    thresholds: tuple[float, float] | None
    scores: Chart
    p_values: Chart
    sizes: tuple[SizeLine, ...]
    areas: tuple[AreaTraffic, ...]
    account_details: tuple[AccountDetails, ...]
    campaign_list: CampaignFile | None
    timeline: Chart | None
    n_untimed: int
    cells: tuple[AreaCells, ...]
    map_drawing: MapDrawing | None
    n_placed: tuple[int, int]
    map_share: float
    titles: Mapping[str, str]


def check_request(request: Request) -> None:
    """Refuse a page that would take the place of an input, can't be put where it should, or isn't named as one.

    Raises:
        ValueError: saying which.
    """
    check_page(request.out)
    inputs = (request.verdicts, request.accounts, request.campaigns, *request.exchanges)
    check_places((request.out,), [path for path in inputs if path is not None])


def write_report(request: Request) -> Page:
    """Write the page; gives back what it shows.

    Raises:
        ValueError: when an input isn't what it should be, or the page would take the place of one.
    """
    check_request(request)
    shown = page(request)
    text = render("report.html", page=shown)
    with replacing(request.out) as part:
        part.write_text(text, encoding="utf-8")
    return shown


def page(request: Request) -> Page:
    """Read and add up what the page shows.

    Raises:
        InputError: when an input isn't what it should be.
    """
    verdicts = read_verdicts(request.verdicts)
    bundle = _bundle(request, verdicts)
    fpr = _fpr(verdicts, bundle)
    rolled = accounts_of(verdicts, fpr=fpr or 0.0)
    if request.accounts is not None:
        rolled = _given_accounts(request.accounts, verdicts)
    shown = suspects(rolled, N_ACCOUNTS)
    placed = None
    if request.exchanges and bundle is not None:
        placed = count_map(request.exchanges, verdicts, shown.column("account_id").to_pylist(), bundle)
    return _page(request, verdicts, rolled, shown, bundle, placed, fpr)


def _page(
    request: Request, verdicts: Verdicts, rolled: pa.Table, shown: pa.Table, bundle: Bundle | None,
    placed: MapCounts | None, fpr: float | None,
) -> Page:  # fmt: skip
    titles = {**({} if bundle is None else bundle.capabilities.titles), "none": _NONE_TITLE}
    flagged = verdicts.is_flagged
    known = verdicts.threshold[flagged] if flagged.any() else verdicts.threshold
    return Page(
        source=request.verdicts.name,
        bundle=verdicts.bundle,
        n_sessions=len(verdicts),
        n_accounts=len(rolled),
        n_exchanges=int(verdicts.n_exchanges.sum()),
        n_flagged=int(flagged.sum()),
        n_flagged_accounts=rolled.column("label").to_pylist().count("harvesting"),
        n_suspects=len(suspects(rolled, len(rolled))),
        labels={label: int((verdicts.label == label).sum()) for label in reversed(LABELS)},
        first_at=_bound(np.fmin, verdicts.started_at),
        last_at=_bound(np.fmax, verdicts.ended_at),
        fpr=fpr,
        fpr_is_known=bundle is not None,
        expected=None if fpr is None else fpr * len(verdicts),
        thresholds=(float(known.min()), float(known.max())) if len(known) else None,
        scores=histogram({label: verdicts.score[verdicts.label == label] for label in reversed(LABELS)}),
        p_values=histogram({"sessions": verdicts.p_value}, 20),
        sizes=tuple(_sizes(verdicts)),
        areas=_areas(verdicts, titles),
        account_details=account_details(shown, verdicts, titles, bundle, placed),
        campaign_list=None if request.campaigns is None else read_campaigns(request.campaigns),
        timeline=timeline({"flagged": verdicts.started_at[flagged], "others": verdicts.started_at[~flagged]}),
        n_untimed=int(np.isnan(verdicts.started_at).sum()),
        cells=() if placed is None else tuple(_cells(placed)),
        map_drawing=None if placed is None else MapDrawing.of(placed),
        n_placed=(0, 0) if placed is None else (int(placed.flagged.sum()), int(placed.others.sum())),
        map_share=0.0 if placed is None else placed.share,
        titles=titles,
    )


def _bundle(request: Request, verdicts: Verdicts) -> Bundle | None:
    """The bundle that judged; None where it is another one and nothing but names would be wanted of it."""
    bundle = Bundle.load(request.bundle)
    if bundle.bundle_id == verdicts.bundle or not len(verdicts):
        return bundle
    if request.exchanges:
        raise InputError(f"{request.verdicts}: judged by bundle {plain(verdicts.bundle)}, not {bundle.bundle_id}")
    return None


def _fpr(verdicts: Verdicts, bundle: Bundle | None) -> float | None:
    """The share of benign sessions that are flagged: as the bundle says, else the largest p-value that was flagged."""
    flagged = verdicts.p_value[verdicts.is_flagged]
    if bundle is not None:
        return max(float(bundle.manifest["fpr"]), float(flagged.max(initial=0.0)))
    return float(flagged.max()) if len(flagged) else None


def _given_accounts(path: Path, verdicts: Verdicts) -> pa.Table:
    table = read_table(path, pa.schema([accounts.SCHEMA.field(name) for name in _ACCOUNT_COLUMNS]))
    if set(table.column("account_id").to_pylist()) != set(verdicts.account_ids):
        raise InputError(f"{path}: its accounts are not those of the verdicts")
    return table


def _sizes(verdicts: Verdicts) -> Iterator[SizeLine]:
    classes = size_class(verdicts.n_exchanges)
    for index, low in enumerate(SIZE_EDGES):
        own = classes == index
        if own.any():
            high = SIZE_EDGES[index + 1] - 1 if index + 1 < len(SIZE_EDGES) else None
            name = f"{low} or more" if high is None else f"{low}–{high}"
            n_flagged = int(verdicts.is_flagged[own].sum())
            yield SizeLine(name, int(own.sum()), n_flagged, float(verdicts.threshold[own].min()))


def _areas(verdicts: Verdicts, titles: Mapping[str, str]) -> tuple[AreaTraffic, ...]:
    """Areas by what flagged sessions, or where there are none all sessions, have of them."""
    flagged = verdicts.is_flagged
    ours, others = _mix(verdicts, flagged), _mix(verdicts, ~flagged)
    names = (*verdicts.areas, "none")
    lines = [
        AreaTraffic(titles.get(name, name), ours[index], others[index])
        for index, name in enumerate(names)
        if ours[index] or others[index]
    ]
    return tuple(sorted(lines, key=lambda line: (-line.flagged, -line.others, line.title)))


def _mix(verdicts: Verdicts, chosen: NDArray[np.bool_]) -> list[float]:
    weight = verdicts.n_exchanges[chosen].astype(np.float64)
    mixed: list[float] = (weight @ verdicts.area_share[chosen] / max(weight.sum(), 1.0)).tolist()
    return mixed


def _cells(placed: MapCounts) -> Iterator[AreaCells]:
    capabilities = placed.capabilities
    order, skill = cell_order(capabilities), cell_skills(capabilities)
    dark = {"flagged": depths(placed.flagged), "others": depths(placed.others)}
    for area, name in enumerate(capabilities.areas):
        own = order[capabilities.cell_areas[order] == area]
        sides = [
            tuple(
                Shade(capabilities.skills[skill[cell]].title, int(counts[cell]), round(float(dark[side][cell]), 2))
                for cell in own.tolist()
            )
            for side, counts in (("flagged", placed.flagged), ("others", placed.others))
        ]
        yield AreaCells(capabilities.titles[name], *sides)


def _bound(extreme: np.ufunc, times: NDArray[np.float64]) -> float:
    return float(extreme.reduce(times)) if len(times) else float("nan")
