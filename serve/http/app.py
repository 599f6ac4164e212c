"""App: verdicts over HTTP. Bodies are read within limits on the event loop, parsed and judged by threads."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from serve.analyst.feedback import Feedback
from serve.analyst.recently_flagged import RecentlyFlagged
from serve.bundle.files import BundleError
from serve.gateways.settings import GatewaySettings
from serve.http.admission import Admission
from serve.http.keys import ApiKeys, RateLimits
from serve.http.metrics import Metrics
from serve.http.middleware import LOG, Middleware
from serve.http.openapi import ACCOUNT_ID, IDEMPOTENCY_KEY, LINKS, SESSION_ID, described, document
from serve.http.pages import AnalystPages, add_page
from serve.http.plug_ins.routes import PlugIns, add_plug_ins
from serve.http.problems import ProblemError
from serve.http.request_bodies import BodyLimits, BodyMemory, Model, parse, read_body
from serve.http.schemas import (
    AccountOut,
    BundleOut,
    ExchangesIn,
    HealthOut,
    ObservationOut,
    ReadyOut,
    RequestIn,
    ScoreIn,
    ScoreOut,
    check_id,
)
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

VERSION = "1"
_SEEN_TTL_FACTOR = 24


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
    feedback: Path | None = None
    campaigns: Path | None = None
    hosts: tuple[str, ...] | None = None
    """Where given, requests have to name this machine, or one of these, as their host."""

    request_s: float = 30.0
    account_header: str = "x-account-id"
    """The header of `/v1/requests` that names the account."""

    seen_sessions: Path | None = None
    """A file that tells sessions of earlier processes, for a store that isn't shared."""

    gateways: GatewaySettings = field(default_factory=GatewaySettings)

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
            self.store = RedisStore(settings.redis_url, seal, ttl_s=settings.ttl_s)
        else:
            self.store = ProcessStore(max_bytes=settings.max_store_bytes, ttl_s=settings.ttl_s)
        store: Store = self.store
        self.live = LiveSessions(self.scorer, store=store, seal=seal, seen_sessions=_seen_sessions(settings))
        self.metrics = Metrics(self.scorer.bundle.capabilities.areas, self.store.counts)
        self.workers = WorkerPool(settings.n_workers, settings.n_waiting)
        self.body_memory = BodyMemory(settings.body.n_bytes_of_all)
        self.recently_flagged = RecentlyFlagged()
        self.metrics.waiting.set_function(lambda: self.workers.n_inside)
        self._counting, self._loading = threading.Lock(), threading.Lock()

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
        return _observed(found)

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
        self.recently_flagged.add(verdicts)
        with self._counting:
            self.metrics.judged(verdicts, scorer.bundle, n_new)


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


def _warmed(scorer: Scorer) -> Scorer:
    """The scorer after a first verdict, which takes longer than those that follow."""
    scorer.score(Session("-", "-", (Exchange("Is it warm?"),) * 8))
    return scorer


def create_app(settings: ServiceSettings | None = None) -> FastAPI:
    """The application.

    Raises:
        BundleError: when the bundle can't be trusted or read.
        ValueError: when a setting can't be used.
    """
    settings = settings or ServiceSettings()
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.workers.close()

    app = FastAPI(
        title="Stillwatch", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Tells API sessions that harvest a language model's capabilities from organic use.",
    )  # fmt: skip
    app.state.service = service
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    app.add_exception_handler(ProblemError, _told)
    app.add_exception_handler(HTTPException, _told)
    limits = RateLimits(settings.rate_per_s, redis_url=settings.redis_url)
    admission = Admission(settings.keys, limits, settings.body.n_bytes, hosts=settings.hosts)
    app.add_middleware(Middleware, admission=admission, metrics=service.metrics, seconds=settings.request_s)
    _add_verdicts(app, service)
    _add_state(app, service)
    add_page(app, _bench(service))
    add_plug_ins(app, _plug_ins(service))
    return app


def _plug_ins(service: Service) -> PlugIns:
    return PlugIns(
        settings=service.settings.gateways, extend=service.extend_by, seal=service.live.seal, run=service.workers.run,
        limits=service.settings.body, memory=service.body_memory, registry=service.metrics.registry,
    )  # fmt: skip


def _bench(service: Service) -> AnalystPages:
    feedback = service.settings.feedback
    return AnalystPages(
        score=service.score, judge=service.judge,
        session=service.session, account=service.account, bundle=lambda: service.scorer.bundle,
        run=service.workers.run, limits=service.settings.body, memory=service.body_memory,
        recently_flagged=service.recently_flagged, feedback=None if feedback is None else Feedback(feedback),
        campaigns=service.settings.campaigns,
    )  # fmt: skip


def _add_verdicts(app: FastAPI, service: Service) -> None:
    async def judged(request: Request, model: type[Model], work: Callable[[Model], dict[str, Any]]) -> Response:
        service.workers.refuse_if_full()
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await read_body(request.stream(), headers, service.settings.body, service.body_memory)

        def whole() -> bytes:
            given = parse(body.plain(), model)
            if isinstance(given, ExchangesIn):
                request.scope.setdefault("state", {})["account"] = service.live.seal.digest(given.account_id, 8).hex()
            return _json(work(given))

        return _answer(await service.workers.run(whole, body.close))

    @app.post("/v1/score", operation_id="score", **described(ScoreOut, ScoreIn))
    async def score(request: Request) -> Response:
        """Judge 1 to 256 sessions."""
        return await judged(request, ScoreIn, service.score)

    headers = ({**ACCOUNT_ID, "name": service.settings.account_header}, SESSION_ID)

    @app.post("/v1/requests", operation_id="requests", **described(ScoreOut, RequestIn, headers=headers))
    async def requests(request: Request) -> Response:
        """Judge the user prompts of one request to a chat model, sent here as it is, as one session."""
        ids = [request.headers.get(str(header["name"])) for header in headers]
        return await judged(request, RequestIn, lambda given: service.judge(Sessions.of([given.session(*ids)])))

    @app.post(
        "/v1/sessions/{session_id:path}/exchanges",
        operation_id="extend",
        **described(ObservationOut, ExchangesIn, links=LINKS, headers=(IDEMPOTENCY_KEY,)),
    )
    async def extend(request: Request, session_id: str) -> Response:
        """Add exchanges to a session that grows; the verdict is that on all of it.

        A request that is sent again with the same idempotency-key adds nothing.
        """
        check_id(session_id)
        name, headers = _idempotency_key(request), dict[str, str]()

        def work(given: ExchangesIn) -> dict[str, Any]:
            found = service.extend(session_id, given, name)
            headers.update({"idempotent-replayed": "true"} if found.is_repeat else {})
            return _observed(found)

        reply = await judged(request, ExchangesIn, work)
        reply.headers.update(headers)
        return reply

    @app.get("/v1/sessions/{session_id:path}", operation_id="session", **described(ObservationOut, None, 404))
    async def session(session_id: str, account_id: str | None = None) -> Response:
        """The verdict on a session so far; of the account that used the id last where none is given."""
        for text in (session_id, *filter(None, [account_id])):
            check_id(text)
        return _answer(await service.workers.run(lambda: _json(service.session(session_id, account_id))))

    @app.get("/v1/accounts/{account_id:path}", operation_id="account", **described(AccountOut, None, 404))
    async def account(request: Request, account_id: str) -> Response:
        """An account's growing sessions, rolled up."""
        check_id(account_id)
        request.scope.setdefault("state", {})["account"] = service.live.seal.digest(account_id, 8).hex()
        return _answer(await service.workers.run(lambda: _json(service.account(account_id))))


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/v1/bundle", operation_id="bundle", **described(BundleOut, None))
    async def bundle() -> Response:
        """The bundle that judges now."""
        return _answer(_json(service.bundle()))

    @app.get("/healthz", operation_id="health", responses={200: {"model": HealthOut}})
    async def health() -> Response:
        """Whether the process lives."""
        return _answer(b'{"status": "alive"}')

    @app.get("/readyz", operation_id="ready", responses={200: {"model": ReadyOut}, 503: {"model": ReadyOut}})
    async def ready() -> Response:
        """Whether requests are served as they should be: 503 while replicas can't share sessions."""
        import asyncio

        found = await asyncio.to_thread(service.readiness)
        return Response(_json(found), 200 if found["status"] == "ready" else 503, media_type="application/json")

    @app.get(
        "/metrics", operation_id="metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
    )
    async def metrics() -> Response:
        """Metrics in Prometheus's format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _told(request: Request, fault: Exception) -> Response:
    """Any fault that has a status, as a problem."""
    if isinstance(fault, ProblemError):
        problem = fault
    elif isinstance(fault, HTTPException):
        problem = ProblemError(fault.status_code, "there is nothing here, or not for this method")
    else:
        raise fault
    headers = dict(getattr(fault, "headers", None) or {}) if isinstance(fault, HTTPException) else {}
    return Response(problem.body(), problem.status, headers | problem.headers())


def _idempotency_key(request: Request) -> str | None:
    name = request.headers.get("idempotency-key")
    if name is not None and not re.fullmatch("[!-~]{1,255}", name):
        raise ProblemError(422, "idempotency-key has 1 to 255 characters of ASCII without blanks")
    return name


def _reached(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except StoreDownError as fault:
        raise ProblemError(503, "the store of sessions does not answer", retry_after=1) from fault


def _observed(found: Observation) -> dict[str, Any]:
    return {"verdict": _plain(found.verdict), "is_partial": found.is_partial, "is_shared": found.is_shared}


def _plain(verdict: Verdict) -> dict[str, Any]:
    return dataclasses.asdict(verdict)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _answer(body: bytes) -> Response:
    return Response(body, media_type="application/json")
