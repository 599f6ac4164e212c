"""Endpoint: an HTTP server of yours that is posted to; answers are not read, and redirects are not followed."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

ANSWER_S = 5.0
"""Longest that a connection, or an answer's next bytes, are waited for."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to post; `path` may hold a token, so it is never shown."""

    host: str
    port: int | None
    is_tls: bool
    path: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """The endpoint of a URL.

        Raises:
            ValueError: when it can't be posted to; the sentence doesn't quote it.
        """
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("expected a URL of printable ASCII without spaces")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("its host or port is not one") from None
        if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
            raise ValueError("expected http:// or https://, a host, and no user")
        return cls(
            host, port, parts.scheme == "https", (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        )

    def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status that a JSON body is answered with.

        Raises:
            OSError: when there is no answer.
            HTTPException: when what answers is no HTTP.
        """
        kind = http.client.HTTPSConnection if self.is_tls else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=ANSWER_S)
        try:
            given = {"content-type": "application/json", "user-agent": "stillwatch", **headers}
            connection.request("POST", self.path, body, given)
            return connection.getresponse().status
        finally:
            connection.close()
