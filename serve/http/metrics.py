"""Metrics: what Prometheus reads; labels are names of our own, never anything that was sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serve.bundle.bundle import Bundle
from serve.gateways.notices import OUTCOMES
from serve.live.stores import StoreCounts
from serve.scoring.verdict import Verdicts
from serve.sessions.size_classes import size_class

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SCORES = tuple(np.linspace(0.0, 1.0, 21)[1:].tolist())
_MEMORY = 0.002
"""Weight of the newest session in the moving means of the drift gauges: they look back some 500 sessions."""


class Metrics:
    """Everything that is counted, in a registry of its own."""

    def __init__(self, areas: tuple[str, ...], counts: StoreCounts) -> None:
        """Begin at 0; `counts` is read whenever the metrics are."""
        self.registry = CollectorRegistry()
        own: Any = {"namespace": "stillwatch", "registry": self.registry}
        self.requests = Counter("requests", "Requests", ("method", "route", "status"), **own)
        self.seconds = Histogram("request_seconds", "Seconds a request took", ("route",), buckets=_SECONDS, **own)
        self.exchanges = Counter("exchanges", "Exchanges judged", **own)
        self.verdicts = Counter("verdicts", "Verdicts", ("label",), **own)
        self.scores = Histogram("score", "Scores of verdicts", buckets=_SCORES, **own)
        self.waiting = Gauge("queue_requests", "Requests at work or waiting for it", **own)
        self.reloads = Counter("bundle_reloads", "Bundle reloads", ("outcome",), **own)
        self.notices = Counter("notices", "Notices of flagged sessions", ("receiver", "outcome"), **own)
        self.outlying = Gauge("drift_outlying_share", "Moving mean share of features outside the benign 90 %", **own)
        self.area_share = Gauge("drift_area_share", "Moving mean share of prompts by area", ("area",), **own)
        self.registry.register(_StoreCollector(counts))
        self._areas = (*areas, "none")
        self._shares: NDArray[np.float64] | None = None

    def noticed(self, receiver: str) -> Callable[[str], None]:
        """What counts the outcomes of notices to a receiver; all of them show from the start."""
        counters = {outcome: self.notices.labels(receiver, outcome) for outcome in OUTCOMES}
        return lambda outcome: counters[outcome].inc()

    def judged(self, verdicts: Verdicts, bundle: Bundle, n_new: int) -> None:
        """Count verdicts on which `n_new` exchanges came."""
        self.exchanges.inc(n_new)
        for label, score in zip(verdicts.label.tolist(), verdicts.score.tolist(), strict=True):
            self.verdicts.labels(label).inc()
            self.scores.observe(score)
        benign = bundle.reference[size_class(verdicts.n_exchanges)]
        outside = (verdicts.features < benign[:, :, 0]) | (verdicts.features > benign[:, :, 1])
        found = np.column_stack([outside.mean(axis=1), verdicts.area_share]).mean(axis=0)
        weight = 1.0 - (1.0 - _MEMORY) ** len(verdicts)
        before = self._shares
        if before is None or len(before) != len(found):
            before = found
        self._shares = before + weight * (found - before)
        self.outlying.set(float(self._shares[0]))
        for area, share in zip(self._areas, self._shares[1:].tolist(), strict=False):
            self.area_share.labels(area).set(share)

    def text(self) -> bytes:
        """The metrics in Prometheus's format."""
        return generate_latest(self.registry)


class _StoreCollector(Collector):
    """The store's counts, read when asked."""

    def __init__(self, counts: StoreCounts) -> None:
        self._counts = counts

    def collect(self) -> list[GaugeMetricFamily]:
        names = {
            "n_sessions": "sessions",
            "n_bytes": "bytes",
            "n_evicted": "evicted_sessions",
            "n_expired": "expired_sessions",
        }
        return [
            GaugeMetricFamily(f"stillwatch_store_{shown}", f"Store: {shown}", value=float(getattr(self._counts, name)))
            for name, shown in names.items()
        ]
