"""Admission: who may ask, from where, how often and how much, decided before a body is read."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from serve.http.keys import ApiKeys, RateLimits
from serve.http.problems import ProblemError
from serve.http.request_bodies import too_large

OPEN_PATHS = ("/healthz", "/readyz", "/", "/page.css", "/page.js")
"""Asked by probes, and by a browser before its user has given a key."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What is asked of every request.

    `hosts`: where given, only requests that name this machine or one of these as their host, and come from no other
    site's page, are served.
    A browser lets any page send requests to a name that leads to 127.0.0.1, so that loopback alone keeps nobody out.
    """

    keys: ApiKeys
    limits: RateLimits
    max_body_bytes: int
    hosts: tuple[str, ...] | None = None

    async def check(self, scope: Scope) -> str:
        """The name of the key, empty where there are none.

        Raises:
            ProblemError: 400, 401, 403, 413, 421 or 429.
        """
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.hosts is not None and scope["path"] != "/healthz":
            _check_site(headers, self.hosts)
        name = await self._key(scope, headers)
        _check_text(scope)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or len(length) > 18 or int(length) > self.max_body_bytes:
            raise too_large(self.max_body_bytes)
        return name

    async def _key(self, scope: Scope, headers: Mapping[str, str]) -> str:
        if not self.keys or scope["path"] in OPEN_PATHS:
            return ""
        name = self.keys.name_of(headers.get("authorization", ""))
        if name is None:
            if wait_s := self.limits.refused(_network(scope)):
                raise ProblemError(429, "too many requests without a key that is known", retry_after=wait_s)
            raise ProblemError(401, "expected the header authorization: Bearer KEY, with a key that is known")
        if wait_s := await self.limits.asked(name):
            raise ProblemError(429, "too many requests with this key", retry_after=wait_s)
        return name


def _check_site(headers: Mapping[str, str], hosts: tuple[str, ...]) -> None:
    host = headers.get("host", "")
    if not _is_this_machine(host, hosts):
        raise ProblemError(421, "expected the header host to name this machine, as localhost or 127.0.0.1 does")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise ProblemError(403, "another site's page may not ask here")


def _is_this_machine(host: str, hosts: tuple[str, ...]) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower().rstrip(".") in ("localhost", *map(str.lower, hosts)):
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _network(scope: Scope) -> str:
    """The client's address; of IPv6 the network of 64 bits, since one machine has all of its addresses."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


def _check_text(scope: Scope) -> None:
    """An id that isn't UTF-8 would be read as that of another."""
    for name in ("raw_path", "query_string"):
        try:
            unquote_to_bytes(scope.get(name) or b"").decode()
        except UnicodeDecodeError:
            raise ProblemError(400, "the path or query is not UTF-8") from None
