"""Answers: what the analyst's page shows, as fragments of HTML."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from serve.adaptation.label_files import csv_lines, json_lines
from serve.analyst.account_details import AreaLine, area_lines
from serve.analyst.pasted import read_pasted
from serve.analyst.rendering import render
from serve.analyst.review.account_life import AccountLife
from serve.analyst.review.cases import DecidedMeanwhileError, QueueDownError, Wanted, verdict_of
from serve.analyst.review.inbox import Inbox
from serve.analyst.review.queue import ReviewQueue
from serve.campaigns.campaign_files import CampaignFile, Entry, read_campaigns
from serve.http.pages.schemas import DecisionIn, PastedIn
from serve.http.problems import ProblemError
from serve.http.request_bodies import BodyLimits, BodyMemory
from serve.io.discovery import InputError, fault_text
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdict
from serve.sessions.records import Sessions

_NONE_TITLE = "None of the known areas"
_LABEL_LINES = {"jsonl": json_lines, "csv": csv_lines}


@dataclass(frozen=True)
class AnalystPages:
    """What the page works with: how the service answers, where work waits, and the review queue."""

    judge: Callable[[Sessions], dict[str, Any]]
    session: Callable[[str, str | None], dict[str, Any]]
    account: Callable[[str], dict[str, Any]]
    scorer: Callable[[], Scorer]
    run: Callable[[Callable[[], bytes], Callable[[], None]], Awaitable[bytes]]
    limits: BodyLimits
    memory: BodyMemory
    queue: ReviewQueue
    inbox: Inbox
    campaigns: Path | None

    def queued(self, wanted: Wanted) -> bytes:
        """Cases of the review queue."""
        with self._reached():
            return fragment("queue.html", page=self.queue.page(wanted), titles=self._titles())

    def account_page(self, account_id: str) -> bytes:
        """An account's life."""
        with self._reached():
            sessions, decisions = self.queue.sessions(account_id), self.queue.decisions(account_id)
        live = _known(lambda: self.account(account_id))
        if live is None and not sessions:
            raise ProblemError(404, "nothing is known of such an account")
        scorer = self.scorer()
        life = AccountLife.of(account_id, sessions, live, scorer.bundle.capabilities.areas, scorer.fpr)
        own = [
            entry.campaign_id for entry in self._entries()
            if account_id in [member.account_id for member in entry.members]
        ]  # fmt: skip
        return fragment(
            "account.html", life=life, is_live=live is not None, decisions=decisions, campaigns=own,
            titles=self._titles(),
        )  # fmt: skip

    def session_page(self, account_id: str | None, session_id: str) -> bytes:
        """A session's card, as it is in the queue, else as it is live."""
        with self._reached():
            found = None if account_id is None else self.queue.session(account_id, session_id)
            if found is not None:
                case, verdict = found
                state = case.state
            else:
                state, verdict = "", verdict_of(self.session(session_id, account_id)["verdict"])
            decisions = self.queue.decisions(verdict.account_id)
        return fragment(
            "session.html", verdict=verdict, areas=self._areas(verdict), state=state, decisions=decisions
        )  # fmt: skip

    def decided(self, given: DecisionIn, by: str) -> bytes:
        """Keep a decision; gives its number as JSON."""
        with self._reached():
            found = self._decide(given, by)
            if found is None and given.session_id is not None:
                verdict = verdict_of(self.session(given.session_id, given.account_id)["verdict"])
                self.queue.put([verdict], stores_all=True)
                found = self._decide(given, by)
        if found is None:
            raise ProblemError(404, "there is nothing in the queue to decide of")
        return json.dumps({"number": found.number, "state": found.state, "n_sessions": found.n_sessions}).encode()

    def decisions(self) -> bytes:
        """The latest decisions."""
        with self._reached():
            return fragment("decisions.html", decisions=self.queue.decisions())

    def sheet(self, number: int) -> bytes:
        """One decision, to print."""
        with self._reached():
            found = self.queue.decision(number)
        if found is None:
            raise ProblemError(404, "there is no decision of this number")
        return fragment("decision.html", decision=found, areas=self._areas(found.verdict))

    def labels(self, kind: str) -> bytes:
        """All decided sessions as a file: `jsonl` or `csv`."""
        with self._reached():
            return "".join(_LABEL_LINES[kind](self.queue.labels())).encode()

    def pasted(self, given: PastedIn) -> bytes:
        """Cards of the sessions in a text of any format.

        Raises:
            ProblemError: 422 with a sentence that says why it can't be judged.
        """
        try:
            found = read_pasted(given.text)
        except ValueError as fault:
            raise ProblemError(422, str(fault)) from None
        verdicts = [verdict_of(row) for row in self.judge(found.sessions)["verdicts"]]
        with self._reached():
            self.queue.put(verdicts, stores_all=True)
        cards = [(verdict, self._areas(verdict)) for verdict in verdicts]
        return fragment("cards.html", cards=cards, lines=found.lines)

    def campaign_list(self) -> bytes:
        """Campaigns of the file that the service was given."""
        try:
            found = self._campaigns()
        except InputError:
            raise ProblemError(503, "the file of campaigns can't be read; the service was given it") from None
        return fragment("campaigns.html", campaign_list=found, titles=self._titles())

    def _decide(self, given: DecisionIn, by: str) -> Any:
        return self.queue.decide(
            given.account_id, given.session_id, given.state, note=given.note, by=by, after=given.after
        )

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """The queue with all that was judged so far; its faults as problems."""
        try:
            self.inbox.flush()
            yield
        except QueueDownError as fault:
            raise ProblemError(503, str(fault), retry_after=1) from fault
        except DecidedMeanwhileError as fault:
            raise ProblemError(409, str(fault)) from fault

    def _campaigns(self) -> CampaignFile | None:
        if self.campaigns is None:
            return None
        try:
            changed_at = self.campaigns.stat().st_mtime_ns
        except OSError as fault:
            raise InputError(f"{self.campaigns}: {fault_text(fault)}") from None
        return _campaign_file(self.campaigns, changed_at)

    def _entries(self) -> tuple[Entry, ...]:
        """Campaigns, none where they can't be read: an account can be looked at without them."""
        try:
            found = self._campaigns()
        except InputError:
            return ()
        return () if found is None else found.entries

    def _areas(self, verdict: Verdict) -> tuple[AreaLine, ...]:
        return area_lines(verdict, self._titles(), self.scorer().bundle, None, None)

    def _titles(self) -> dict[str, str]:
        return {**self.scorer().bundle.capabilities.titles, "none": _NONE_TITLE}


def _known(ask: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """What is live, None where there is nothing or its store does not answer."""
    try:
        return ask()
    except ProblemError:
        return None


@lru_cache(maxsize=1)
def _campaign_file(path: Path, changed_at: int) -> CampaignFile:
    """The campaigns of a file, read again where it was changed since."""
    return read_campaigns(path)


def fragment(template: str, **values: object) -> bytes:
    """A part of a page."""
    return render(template, **values).encode()
