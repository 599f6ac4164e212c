"""Fail open: a guardrail that can't judge lets a request pass, since gateways stop it at any other answer than 200."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

GUARDRAIL_PATH = "/beta/litellm_basic_guardrail_api"
PORTKEY_PATH = "/v1/portkey/webhook"
PASS = {GUARDRAIL_PATH: b'{"action":"NONE"}', PORTKEY_PATH: b'{"verdict":true}'}
"""What lets a request pass, by path."""

UNJUDGED = "x-stillwatch-unjudged"
"""Header of an answer that lets a request pass unjudged; says which status there would have been, or `late`."""

_OWN_FAULTS = frozenset((408, 413, 422, 429, 500, 503))
"""Statuses that say nothing of how the gateway is configured; a wrong key, path or host still shows as what it is."""


class FailOpen:
    """Around the whole application; only answers of the guardrails' paths are changed."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        passing = PASS.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if passing is None:
            await self._app(scope, receive, send)
            return
        is_passed = False

        async def opened(message: Message) -> None:
            nonlocal is_passed
            if message["type"] == "http.response.start" and message["status"] in _OWN_FAULTS:
                is_passed = True
                message = {**message, "status": 200, "headers": _headers(message, len(passing))}
            elif message["type"] == "http.response.body" and is_passed:
                if message.get("more_body"):
                    return
                message = {**message, "body": passing}
            await send(message)

        await self._app(scope, receive, opened)


def _headers(message: Message, n_bytes: int) -> list[tuple[bytes, bytes]]:
    left = (b"content-type", b"content-length", b"retry-after")
    own = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in left]
    fault = UNJUDGED.encode(), str(message["status"]).encode()
    return [*own, (b"content-type", b"application/json"), (b"content-length", str(n_bytes).encode()), fault]
