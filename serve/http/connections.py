"""Connections: uvicorn's HTTP protocol with deadlines for a request's head and whole, and a bound on their number.

Where a new connection finds no room, the one that has waited longest makes it: half-sent requests lock nobody out.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 5.0
"""Longest that a request's head may take to arrive, and that a new connection may stay silent."""

REQUEST_S = 60.0
"""Longest from a request's head to the last byte of its answer; a client that reads slower is cut off."""

MAX_CONNECTIONS = 1000
_OTHER_FILES = 100

_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def room_for(n_connections: int) -> int:
    """How many of so many connections the process may have open files for; its own limit is raised where it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n_connections + _OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(n_connections, soft - _OTHER_FILES))


def bounded_protocol(
    n_connections: int = MAX_CONNECTIONS, head_s: float = HEAD_S, request_s: float = REQUEST_S
) -> type[H11Protocol]:
    """A protocol for uvicorn with these bounds."""

    class Bounded(BoundedProtocol):
        max_connections, head_seconds, request_seconds = n_connections, head_s, request_s

    return Bounded


class BoundedProtocol(H11Protocol):
    """One connection. Its stage is what is waited for; each but `idle`, which uvicorn ends, has a deadline."""

    max_connections, head_seconds, request_seconds = MAX_CONNECTIONS, HEAD_S, REQUEST_S

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._stage = ""
        self._stage_began_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room, or refuse."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections and not self._make_room():
            transport.write(_REFUSAL)
            transport.close()
        self._enter("head")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._enter("closed")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived, and see what is waited for next."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """An answer is written: the next request may begin."""
        self._enter("answered")
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        states = (self.conn.our_state, self.conn.their_state)
        if self.transport.is_closing():
            return  # the deadline that runs holds for what is still to be sent
        if states == (h11.IDLE, h11.IDLE):
            is_idle = self.timeout_keep_alive_task is not None and not self.conn.trailing_data[0]
            is_sent = self.transport.get_write_buffer_size() == 0
            self._enter("head" if not is_idle else "idle" if is_sent else "sending")
        elif self._stage != "answered":  # answered, but its body is still arriving
            self._enter("request")

    def _enter(self, stage: str) -> None:
        if stage == self._stage:
            return
        self._stage, self._stage_began_at = stage, self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
        short, long = self.head_seconds, self.request_seconds
        seconds = {"head": short, "answered": short, "request": long, "sending": long}
        self._timer = self.loop.call_later(seconds[stage], self._cut) if stage in seconds else None

    def _make_room(self) -> bool:
        """End the connection that has waited longest for a head, or else for a next request."""
        others = [own for own in self.connections if isinstance(own, BoundedProtocol) and own is not self]
        waiting = [other for other in others if other._stage in ("head", "idle")]
        if not waiting:
            return False
        min(waiting, key=lambda other: (other._stage != "head", other._stage_began_at))._abort()
        return True

    def _cut(self) -> None:
        if self._stage == "head" and not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()
            self._enter("answered")
        elif self._stage == "sending" and self.transport.get_write_buffer_size() == 0:
            self._enter("idle")
        else:
            self._abort()

    def _abort(self) -> None:
        self._enter("closed")
        self.transport.abort()
