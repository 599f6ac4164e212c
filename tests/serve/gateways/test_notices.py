"""Notices: what a receiver gets, and that a slow, failing or dead one costs nothing but its notices."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from serve.gateways.alertmanager import Alertmanager
from serve.gateways.endpoint import Endpoint
from serve.gateways.langfuse import Langfuse, keys_in, scores_of
from serve.gateways.notices import Notice, Notices
from serve.gateways.phoenix import Phoenix, annotations_of
from serve.gateways.webhook import Webhook, secret_in
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdicts
from serve.sessions.records import Session, Sessions

SECRET = bytes(range(32))
NOTICE = Notice("s", "a", 12, 0.75, 0.001, 0.5, "b", 1e9)


class Server:
    """A receiver on this machine: what it got, and the statuses that it answers with, 200 after the last."""

    def __init__(self, *statuses: int) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        left = list(statuses)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                server.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(left.pop(0) if left else 200)
                self.send_header("location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serving() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def made(*statuses: int) -> Server:
        servers.append(Server(*statuses))
        return servers[-1]

    yield made
    for server in servers:
        server.close()


class Fake:
    """A receiver in the process that takes a notice when it is let."""

    name = "fake"

    def __init__(self, *statuses: int | Exception) -> None:
        self.let, self.begun = threading.Event(), threading.Event()
        self.got: list[Notice] = []
        self._left = list(statuses)

    def send(self, notice: Notice) -> int:
        self.begun.set()
        self.let.wait(5)
        self.got.append(notice)
        found = self._left.pop(0) if self._left else 204
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def flagged(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> Verdicts:
    """Verdicts on 30 sessions, the first 5 of them flagged."""
    verdicts = tiny_scorer.judge(Sessions.of(sessions))
    return dataclasses.replace(verdicts, label=np.array(["harvesting"] * 5 + ["organic"] * 25))


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_an_event_is_signed_as_standard_webhooks_says(serving: Callable[..., Server]) -> None:
    server = serving(200)
    before = int(time.time())
    assert Webhook(Endpoint.parse(f"{server.url}/hook?token=t"), SECRET).send(NOTICE) == 200
    ((path, headers, body),) = server.got
    assert path == "/hook?token=t"
    assert json.loads(body) == {
        "type": "session.harvesting", "timestamp": "2001-09-09T01:46:40.000+00:00",
        "data": {
            "session_id": "s", "account_id": "a", "n_exchanges": 12, "score": 0.75, "p_value": 0.001,
            "threshold": 0.5, "bundle": "b",
        },
    }  # fmt: skip
    name, at = headers["webhook-id"], headers["webhook-timestamp"]
    assert before <= int(at) <= time.time()
    signed = base64.b64encode(hmac.new(SECRET, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{signed}"
    assert headers["content-type"] == "application/json"


def test_a_score_is_what_langfuse_takes(serving: Callable[..., Server]) -> None:
    server = serving(200)
    assert Langfuse(scores_of(server.url + "/"), "pk:sk").send(NOTICE) == 200
    ((path, headers, body),) = server.got
    assert (path, headers["authorization"]) == ("/api/public/scores", "Basic cGs6c2s=")
    assert json.loads(body) == {
        "id": NOTICE.notice_id, "sessionId": "s", "name": "stillwatch", "value": 0.75, "dataType": "NUMERIC",
        "comment": "harvesting: 12 exchanges, p-value 0.001, bundle b",
    }  # fmt: skip


@pytest.mark.parametrize("key", [None, "canary"])
def test_an_annotation_is_what_phoenix_takes(serving: Callable[..., Server], key: str | None) -> None:
    server = serving(200)
    assert Phoenix(annotations_of(server.url + "/"), key).send(NOTICE) == 200
    ((path, headers, body),) = server.got
    assert (path, headers.get("authorization")) == ("/v1/session_annotations", key and f"Bearer {key}")
    assert json.loads(body) == {"data": [{
        "session_id": "s", "name": "stillwatch", "annotator_kind": "CODE", "identifier": NOTICE.notice_id,
        "result": {"label": "harvesting", "score": 0.75, "explanation": "12 exchanges, p-value 0.001"},
        "metadata": {"n_exchanges": 12, "p_value": 0.001, "threshold": 0.5, "bundle": "b"},
    }]}  # fmt: skip


def test_an_alert_is_as_alertmanager_sends_it(serving: Callable[..., Server]) -> None:
    server = serving(200)
    assert Alertmanager(Endpoint.parse(f"{server.url}/hook/token")).send(NOTICE) == 200
    ((path, _, body),) = server.got
    found = json.loads(body)
    assert path == "/hook/token"
    assert set(found) == {
        "version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels", "commonLabels",
        "commonAnnotations", "externalURL", "alerts",
    }  # fmt: skip
    (alert,) = found["alerts"]
    assert (found["version"], found["status"], alert["status"]) == ("4", "firing", "firing")
    assert found["commonLabels"] == alert["labels"] == {
        "alertname": "StillwatchHarvesting", "severity": "warning", "account_id": "a", "session_id": "s",
    }  # fmt: skip
    assert (alert["startsAt"], alert["endsAt"]) == ("2001-09-09T01:46:40.000+00:00", "0001-01-01T00:00:00Z")
    assert alert["fingerprint"] == NOTICE.notice_id[:16]


def test_the_id_is_the_sessions_alone() -> None:
    later = dataclasses.replace(NOTICE, score=0.9, bundle="c", judged_at=2e9)
    assert later.notice_id == NOTICE.notice_id
    swapped = [dataclasses.replace(NOTICE, account_id=a, session_id=s) for a, s in (("1:", "2"), ("1", ":2"))]
    assert len({NOTICE.notice_id, *(own.notice_id for own in swapped)}) == 3
    assert len(dataclasses.replace(NOTICE, session_id="\ud800").notice_id) == 32


def test_what_fails_is_sent_again_and_a_session_once(serving: Callable[..., Server], flagged: Verdicts) -> None:
    server, counts = serving(500, 302), Counter[str]()
    webhook = Webhook(Endpoint.parse(server.url), SECRET)
    notices = Notices(webhook, lambda outcome: counts.update([outcome]), retry_s=(0.01, 0.01))
    notices.add(flagged)
    notices.add(flagged)
    until(lambda: counts["sent"] == 5)
    notices.add(flagged)
    notices.close(5)
    assert counts == {"sent": 5}
    assert len(server.got) == 7
    names = [headers["webhook-id"] for _, headers, _ in server.got]
    assert len(set(names)) == 5
    assert {json.loads(body)["data"]["session_id"] for *_, body in server.got} == set(flagged.session_ids[:5])
    assert {path for path, *_ in server.got} == {"/"}


def test_what_always_fails_is_given_up_logged_once_and_sent_when_judged_again(
    flagged: Verdicts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("stillwatch"), "propagate", True)
    faults: list[int | Exception] = [503, ConnectionRefusedError("canary"), UnicodeError("canary")]
    fake, counts = Fake(*faults * 5), Counter[str]()
    fake.let.set()
    notices = Notices(fake, lambda outcome: counts.update([outcome]), retry_s=(0.0, 0.0))
    notices.add(flagged)
    until(lambda: counts["failed"] == 5)
    assert len(fake.got) == 15
    assert [own.getMessage() for own in caplog.records] == ["fake: status 503; verdicts go on"]
    notices.add(flagged)
    until(lambda: counts["sent"] == 5)
    notices.close(5)
    assert counts == {"failed": 5, "sent": 5}


def test_nothing_waits_for_a_receiver_and_what_finds_no_room_is_dropped(flagged: Verdicts) -> None:
    fake, counts = Fake(), Counter[str]()
    notices = Notices(fake, lambda outcome: counts.update([outcome]), max_waiting=2)
    begun = time.monotonic()
    notices.add(flagged)
    assert counts["dropped"] in (2, 3)  # one may have been taken from the queue meanwhile
    assert fake.begun.wait(5)
    notices.close(0.01)
    assert time.monotonic() - begun < 2
    assert counts == {"dropped": 4}
    fake.let.set()
    until(lambda: counts["sent"] == 1)
    notices.add(flagged)  # it is closed
    assert counts == {"dropped": 8, "sent": 1}


def test_closing_tries_once_more_what_waits(flagged: Verdicts) -> None:
    fake, counts = Fake(*[500] * 5, 200, 500), Counter[str]()
    fake.let.set()
    notices = Notices(fake, lambda outcome: counts.update([outcome]), retry_s=(3600.0,))
    notices.add(flagged)
    until(lambda: len(fake.got) == 5 and len(notices._waiting) == 5)
    notices.close(5)
    assert counts == {"sent": 4, "failed": 1}


def test_organic_sessions_start_nothing(flagged: Verdicts) -> None:
    fake = Fake()
    notices = Notices(fake, lambda _: None)
    notices.add(dataclasses.replace(flagged, label=np.array(["organic", "undecided"] * 15)))
    assert notices._thread is None
    notices.close(0.0)


@pytest.mark.parametrize(
    "url",
    ["", "canary", "ftp://canary", "file:///canary", "http://", "http://canary:99999", "http://canary:x",
     "http://u:p@canary", "http://canary/a b", "http://canary/\n", "http://canäry", "http://[canary"],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_not_quoted(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|not one") as fault:
        Endpoint.parse(url)
    assert "canary" not in str(fault.value)


def test_what_is_secret_is_not_shown() -> None:
    webhook = Webhook(Endpoint.parse("https://host/canary?canary"), b"canary")
    assert (webhook.endpoint.is_tls, webhook.endpoint.port) == (True, None)
    assert "canary" not in repr((webhook, Langfuse(webhook.endpoint, "pk:canary"), Phoenix(webhook.endpoint, "canary")))


def test_secrets_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    assert secret_in(path) == SECRET
    for wrong in ("canary", base64.b64encode(SECRET).decode(), "whsec_canary", "whsec_Y2FuYXJ5", "whsec_ä"):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(ValueError, match="expected a file of whsec_") as fault:
            secret_in(path)
        assert "canary" not in str(fault.value)
    path.write_text("pk:sk\n")
    assert keys_in(path) == "pk:sk"
    for wrong in ("canary", "canary:", ":canary", "canary:a b", ""):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="expected a file of PUBLIC:SECRET"):
            keys_in(path)
    for read in (secret_in, keys_in):
        with pytest.raises(ValueError, match="can't be read"):
            read(tmp_path / "none")
