"""What passes the middleware is counted as what it was."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from serve.http.app import create_app
from serve.http.middleware import LogWriter
from serve.http.service import ServiceSettings


def scope_of(path: str) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"99")]
    return {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http",
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/score", "/v1/requests", "/v1/sessions/s/exchanges", "/page/pasted"])
def test_a_client_that_leaves_is_no_fault_of_the_service(
    bundle_folder: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """A body of which half came was counted as a 500, so that anybody could ring an alarm."""
    app = create_app(ServiceSettings(bundle=bundle_folder))
    parts: Iterator[Message] = iter(
        [{"type": "http.request", "body": b'{"canary', "more_body": True}, {"type": "http.disconnect"}]
    )
    sent: list[Message] = []

    async def receive() -> Message:
        return next(parts)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope_of(path), receive, send))
    counts = [
        (sample.labels["status"], sample.value)
        for family in app.state.service.metrics.requests.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    ]
    assert counts == [("499", 1.0)]
    assert not sent
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert app.state.service.body_memory.n_held == 0


def test_a_request_that_the_end_of_the_service_cuts_off_is_told_so(bundle_folder: Path) -> None:
    app = create_app(ServiceSettings(bundle=bundle_folder))
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(60)
        raise AssertionError("not reached")

    async def send(message: Message) -> None:
        sent.append(message)

    async def cut_off() -> None:
        request = asyncio.create_task(app(scope_of("/v1/score"), receive, send))
        await asyncio.sleep(0.05)
        request.cancel()
        await request

    asyncio.run(cut_off())
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
    assert b"the service ends" in sent[1]["body"]


def test_a_log_that_nobody_reads_holds_nobody_up_and_tells_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe takes 64 KiB; then whoever wrote a line, as the event loop did, waited for good."""
    monkeypatch.setattr("serve.http.middleware.MAX_LINES", 400)
    monkeypatch.setattr("serve.http.middleware.FLUSH_S", 0.1)
    reader, writer = os.pipe()
    log, own, began_at = logging.Logger("own"), LogWriter(writer), time.monotonic()
    log.addHandler(own)
    for n in range(1_000):
        log.info("line %d %s", n, "x" * 1_000)
        while n == 99 and own._lines:
            time.sleep(0.001)  # until they are in the pipe, or before it: it takes no more
    own.flush()
    assert time.monotonic() - began_at < 10
    read = b""
    while b"dropped" not in read:
        read += os.read(reader, 1 << 16)
    lines = read.decode().splitlines()
    assert [int(line.split()[4]) for line in lines[:-1]] == list(range(500))
    assert lines[-1] == "500 lines of the log were dropped, since nobody read it"
    own.flush()
    assert own._is_written.is_set()
    os.close(writer)
    os.close(reader)
