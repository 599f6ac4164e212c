"""Pages: what an analyst sees of the service: cards of sessions, flagged ones, campaigns, and marks on verdicts.

The page itself is open to anyone who reaches the service and holds nothing; all that it shows is asked for with the key
that the analyst gives, as everything of the interface is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field, StrictStr

from serve.analyst.account_details import area_lines
from serve.analyst.feedback import MAX_NOTE_CHARS, Feedback, Mark
from serve.analyst.pasted import read_pasted
from serve.analyst.recently_flagged import RecentlyFlagged
from serve.analyst.rendering import render
from serve.bundle.bundle import Bundle
from serve.campaigns.campaign_files import read_campaigns
from serve.http.problems import ProblemError
from serve.http.request_bodies import BodyLimits, BodyMemory, Model, parse, read_body
from serve.http.schemas import Id, PastedIn, ScoreIn, check_id
from serve.scoring.explanation import Evidence, Reason
from serve.scoring.verdict import Verdict
from serve.sessions.records import Sessions

SHELL = ("/", "/page.css", "/page.js")
"""Paths of the page itself."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_NONE_TITLE = "None of the known areas"


class MarkIn(BaseModel):
    """What an analyst says of a verdict."""

    account_id: Id
    session_id: Id
    verdict: Literal["harvesting", "organic"]
    mark: Literal["confirmed", "wrong"]
    score: Annotated[float, Field(ge=0, le=1)]
    p_value: Annotated[float, Field(ge=0, le=1)]
    bundle: Annotated[StrictStr, Field(max_length=64)]
    note: Annotated[StrictStr, Field(max_length=MAX_NOTE_CHARS)] = ""


@dataclass(frozen=True)
class AnalystPages:
    """What the page works with: how the service answers, where work waits, and what is kept for analysts."""

    score: Callable[[ScoreIn], dict[str, Any]]
    judge: Callable[[Sessions], dict[str, Any]]
    session: Callable[[str, str | None], dict[str, Any]]
    account: Callable[[str], dict[str, Any]]
    bundle: Callable[[], Bundle]
    run: Callable[[Callable[[], bytes], Callable[[], None]], Awaitable[bytes]]
    limits: BodyLimits
    memory: BodyMemory
    recently_flagged: RecentlyFlagged
    feedback: Feedback | None
    campaigns: Path | None

    def cards(self, given: ScoreIn) -> bytes:
        """Cards of whole sessions."""
        return self._cards(self.score(given.model_copy(update={"explain": True}))["verdicts"])

    def pasted(self, given: PastedIn) -> bytes:
        """Cards of the sessions in a text of any format.

        Raises:
            ProblemError: 422 with a sentence that says why it can't be judged.
        """
        try:
            found = read_pasted(given.text)
        except ValueError as fault:
            raise ProblemError(422, str(fault)) from None
        return self._cards(self.judge(found.sessions)["verdicts"], found.lines)

    def live(self, session_id: str, account_id: str | None) -> bytes:
        """The card of a session so far."""
        return self._cards([self.session(session_id, account_id)["verdict"]])

    def lookup(self, account_id: str) -> bytes:
        """What is known of an account."""
        return _fragment("account.html", account=self.account(account_id), titles=self._titles())

    def flagged(self) -> bytes:
        """Sessions that were flagged last."""
        return _fragment("flagged.html", cases=self.recently_flagged.cases())

    def campaign_list(self) -> bytes:
        """Campaigns of the file that the service was given."""
        campaign_list = None if self.campaigns is None else read_campaigns(self.campaigns)
        return _fragment("campaigns.html", campaign_list=campaign_list, titles=self._titles())

    def mark(self, given: MarkIn) -> bytes:
        """Keep a mark; the fragment lists all."""
        if self.feedback is None:
            raise ProblemError(404, "no store of feedback is set: STILLWATCH_FEEDBACK=FILE")
        self.feedback.add(Mark(**given.model_dump()))
        return self.marks()

    def marks(self) -> bytes:
        """All marks."""
        return _fragment("marked.html", marks=None if self.feedback is None else self.feedback.marks())

    def _cards(self, rows: list[dict[str, Any]], lines: tuple[str, ...] = ()) -> bytes:
        bundle = self.bundle()
        verdicts = [_verdict(row) for row in rows]
        areas = [area_lines(verdict, self._titles(), bundle, None, None) for verdict in verdicts]
        return _fragment(
            "cards.html", cards=list(zip(verdicts, areas, strict=True)), can_mark=self.feedback is not None, lines=lines
        )  # fmt: skip

    def _titles(self) -> dict[str, str]:
        return {**self.bundle().capabilities.titles, "none": _NONE_TITLE}


def _verdict(row: dict[str, Any]) -> Verdict:
    reasons, evidence = (
        tuple(record(**own) for own in row[name]) for name, record in (("reasons", Reason), ("evidence", Evidence))
    )
    return Verdict(**(row | {"reasons": reasons, "evidence": evidence}))


def add_page(app: FastAPI, pages: AnalystPages) -> None:
    """Add the page and what it asks for; none of it is part of the interface that OpenAPI describes."""
    _add_shell(app)

    async def html_response(work: Callable[[], bytes], after: Callable[[], None] = lambda: None) -> Response:
        return Response(await pages.run(work, after), media_type="text/html; charset=utf-8")

    async def taken(request: Request, model: type[Model], work: Callable[[Model], bytes]) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await read_body(request.stream(), headers, pages.limits, pages.memory)
        return await html_response(lambda: work(parse(body.plain(), model)), body.close)

    @app.post("/page/cards", include_in_schema=False)
    async def cards(request: Request) -> Response:
        return await taken(request, ScoreIn, pages.cards)

    @app.post("/page/pasted", include_in_schema=False)
    async def pasted(request: Request) -> Response:
        return await taken(request, PastedIn, pages.pasted)

    @app.post("/page/marks", include_in_schema=False)
    async def mark(request: Request) -> Response:
        return await taken(request, MarkIn, pages.mark)

    @app.get("/page/marks", include_in_schema=False)
    async def marks() -> Response:
        return await html_response(pages.marks)

    @app.get("/page/sessions/{session_id:path}", include_in_schema=False)
    async def session(session_id: str, account_id: str | None = None) -> Response:
        for text in (session_id, *filter(None, [account_id])):
            check_id(text)
        return await html_response(lambda: pages.live(session_id, account_id))

    @app.get("/page/accounts/{account_id:path}", include_in_schema=False)
    async def account(account_id: str) -> Response:
        check_id(account_id)
        return await html_response(lambda: pages.lookup(account_id))

    @app.get("/page/flagged", include_in_schema=False)
    async def flagged() -> Response:
        return await html_response(pages.flagged)

    @app.get("/page/campaigns", include_in_schema=False)
    async def campaigns() -> Response:
        return await html_response(pages.campaign_list)


def _add_shell(app: FastAPI) -> None:
    html, css, script = (_fragment(name) for name in ("page.html", "page.css", "page.js"))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(html, media_type="text/html; charset=utf-8", headers={"content-security-policy": _POLICY})

    @app.get("/page.css", include_in_schema=False)
    async def style() -> Response:
        return Response(css, media_type="text/css; charset=utf-8")

    @app.get("/page.js", include_in_schema=False)
    async def behaviour() -> Response:
        return Response(script, media_type="text/javascript; charset=utf-8")


def _fragment(template: str, **values: object) -> bytes:
    return render(template, **values).encode()
