"""App: verdicts over HTTP. Bodies are read within limits on the event loop, parsed and judged by threads."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from serve.analyst.review.inbox import Inbox
from serve.http.admission import OPEN_PATHS, Admission
from serve.http.keys import RateLimits
from serve.http.middleware import Middleware
from serve.http.openapi import (
    ACCOUNT_ID,
    AT_THE_DOOR,
    IDEMPOTENCY_KEY,
    LINKS,
    SESSION_ID,
    PathId,
    QueryId,
    described,
    document,
    problems,
)  # fmt: skip
from serve.http.pages.answers import AnalystPages
from serve.http.pages.routes import add_pages
from serve.http.plug_ins.routes import PlugIns, add_plug_ins
from serve.http.problems import ProblemError
from serve.http.request_bodies import Model, parse, read_body
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
from serve.http.service import Service, ServiceSettings, observed
from serve.sessions.records import Sessions

VERSION = "1"
_FLUSH_S = 1.0
_JUDGING = ("score", "requests", "extend")


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
        flushing = asyncio.create_task(_flushed(service.inbox))
        yield
        flushing.cancel()
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Stillwatch", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Tells API sessions that harvest a language model's capabilities from organic use.",
    )  # fmt: skip
    app.state.service = service
    open_paths = OPEN_PATHS if settings.keys else None
    app.openapi = lambda: document(app, open_paths)  # type: ignore[method-assign]
    app.add_exception_handler(ProblemError, _told)
    app.add_exception_handler(HTTPException, _told)
    limits = RateLimits(settings.rate_per_s, redis_url=settings.redis_url)
    admission = Admission(settings.keys, limits, settings.body.n_bytes, hosts=settings.hosts)
    app.add_middleware(
        Middleware, admission=admission, refuse_if_full=_refusal(app, service), metrics=service.metrics,
        seconds=settings.request_s,
    )  # fmt: skip
    _add_verdicts(app, service)
    _add_state(app, service)
    add_pages(app, _pages(service))
    add_plug_ins(app, _plug_ins(service))
    return app


def _refusal(app: FastAPI, service: Service) -> Callable[[Scope], None]:
    """What refuses requests that are to be judged while there is no room, before anything else is done for them."""

    def refuse_if_full(scope: Scope) -> None:
        if not service.workers.is_full:
            return
        for route in app.routes:
            if getattr(route, "operation_id", None) in _JUDGING and route.matches(scope)[0] is Match.FULL:
                scope["route"] = route
                service.workers.refuse_if_full()

    return refuse_if_full


async def _flushed(inbox: Inbox) -> None:
    """Bring what was judged to the review queue, again and again."""
    while True:
        await asyncio.sleep(_FLUSH_S)
        await asyncio.to_thread(inbox.flush_if_up)


def _plug_ins(service: Service) -> PlugIns:
    return PlugIns(
        settings=service.settings.gateways, extend=service.extend_by, seal=service.live.seal, run=service.workers.run,
        limits=service.settings.body, memory=service.body_memory, registry=service.metrics.registry,
    )  # fmt: skip


def _pages(service: Service) -> AnalystPages:
    return AnalystPages(
        judge=service.judge, session=service.session, account=service.account, scorer=lambda: service.scorer,
        run=service.page_workers.run, limits=service.settings.body, memory=service.body_memory, queue=service.queue,
        inbox=service.inbox, campaigns=service.settings.campaigns,
    )  # fmt: skip


def _add_verdicts(app: FastAPI, service: Service) -> None:
    async def judged(request: Request, model: type[Model], work: Callable[[Model], dict[str, Any]]) -> Response:
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
    async def extend(request: Request, session_id: PathId) -> Response:
        """Add exchanges to a session that grows; the verdict is that on all of it.

        A request that is sent again with the same idempotency-key adds nothing.
        """
        check_id(session_id)
        name, headers = _idempotency_key(request), dict[str, str]()

        def work(given: ExchangesIn) -> dict[str, Any]:
            found = service.extend(session_id, given, name)
            headers.update({"idempotent-replayed": "true"} if found.is_repeat else {})
            return observed(found)

        reply = await judged(request, ExchangesIn, work)
        reply.headers.update(headers)
        return reply

    @app.get("/v1/sessions/{session_id:path}", operation_id="session", **described(ObservationOut, None, 404))
    async def session(session_id: PathId, account_id: QueryId = None) -> Response:
        """The verdict on a session so far; of the account that used the id last where none is given."""
        for text in (session_id, *filter(None, [account_id])):
            check_id(text)
        return _answer(await service.workers.run(lambda: _json(service.session(session_id, account_id))))

    @app.get("/v1/accounts/{account_id:path}", operation_id="account", **described(AccountOut, None, 404))
    async def account(request: Request, account_id: PathId) -> Response:
        """An account's growing sessions, rolled up."""
        check_id(account_id)
        request.scope.setdefault("state", {})["account"] = service.live.seal.digest(account_id, 8).hex()
        return _answer(await service.workers.run(lambda: _json(service.account(account_id))))


def _add_state(app: FastAPI, service: Service) -> None:
    open_to_all = problems(400, 403, 413, 421)

    @app.get("/v1/bundle", operation_id="bundle", **described(BundleOut, None))
    async def bundle() -> Response:
        """The bundle that judges now."""
        return _answer(_json(service.bundle()))

    @app.get("/healthz", operation_id="health", responses={200: {"model": HealthOut}, **open_to_all})
    async def health() -> Response:
        """Whether the process lives."""
        return _answer(b'{"status": "alive"}')

    @app.get(
        "/readyz", operation_id="ready", responses={200: {"model": ReadyOut}, 503: {"model": ReadyOut}, **open_to_all}
    )
    async def ready() -> Response:
        """Whether requests are served as they should be: 503 while replicas can't share sessions."""
        found = await asyncio.to_thread(service.readiness)
        return Response(_json(found), 200 if found["status"] == "ready" else 503, media_type="application/json")

    @app.get(
        "/metrics", operation_id="metrics", response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **problems(*AT_THE_DOOR)},
    )  # fmt: skip
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


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _answer(body: bytes) -> Response:
    return Response(body, media_type="application/json")
