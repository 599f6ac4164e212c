"""Problems: what went wrong with a request, as RFC 9457 says it; never with anything that was sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing in a body that can't be used: where (a JSON pointer) and why."""

    pointer: str
    detail: str


@dataclass(eq=False)
class ProblemError(Exception):
    """A request that can't be served: HTTP status, what to do about it, faults of the body, seconds until a retry."""

    status: int
    detail: str
    faults: tuple[Fault, ...] = ()
    retry_after: int | None = None

    def body(self) -> bytes:
        """The problem as JSON."""
        told = {"type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status}
        errors = [{"pointer": fault.pointer, "detail": fault.detail} for fault in self.faults]
        return json.dumps(told | {"detail": self.detail} | ({"errors": errors} if errors else {})).encode()

    def headers(self) -> dict[str, str]:
        """Headers that belong to it."""
        headers = {"content-type": CONTENT_TYPE}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        return headers
