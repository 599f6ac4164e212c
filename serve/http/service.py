"""Service: what judges behind the interface: the scorer, growing sessions, and what counts them."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.analyst.review.inbox import Inbox
from serve.analyst.review.queue import ReviewQueue
from serve.bundle.files import BundleError
from serve.gateways.notices import Notices, Receiver
from serve.gateways.settings import GatewaySettings
from serve.http.keys import ApiKeys
from serve.http.metrics import Metrics
from serve.http.middleware import LOG
from serve.http.problems import ProblemError
from serve.http.request_bodies import BodyLimits, BodyMemory
from serve.http.schemas import ExchangesIn, ScoreIn
from serve.http.worker_pool import WorkerPool
from serve.live.growing_sessions import LiveSessions, Observation, RepeatError
from serve.live.process_store import ProcessStore
from serve.live.redis_store import RedisStore
from serve.live.sealing import Seal
from serve.live.seen_sessions import SeenSessions
from serve.live.stores import Store, StoreBusyError, StoreDownError
from serve.scoring.scorer import Scorer, load
from serve.scoring.verdict import Verdict, Verdicts
from serve.sessions.records import Exchange, Session, Sessions

_SEEN_TTL_FACTOR = 24

CLOSE_S = 2.0
"""Longest that threads are waited for once nobody waits for their answers any more."""

_NOTICES_CLOSE_S = 0.25
_PAGE_WORKERS, _PAGES_WAITING = 2, 8


@dataclass(frozen=True)
class ServiceSettings:
    """How to serve: `secret` is shared by replicas, and has to be given where they share a Redis."""

    bundle: Path | None = None
    redis_url: str | None = None
    secret: bytes | None = None
    keys: ApiKeys = field(default_factory=ApiKeys)
    rate_per_s: float = 100.0
    n_workers: int = 2
    n_waiting: int = 4
    ttl_s: float = 7200.0
    max_store_bytes: int = 1 << 30
    body: BodyLimits = field(default_factory=BodyLimits)
    review: str | None = None
    """Where the review queue is: a file, or a Postgres by its URL."""

    usual_review: Path | None = None
    """The file of the queue where `review` names none; where it can't be used, the queue ends with the process."""

    campaigns: Path | None = None
    hosts: tuple[str, ...] | None = None
    """Where given, requests have to name this machine, or one of these, as their host."""

    request_s: float = 30.0
    account_header: str = "x-account-id"
    """The header of `/v1/requests` that names the account."""

    seen_sessions: Path | None = None
    """A file that tells sessions of earlier processes; for a Redis, one beside it that tells whether it lost all."""

    gateways: GatewaySettings = field(default_factory=GatewaySettings)
    receivers: tuple[Receiver, ...] = ()
    """What is sent a notice of each session that turns to harvesting."""

    def __post_init__(self) -> None:
        if self.redis_url and not self.secret:
            raise ValueError("a Redis that replicas share needs STILLWATCH_SECRET, the same for all of them")


class Service:
    """The scorer, growing sessions, and what counts them; the bundle can be replaced while requests are served."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Load the bundle.

        Raises:
            BundleError: when it can't be trusted or read.
            ValueError: when a setting can't be used.
        """
        self.settings = settings
        self.scorer: Scorer = _warmed(load(settings.bundle))
        seal = Seal(settings.secret) if settings.secret else Seal.fresh()
        self.store: ProcessStore | RedisStore
        if settings.redis_url:
            self.store = RedisStore(settings.redis_url, seal, ttl_s=settings.ttl_s, epoch_path=_epoch_path(settings))
        else:
            self.store = ProcessStore(max_bytes=settings.max_store_bytes, ttl_s=settings.ttl_s)
        store: Store = self.store
        self.live = LiveSessions(self.scorer, store=store, seal=seal, seen_sessions=_seen_sessions(settings))
        self.metrics = Metrics(self.scorer.bundle.capabilities.areas, self.store.counts)
        self.workers = WorkerPool(settings.n_workers, settings.n_waiting)
        # Pages have threads of their own: where the store of the review queue is slow, judging goes on.
        self.page_workers = WorkerPool(_PAGE_WORKERS, _PAGES_WAITING)
        self.body_memory = BodyMemory(settings.body.n_bytes_of_all)
        self.queue, self._aside = _review_queue(settings)
        self.inbox = Inbox(self.queue)
        self.notices = tuple(Notices(own, self.metrics.noticed(own.name)) for own in settings.receivers)
        self.metrics.waiting.set_function(lambda: self.workers.n_inside)
        self._counting, self._loading = threading.Lock(), threading.Lock()

    def close(self) -> None:
        """Finish what was begun, within `CLOSE_S`, and bring what was judged to receivers and the review queue."""
        end = time.monotonic() + CLOSE_S
        ended = [pool.close(max(end - time.monotonic(), 0.0)) for pool in (self.workers, self.page_workers)]
        if not all(ended):
            LOG.error(json.dumps({"shutdown": "work that was begun has not ended", "waited_s": CLOSE_S}))
        for notices in self.notices:
            notices.close(max(end - time.monotonic(), _NOTICES_CLOSE_S))
        self.inbox.flush_if_up()
        self.queue.close()
        if self._aside is not None:
            self._aside.cleanup()

    def reload(self) -> bool:
        """Judge with the bundle as it is in its folder now; one that can't be trusted changes nothing.

        Requests that were begun are finished with the bundle that they began with.
        """
        with self._loading:
            try:
                scorer = _warmed(load(self.settings.bundle))
            except (BundleError, OSError) as fault:
                LOG.error(json.dumps({"reload": "refused", "fault": str(fault)}))
                self.metrics.reloads.labels("refused").inc()
                return False
            self.scorer = self.live.scorer = scorer
            LOG.info(json.dumps({"reload": "done", "bundle": scorer.bundle.bundle_id}))
            self.metrics.reloads.labels("done").inc()
            return True

    def score(self, given: ScoreIn) -> dict[str, Any]:
        """Verdicts on whole sessions."""
        return self.judge(Sessions.of([row.session() for row in given.sessions]), explain=given.explain)

    def judge(self, sessions: Sessions, *, explain: bool = True) -> dict[str, Any]:
        """Verdicts on sessions as columns."""
        scorer = self.scorer
        verdicts = scorer.judge(sessions, explain_all=explain)
        self._count(verdicts, scorer, len(sessions.prompts))
        return {"verdicts": [_plain(verdict) for verdict in verdicts]}

    def extend(self, session_id: str, given: ExchangesIn, request: str | None = None) -> Observation:
        """The verdict on a session after more exchanges; those of a request that was counted aren't added again."""
        exchanges = tuple(row.exchange() for row in given.exchanges)
        return self.extend_by(given.account_id, exchanges, session_id, request)

    def extend_by(
        self, account_id: str, exchanges: tuple[Exchange, ...], session_id: str | None, request: str | None = None
    ) -> Observation:
        """The verdict on a session after exchanges that were checked; without an id, on the account's own."""
        try:
            return self.live.extend(account_id, exchanges, session_id, request=request, seen=self._count)
        except RepeatError as fault:
            raise ProblemError(422, "this idempotency-key came with other exchanges before") from fault
        except StoreBusyError as fault:
            raise ProblemError(503, "others change the same session", retry_after=1) from fault

    def session(self, session_id: str, account_id: str | None) -> dict[str, Any]:
        """The verdict on a session so far."""
        found = _reached(lambda: self.live.verdict(account_id, session_id))
        if found is None:
            raise ProblemError(404, "nothing is known of such a session")
        return observed(found)

    def account(self, account_id: str) -> dict[str, Any]:
        """An account's sessions, rolled up."""
        found: dict[str, Any] | None = _reached(lambda: self.live.account(account_id))
        if found is None:
            raise ProblemError(404, "nothing is known of such an account")
        return found | {"e_value": min(found["e_value"], sys.float_info.max)}  # JSON knows no infinity

    def bundle(self) -> dict[str, Any]:
        """The bundle that judges now."""
        bundle = self.scorer.bundle
        return {
            "bundle_id": bundle.bundle_id, "format_version": bundle.manifest["format_version"],
            "encoder": bundle.manifest["encoder"], "fpr": self.scorer.fpr, "areas": list(bundle.capabilities.areas),
            "n_features": len(bundle.manifest["features"]),
        }  # fmt: skip

    def readiness(self) -> dict[str, Any]:
        """Whether all that is needed is there; without its Redis the service goes on, each replica by itself."""
        is_redis = isinstance(self.store, RedisStore)
        is_up = self.store.is_ready()
        store = ("redis" if is_up else "redis does not answer") if is_redis else "process"
        return {"status": "ready" if is_up else "degraded", "bundle_id": self.scorer.bundle.bundle_id, "store": store}

    def _count(self, verdicts: Verdicts, scorer: Scorer, n_new: int) -> None:
        self.inbox.add(verdicts)
        for notices in self.notices:
            notices.add(verdicts)
        with self._counting:
            self.metrics.judged(verdicts, scorer.bundle, n_new)


def _epoch_path(settings: ServiceSettings) -> Path | None:
    path = settings.seen_sessions
    return None if path is None else path.with_name(f"{path.name}-redis")


def _seen_sessions(settings: ServiceSettings) -> SeenSessions | None:
    if settings.seen_sessions is None or settings.redis_url:
        return None
    try:
        return SeenSessions.opened(settings.seen_sessions, _SEEN_TTL_FACTOR * settings.ttl_s)
    except OSError as fault:
        LOG.warning(
            "%s can't be used (%s): after a restart, is_partial is false", settings.seen_sessions, fault.strerror
        )
        return None


def _review_queue(settings: ServiceSettings) -> tuple[ReviewQueue, tempfile.TemporaryDirectory[str] | None]:
    """The queue, and the folder that ends with the process where it is in one."""
    if settings.review is not None:
        return ReviewQueue(settings.review), None
    try:
        if settings.usual_review is not None:
            return ReviewQueue(str(settings.usual_review)), None
    except (OSError, ValueError) as fault:
        LOG.warning("the review queue ends with this process: %s", fault)
    aside = tempfile.TemporaryDirectory(prefix="stillwatch.")
    return ReviewQueue(str(Path(aside.name) / "review.db")), aside


def _warmed(scorer: Scorer) -> Scorer:
    """The scorer after a first verdict, which takes longer than those that follow."""
    scorer.score(Session("-", "-", (Exchange("Is it w\u00e4rm \u2665\ufe0f?"),) * 8))
    return scorer


def _reached(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except StoreDownError as fault:
        raise ProblemError(503, "the store of sessions does not answer", retry_after=1) from fault


def observed(found: Observation) -> dict[str, Any]:
    """What the interface says of a verdict so far."""
    return {"verdict": _plain(found.verdict), "is_partial": found.is_partial, "is_shared": found.is_shared}


def _plain(verdict: Verdict) -> dict[str, Any]:
    return dataclasses.asdict(verdict)
