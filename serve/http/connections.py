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
_MAX_GATHERED = 1 << 16

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


class GatheringTransport(asyncio.Transport):
    """A transport that sends together what one turn of the event loop writes, as the head and the body of an answer.

    Each sending wakes the client and lets go of the interpreter, which threads that judge give back late.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Send by way of `transport`."""
        super().__init__()
        self._transport, self._loop = transport, loop
        self._gathered = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send soon; at once where much is gathered, so that a reader that is slow is noticed."""
        if data and not self._gathered:
            self._loop.call_soon(self._send)
        self._gathered += data
        if len(self._gathered) > _MAX_GATHERED:
            self._send()

    def _send(self) -> None:
        gathered, self._gathered = self._gathered, bytearray()
        if gathered:
            self._transport.write(gathered)

    def close(self) -> None:
        """Close it when all is sent."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Close it, and send nothing more."""
        self._gathered = bytearray()
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes that are not sent yet."""
        return len(self._gathered) + self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Take nothing more from the client for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        return self._transport.get_extra_info(name, default)


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
        super().connection_made(GatheringTransport(transport, self.loop))
        if len(self.connections) > self.max_connections and not self._make_room():
            self.transport.write(_REFUSAL)
            self.transport.close()
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
