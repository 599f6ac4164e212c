"""Drift as a table for the terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from serve.io.writers import replacing
from serve.monitoring.drift import MIN_SESSIONS, Drift
from serve.sessions.wording import counted


def drift_text(found: Drift, *, n_shown: int = 10) -> str:
    """A table for the terminal."""
    return "\n".join(_lines(found, n_shown))


def _lines(found: Drift, n_shown: int) -> Iterator[str]:
    worth = f"worth {found.n_effective:,.0f} independent ones"
    yield f"{counted(found.n_sessions, 'session')} ({worth}) against {found.reference}"
    yield f"bundle {found.bundle}"
    yield ""
    yield f"{'feature':34s} {'PSI':>7s} {'alarms at':>9s} {'energy':>7s} {'before':>7s} {'now':>7s}"
    rows = found.features[: max(n_shown, sum(moved.is_alarm for moved in found.features))]
    for moved in (*rows, found.scores):
        name = moved.name if moved.kind == "feature" else f"{moved.kind} {moved.name}"
        yield (
            f"{name:34s} {moved.psi:7.3f} {moved.limit or 0.0:9.3f} {moved.energy or 0.0:7.4f} {moved.before:7.3f} "
            f"{moved.now:7.3f}{'  <' if moved.is_alarm else ''}"
        )
    yield ""
    yield f"{'area':34s} {'PSI':>7s} {'alarms at':>9s} {'':7s} {'before':>7s} {'now':>7s}"
    mark = "  <" if found.area_mix.is_alarm else ""
    yield f"{'all areas together':34s} {found.area_mix.psi:7.3f} {found.area_mix.limit or 0.0:9.3f}{mark}"
    for moved in found.areas[:n_shown]:
        yield f"{moved.name:34s} {moved.psi:7.3f} {'':9s} {'':7s} {moved.before:7.3f} {moved.now:7.3f}"
    yield ""
    yield f"none of these      {found.none_now:.4f} of prompts, usually {found.none_before:.4f}"
    yield (
        f"false positives    estimated {found.fpr_estimated:.4f}, usually {found.fpr_expected:.4f}; flagged are "
        f"{found.fpr_flagged:.4f}, whatever they are"
    )
    yield ""
    if not found.is_decidable:
        yield f"too few sessions to tell: expected at least {MIN_SESSIONS} independent ones"
    elif not found.alarms:
        yield "no drift"
    else:
        yield f"drift: {'; '.join(found.alarms[:5])}{' and more' if len(found.alarms) > 5 else ''}"
        for moved in [own for own in (*found.features, found.scores) if own.is_alarm][:5]:
            way = "rose" if moved.now > moved.before else "fell" if moved.now < moved.before else "spread otherwise"
            yield f"  {moved.kind} {moved.name} {way}: usually {moved.before:.3f} on average, now {moved.now:.3f}"
    yield "PSI says how far a distribution moved: 0 not at all; beyond its alarm, further than chance and other people"


def write_drift(found: Drift, path: Path) -> None:
    """Write everything as JSON."""
    with replacing(path) as part:
        part.write_text(json.dumps(found.record(), indent=1, allow_nan=False, default=float) + "\n", encoding="utf-8")
