"""Middleware: what every request passes: key, rate, size; and every answer: security headers, count, one line of log.

A log line has the route, never the path, so neither ids nor queries; an account is logged as a keyed digest.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.keys import ApiKeys, RateLimit
from serve.http.metrics import Metrics
from serve.http.problems import ProblemError
from serve.http.request_bodies import too_large

LOG = logging.getLogger("stillwatch")
OPEN_PATHS = ("/healthz", "/readyz", "/", "/page.css", "/page.js")
"""Asked by probes, and by a browser before its user has given a key."""

_METHODS = frozenset(("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"))
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"strict-transport-security", b"max-age=31536000"),
)


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
        return str(getattr(self.scope.get("route"), "path", "none"))


class Middleware:
    """Middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, *, keys: ApiKeys, rate: RateLimit | None, metrics: Metrics, max_body_bytes: int
    ) -> None:
        """Let requests through to `app`: with one of these keys where there are any, at this rate, of this size."""
        self._app, self._keys, self._rate, self._metrics = app, keys, rate, metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, send)
        try:
            self._check(passage)
            await self._app(scope, receive, passage.sent)
        except ProblemError as problem:
            await passage.refused(problem)
        except Exception as fault:
            place = traceback.extract_tb(fault.__traceback__)[-1]
            LOG.error(json.dumps({"fault": type(fault).__name__, "at": f"{place.name}:{place.lineno}"}))
            if not passage.status:
                await passage.refused(ProblemError(500, "something is wrong here, not with the request"))
        finally:
            self._count(passage)

    def _check(self, passage: _Passage) -> None:
        headers = {name.lower(): value for name, value in passage.scope["headers"]}
        if self._keys and passage.scope["path"] not in OPEN_PATHS:
            name = self._keys.name_of(headers.get(b"authorization", b"").decode("latin-1"))
            if name is None:
                raise ProblemError(401, "expected the header authorization: Bearer KEY, with a key that is known")
            passage.key = name
            if self._rate is not None and (wait_s := self._rate.wait_s(name)):
                raise ProblemError(429, "too many requests with this key", retry_after=wait_s)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > self._max_body_bytes:
            raise too_large(self._max_body_bytes)

    def _count(self, passage: _Passage) -> None:
        seconds, method = time.perf_counter() - passage.began_at, passage.scope["method"]
        method = method if method in _METHODS else "other"
        self._metrics.requests.labels(method, passage.route, str(passage.status)).inc()
        self._metrics.seconds.labels(passage.route).observe(seconds)
        line = {"method": method, "route": passage.route, "status": passage.status, "ms": round(seconds * 1e3, 2)}
        account = passage.scope.get("state", {}).get("account")
        named = {"key": passage.key or None, "account": account}
        LOG.info(json.dumps(line | {name: value for name, value in named.items() if value}))
