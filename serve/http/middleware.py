"""Middleware: what each request passes: admission, a deadline; and each answer: security headers, count, a line of log.

A log line has the route, never the path, so neither ids nor queries; an account is logged as a keyed digest. Lines are
written by a thread of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.admission import Admission
from serve.http.metrics import Metrics
from serve.http.problems import ProblemError

LOG = logging.getLogger("stillwatch")
CLIENT_LEFT = 499
"""The status that logs and metrics show, as nginx does, where the client left before its request was whole."""

GATHER_S = 0.1
"""How long lines of the log wait for others."""

FLUSH_S = 1.0
"""Longest that the end of the process waits for whoever reads the log."""

MAX_LINES, _STDERR = 10_000, 2
_METHODS = frozenset(("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"))
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"strict-transport-security", b"max-age=31536000"),
)


class LogWriter(logging.Handler):
    """Lines of the log, written together by a thread of its own, a moment later.

    Whoever logs never waits for whoever reads, nor lets go of the interpreter, which threads that judge give back late.
    While nobody reads, `MAX_LINES` wait; how many more there were is written later.
    """

    def __init__(self, descriptor: int) -> None:
        """Write to an open file."""
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._descriptor, self._lines, self._n_dropped = descriptor, list[str](), 0
        self._guard, self._is_wanted, self._is_written = threading.Lock(), threading.Event(), threading.Event()
        self._is_written.set()
        threading.Thread(target=self._write_on, name="stillwatch-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        line = self.format(record)
        with self._guard:
            if len(self._lines) < MAX_LINES:
                self._lines.append(line)
            else:
                self._n_dropped += 1
            self._is_written.clear()
            self._is_wanted.set()

    def flush(self) -> None:
        """Wait until all is written, `FLUSH_S` at most."""
        self._is_written.wait(FLUSH_S)

    def _write_on(self) -> None:
        while self._is_wanted.wait():
            time.sleep(GATHER_S)
            with contextlib.suppress(OSError):  # nobody can be told
                self._write(self._taken())
            with self._guard:
                if not self._lines:
                    self._is_written.set()

    def _taken(self) -> bytes:
        with self._guard:
            lines, self._lines = self._lines, []
            n_dropped, self._n_dropped = self._n_dropped, 0
            self._is_wanted.clear()
        if n_dropped:
            lines.append(f"{n_dropped} lines of the log were dropped, since nobody read it")
        return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]


def log_to_stderr() -> None:
    """Let what is logged be written to standard error."""
    LOG.handlers[:] = [LogWriter(_STDERR)]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


@dataclass(slots=True)
class _Passage:
    """One request on its way."""

    scope: Scope
    send: Send
    status: int = 0
    key: str = ""
    began_at: float = field(default_factory=time.perf_counter)

    async def sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name for name, _ in message.get("headers", ())}
            message["headers"] = [*message.get("headers", ()), *(pair for pair in _HEADERS if pair[0] not in own)]
        await self.send(message)

    async def refused(self, problem: ProblemError) -> None:
        body = problem.body()
        headers = problem.headers() | {"content-length": str(len(body))}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.sent({"type": "http.response.start", "status": problem.status, "headers": raw})
        await self.sent({"type": "http.response.body", "body": body})

    @property
    def route(self) -> str:
        return str(getattr(self.scope.get("route"), "path_format", "none"))


class Middleware:
    """Middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        admission: Admission,
        refuse_if_full: Callable[[Scope], None],
        metrics: Metrics,
        seconds: float,
    ) -> None:
        """Let requests through to `app` that are admitted and not refused; each is served within so many `seconds`."""
        self._app, self._admission, self._metrics, self._seconds = app, admission, metrics, seconds
        self._refuse_if_full = refuse_if_full

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, send)
        try:
            passage.key = await self._admission.check(scope)
            self._refuse_if_full(scope)
            scope.setdefault("state", {})["key"] = passage.key
            async with asyncio.timeout(self._seconds):
                await self._app(scope, receive, passage.sent)
        except TimeoutError:
            if not passage.status:
                await passage.refused(ProblemError(503, f"no answer within {self._seconds:g} s", retry_after=1))
        except ProblemError as problem:
            await passage.refused(problem)
        except asyncio.CancelledError:  # the service ends, and waited for this long enough
            if not passage.status:
                await passage.refused(ProblemError(503, "the service ends", retry_after=1))
        except ClientDisconnect:
            passage.status = passage.status or CLIENT_LEFT
        except Exception as fault:
            place = traceback.extract_tb(fault.__traceback__)[-1]
            LOG.error(json.dumps({"fault": type(fault).__name__, "at": f"{place.name}:{place.lineno}"}))
            if not passage.status:
                await passage.refused(ProblemError(500, "something is wrong here, not with the request"))
        finally:
            self._count(passage)

    def _count(self, passage: _Passage) -> None:
        seconds, method = time.perf_counter() - passage.began_at, passage.scope["method"]
        method = method if method in _METHODS else "other"
        self._metrics.requests.labels(method, passage.route, str(passage.status)).inc()
        self._metrics.seconds.labels(passage.route).observe(seconds)
        line = {"method": method, "route": passage.route, "status": passage.status, "ms": round(seconds * 1e3, 2)}
        if not passage.key and passage.status == HTTPStatus.TOO_MANY_REQUESTS:
            return  # nobody fills the log without a key
        account = passage.scope.get("state", {}).get("account")
        named = {"key": passage.key or None, "account": account}
        LOG.info(json.dumps(line | {name: value for name, value in named.items() if value}))
