"""Routes of the analyst's page.

The page itself is open to anyone who reaches the service and holds nothing; all that it shows is asked for with the key
that the analyst gives, as everything of the interface is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response

from serve.analyst.review.cases import SORTS, STATES, Wanted
from serve.http.pages.answers import AnalystPages, fragment
from serve.http.pages.schemas import DecisionIn, PastedIn
from serve.http.problems import ProblemError
from serve.http.request_bodies import Model, parse, read_body
from serve.http.schemas import MAX_ID_CHARS, check_id

SHELL = ("/", "/page.css", "/page.js")
"""Paths of the page itself."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_MAX_PAGE = 1_000_000
_HTML, _JSON = "text/html; charset=utf-8", "application/json"
_KINDS = {"jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8"}


def add_pages(app: FastAPI, pages: AnalystPages) -> None:
    """Add the page and what it asks for; none of it is part of the interface that OpenAPI describes."""
    _add_shell(app)
    _add_lists(app, pages)
    _add_details(app, pages)
    _add_posts(app, pages)


def _add_lists(app: FastAPI, pages: AnalystPages) -> None:
    @app.get("/page/queue", include_in_schema=False)
    async def queue(state: str = "new", q: str = "", sort: str = "p_value", page: str = "0") -> Response:
        if state not in (*STATES, "all") or sort not in SORTS or len(q) > MAX_ID_CHARS or not _is_number(page):
            raise ProblemError(422, "there is no such list")
        return await _html(pages, lambda: pages.queued(Wanted(state, q.strip(), sort, int(page))))

    @app.get("/page/decisions", include_in_schema=False)
    async def decisions() -> Response:
        return await _html(pages, pages.decisions)

    @app.get("/page/campaigns", include_in_schema=False)
    async def campaigns() -> Response:
        return await _html(pages, pages.campaign_list)

    @app.get("/page/labels.{kind}", include_in_schema=False)
    async def labels(kind: str) -> Response:
        if kind not in _KINDS:
            raise ProblemError(404, "there is nothing here")
        body = await pages.run(lambda: pages.labels(kind), _nothing)
        return Response(
            body, headers={"content-disposition": f"attachment; filename=labels.{kind}"}, media_type=_KINDS[kind]
        )


def _add_details(app: FastAPI, pages: AnalystPages) -> None:
    @app.get("/page/account", include_in_schema=False)
    async def account(name: Annotated[str, Query(alias="id")] = "") -> Response:
        check_id(name)
        return await _html(pages, lambda: pages.account_page(name))

    @app.get("/page/session", include_in_schema=False)
    async def session(name: Annotated[str, Query(alias="id")] = "", account: str | None = None) -> Response:
        for text in (name, *filter(None, [account])):
            check_id(text)
        return await _html(pages, lambda: pages.session_page(account or None, name))

    @app.get("/page/decision", include_in_schema=False)
    async def decision(n: str = "") -> Response:
        if not _is_number(n):
            raise ProblemError(404, "there is no decision of this number")
        return await _html(pages, lambda: pages.sheet(int(n)))


def _add_posts(app: FastAPI, pages: AnalystPages) -> None:
    async def taken(request: Request, model: type[Model], work: Callable[[Model], bytes], kind: str) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await read_body(request.stream(), headers, pages.limits, pages.memory)
        return Response(await pages.run(lambda: work(parse(body.plain(), model)), body.close), media_type=kind)

    @app.post("/page/pasted", include_in_schema=False)
    async def pasted(request: Request) -> Response:
        return await taken(request, PastedIn, pages.pasted, _HTML)

    @app.post("/page/decisions", include_in_schema=False)
    async def decide(request: Request) -> Response:
        by = request.scope.get("state", {}).get("key") or "without a key"
        return await taken(request, DecisionIn, lambda given: pages.decided(given, by), _JSON)


def _add_shell(app: FastAPI) -> None:
    html, css, script = (fragment(name) for name in ("page.html", "page.css", "page.js"))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(html, media_type=_HTML, headers={"content-security-policy": _POLICY})

    @app.get("/page.css", include_in_schema=False)
    async def style() -> Response:
        return Response(css, media_type="text/css; charset=utf-8")

    @app.get("/page.js", include_in_schema=False)
    async def behaviour() -> Response:
        return Response(script, media_type="text/javascript; charset=utf-8")


async def _html(pages: AnalystPages, work: Callable[[], bytes]) -> Response:
    return Response(await pages.run(work, _nothing), media_type=_HTML)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) < _MAX_PAGE


def _nothing() -> None: ...
