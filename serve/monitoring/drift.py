"""Drift: how far traffic has moved from the benign sessions that a bundle knows, by feature, area and score.

The reference is the bundle's own benign profile, weighted to the sizes of the sessions at hand, or an earlier file of
verdicts of the same bundle. Two distances say how far: the population stability index (Jeffreys' divergence of binned
shares; Siddiqi 2006) and the energy distance (Székely & Rizzo 2013) on the scale of benign quantiles. An alarm needs
both a distance that matters and one that chance doesn't explain (Yurdakul & Naranjo 2020 for the index's law).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from serve.bundle.bundle import Bundle
from serve.model.benign_profile import EDGES, LETTERS, P_EDGES, p_counts
from serve.monitoring.traffic import MIN_PSI_EARLIER, Reference, Traffic

MIN_SESSIONS = 100
"""Effective number of sessions below which nothing is said."""
MIN_FPR_RATIO = 3.0
"""How many times its usual value the estimated false-positive rate must be for an alarm."""
_LEVEL = 1e-3  # probability of any alarm by chance alone, over all that is tested
_SIZE = "size."
_BULK = 0.1  # p-values above this tell where the bulk of traffic lies, however much harvesting there is below


@dataclass(frozen=True, slots=True)
class Moved:
    """One thing that is compared: its stability index, the index that alarms, its energy distance where it has an
    order, and its mean before and now (a quantile of benign sessions for a feature, a share for an area)."""

    kind: str
    name: str
    psi: float
    limit: float | None
    energy: float | None
    before: float
    now: float

    @property
    def is_alarm(self) -> bool:
        """Whether the distance both matters and is more than chance explains."""
        return self.limit is not None and self.psi > self.limit


@dataclass(frozen=True)
class Drift:
    """What moved, farthest first, and the rates of false positives: `expected` where the bundle was trained, `flagged`
    now, and `estimated` from the bulk of p-values."""

    n_sessions: int
    n_effective: float
    reference: str
    bundle: str
    features: tuple[Moved, ...]
    areas: tuple[Moved, ...]
    scores: Moved
    area_mix: Moved
    none_before: float
    none_now: float
    fpr_expected: float
    fpr_flagged: float
    fpr_estimated: float
    fpr_limit: float

    @property
    def is_decidable(self) -> bool:
        """Whether there are sessions enough to say anything."""
        return self.n_effective >= MIN_SESSIONS

    @property
    def alarms(self) -> tuple[str, ...]:
        """What alarms, as lines."""
        if not self.is_decidable:
            return ()
        found = [
            f"{moved.kind} {moved.name}" for moved in (*self.features, self.area_mix, self.scores) if moved.is_alarm
        ]
        if self.fpr_estimated > self.fpr_limit:
            found.append(f"estimated false-positive rate {self.fpr_estimated:.4f}, usually {self.fpr_expected:.4f}")
        return tuple(found)

    def record(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {**asdict(self), "is_decidable": self.is_decidable, "alarms": list(self.alarms)}


def drift(traffic: Traffic, usual: Reference, bundle: Bundle) -> Drift:
    """How far this traffic has moved from what is usual."""
    features = list(bundle.manifest["features"])
    kept = [column for column, name in enumerate(features) if not name.startswith(_SIZE)]
    scale = 1.0 / max(traffic.n_effective, 1.0) + 1.0 / max(usual.n_sessions, 1.0)
    chance = _Chance(scale, len(kept) + 3)
    found = [
        _moved(
            "feature", features[column], _counts(traffic.codes[:, column], len(LETTERS)), usual.letters[column],
            chance.limit(usual.letters[column], usual.min_psi), _LETTER_MIDDLES,
        )
        for column in kept
    ]  # fmt: skip
    shares = traffic.area_share.mean(axis=0) if len(traffic) else usual.area_mix
    mix_limit = chance.limit(usual.area_mix, MIN_PSI_EARLIER)
    mix = _moved("area mix", "of prompts", shares * len(traffic), usual.area_mix, mix_limit, None)
    names = [*bundle.capabilities.areas, "none"]
    areas = [
        Moved("area", name, _part_psi(float(now), float(before)), None, None, float(before), float(now))
        for name, before, now in zip(names, usual.area_mix, shares, strict=True)
    ]
    p_bins = p_counts(traffic.p_value)
    p_limit = chance.limit(usual.p_bins, MIN_PSI_EARLIER)
    scores = _moved("scores", "as p-values", p_bins, usual.p_bins, p_limit, _P_MIDDLES)
    fpr = float(bundle.manifest["fpr"])
    expected, estimated = _below(usual.p_bins, fpr), _estimated(p_bins, usual.p_bins, fpr)
    least = max(expected, 1.0 / usual.n_sessions)
    return Drift(
        n_sessions=len(traffic),
        n_effective=traffic.n_effective,
        reference=usual.name,
        bundle=bundle.bundle_id,
        features=tuple(sorted(found, key=lambda moved: -moved.psi)),
        areas=tuple(sorted(areas, key=lambda moved: -moved.psi)),
        scores=scores,
        area_mix=mix,
        none_before=float(usual.area_mix[-1]),
        none_now=float(shares[-1]),
        fpr_expected=expected,
        fpr_flagged=float((traffic.p_value <= fpr).mean()) if len(traffic) else 0.0,
        fpr_estimated=estimated,
        fpr_limit=MIN_FPR_RATIO * least + 3.0 * np.sqrt(least * scale),
    )


def stability_index(counts: NDArray[np.float64], usual: NDArray[np.float64]) -> float:
    """Population stability index of counts against usual shares, 0 where they are alike.

    The sum of (o - e) log(o / e) over bins, with half a session more in each.
    """
    smoothing = 0.5
    observed = (counts + smoothing) / (counts.sum() + smoothing * len(counts))
    expected = (usual * max(counts.sum(), 1.0) + smoothing) / (max(counts.sum(), 1.0) + smoothing * len(counts))
    return float(((observed - expected) * np.log(observed / expected)).sum())


def energy_distance(counts: NDArray[np.float64], usual: NDArray[np.float64], middles: NDArray[np.float64]) -> float:
    """Energy distance of numbers binned at `middles`, 0 where they are alike: 2 times the integral of (F - G)²."""
    gap = np.cumsum(counts / max(counts.sum(), 1.0) - usual)[:-1]
    return float(2.0 * (gap**2 * np.diff(middles)).sum())


@dataclass(frozen=True, slots=True)
class _Chance:
    """What chance alone explains: by it an index is `scale` times a chi-square variable; `n_tests` are made at once."""

    scale: float
    n_tests: int

    def limit(self, usual: NDArray[np.float64], least: float) -> float:
        """The stability index against these usual shares that alarms, `least` at the least."""
        n_bins = max(int((usual > 0).sum()), 2)
        return max(least, self.scale * float(chi2.isf(_LEVEL / self.n_tests, n_bins - 1)))


def _moved(
    kind: str, name: str, counts: NDArray[Any], usual: NDArray[np.float64], limit: float,
    middles: NDArray[np.float64] | None,
) -> Moved:  # fmt: skip
    counts = counts.astype(np.float64)
    places = np.arange(len(usual)) if middles is None else middles
    now = counts / max(counts.sum(), 1.0)
    energy = None if middles is None else energy_distance(counts, usual, middles)
    return Moved(kind, name, stability_index(counts, usual), limit, energy, float(usual @ places), float(now @ places))


def _part_psi(now: float, before: float) -> float:
    """What one area adds to the stability index of the mix."""
    small = 1e-4
    return (now - before) * float(np.log((now + small) / (before + small)))


def _below(p_bins: NDArray[np.float64], fpr: float) -> float:
    """Share of p-values at most `fpr`, by interpolation between the edges of bins."""
    return float(np.interp(fpr, np.array([0.0, *P_EDGES, 1.0]), np.array([0.0, *np.cumsum(p_bins)])))


def _estimated(p_bins: NDArray[np.int64], usual: NDArray[np.float64], fpr: float) -> float:
    """False-positive rate, from the bulk of p-values alone, so that harvesting itself doesn't raise it.

    What is usual below `fpr` is taken to grow as its odds against the bulk's lower half do.
    """
    edges = np.array([0.0, *P_EDGES])
    lower = (edges >= _BULK - 1e-9) & (edges < 0.5 - 1e-9)
    upper = edges >= 0.5 - 1e-9
    half = 0.5
    odds_now = (float(p_bins[lower].sum()) + half) / (float(p_bins[upper].sum()) + half)
    n = max(float(p_bins.sum()), 1.0)
    odds_before = (float(usual[lower].sum()) * n + half) / (float(usual[upper].sum()) * n + half)
    before = _below(usual, fpr)
    odds = before / max(1.0 - before, 1e-12) * odds_now / odds_before
    return float(odds / (1.0 + odds))


def _counts(codes: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    return np.bincount(codes, minlength=n)


def _middles(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    bounds = np.array([0.0, *edges, 1.0])
    return np.asarray((bounds[1:] + bounds[:-1]) / 2.0)


_LETTER_MIDDLES, _P_MIDDLES = _middles(EDGES), _middles(P_EDGES)
