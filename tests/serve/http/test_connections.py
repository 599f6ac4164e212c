"""Connections that half ask, trickle or don't read are ended, and lock nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvicorn

from serve.http.connections import GatheringTransport, bounded_protocol, room_for

HEAD_S, REQUEST_S = 1.0, 2.0
HALF = b"GET / HTTP/1.1\r\nhost: x\r\n"
ASK = HALF + b"\r\n"


async def answer(
    scope: dict[str, object], receive: Callable[[], Awaitable[object]], send: Callable[..., Awaitable[None]]
) -> None:
    if scope["type"] != "http":
        return
    size = 1 << 24 if scope["path"] == "/large" else 2
    if scope["path"] == "/slow":
        await asyncio.sleep(60)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"k" * size})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    protocol = bounded_protocol(8, HEAD_S, REQUEST_S)
    config = uvicorn.Config(
        answer, http=protocol, lifespan="off", log_level="critical", timeout_keep_alive=30,  # type: ignore[arg-type]
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)


def connected(port: int) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port))
    found.settimeout(60)
    return found


def rest(own: socket.socket) -> bytes:
    """What comes until the connection ends."""
    found = bytearray()
    with own, contextlib.suppress(ConnectionError):
        while part := own.recv(1 << 16):
            found += part
    return bytes(found)


def answered(own: socket.socket, n: int = 1) -> bool:
    """Whether so many answers come."""
    found = b""
    while found.count(b"\r\n\r\nkk") < n:
        part = own.recv(1 << 16)
        if not part:
            return False
        found += part
    return True


def test_half_a_head_is_answered_408_and_cut_however_it_trickles(port: int) -> None:
    silent, half, trickling = connected(port), connected(port), connected(port)
    half.sendall(HALF)
    began_at = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began_at < 2 * HEAD_S:
            trickling.sendall(b"x")
            time.sleep(0.05)
    assert rest(silent).startswith(b"HTTP/1.1 408")
    assert rest(half).startswith(b"HTTP/1.1 408")
    rest(trickling)
    assert time.monotonic() - began_at < REQUEST_S + 2 * HEAD_S


def test_a_second_request_has_the_same_deadline_and_an_idle_connection_has_more(port: int) -> None:
    own, idle = connected(port), connected(port)
    for each in (own, idle):
        each.sendall(ASK)
        assert answered(each)
    own.sendall(HALF)
    assert rest(own).startswith(b"HTTP/1.1 408")
    idle.sendall(ASK)
    assert answered(idle)
    idle.close()


@pytest.mark.parametrize("path", [b"/slow", b"/large"])
def test_a_request_that_does_not_end_is_cut(port: int, path: bytes) -> None:
    own = connected(port)
    own.sendall(ASK.replace(b"/", path, 1))
    time.sleep(3 * REQUEST_S)  # its end is counted from when the answer is written
    assert len(rest(own)) < 1 << 24


def test_a_body_nobody_waits_for_is_cut(port: int) -> None:
    own = connected(port)
    own.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
    assert answered(own)
    began_at = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began_at < 4 * HEAD_S:
            own.sendall(b"x")
            time.sleep(0.05)
    assert time.monotonic() - began_at < 3 * HEAD_S
    own.close()


def test_half_open_connections_lock_nobody_out(port: int) -> None:
    """The attack: more half-sent heads than there may be connections."""
    half = [connected(port) for _ in range(30)]
    for own in half:
        with contextlib.suppress(ConnectionError):
            own.sendall(HALF)
    asking = connected(port)
    asking.sendall(ASK)
    assert answered(asking)
    for own in (*half, asking):
        own.close()


def test_many_requests_of_one_connection_have_a_deadline_each(port: int) -> None:
    own = connected(port)
    began_at = time.monotonic()
    while time.monotonic() - began_at < REQUEST_S + 0.4:
        own.sendall(ASK + ASK)
        assert answered(own, 2)
    own.close()


def test_there_is_room_for_connections_beside_other_files() -> None:
    assert 1 <= room_for(10) <= 10


class Sent(asyncio.Transport):
    """A transport that notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.seen.append(bytes(data))

    def close(self) -> None:
        self.seen.append("closed")

    def get_write_buffer_size(self) -> int:
        return 0


def test_what_one_turn_writes_is_sent_together_and_before_the_end() -> None:
    async def seen() -> list[bytes | str]:
        sent = Sent()
        gathering = GatheringTransport(sent, asyncio.get_running_loop())
        gathering.write(b"head ")
        gathering.write(b"body")
        assert gathering.get_write_buffer_size() == 9
        await asyncio.sleep(0)
        gathering.write(bytes(1 << 17))  # a slow reader must be noticed
        assert len(sent.seen) == 2
        gathering.write(b"last")
        gathering.close()
        await asyncio.sleep(0)
        return sent.seen

    assert asyncio.run(seen()) == [b"head body", bytes(1 << 17), b"last", "closed"]
