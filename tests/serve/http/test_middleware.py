"""What passes the middleware is counted as what it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from serve.http.app import create_app
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
