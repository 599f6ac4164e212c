"""Notices of the service: every flagged verdict is sent, once and without text, and no receiver holds a request up."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serve.gateways.alertmanager import Alertmanager
from serve.gateways.langfuse import Langfuse
from serve.gateways.notices import Notice
from serve.gateways.phoenix import Phoenix
from serve.gateways.webhook import Webhook, event
from serve.http import service
from serve.http.app import create_app
from serve.http.server import settings_of
from serve.http.service import ServiceSettings
from serve.scoring.scorer import Scorer

EXCHANGES = [{"prompt": f"canary sort a list {index}"} for index in range(6)]


class Fake:
    """A receiver that takes a notice when it is let."""

    name = "webhook"

    def __init__(self) -> None:
        self.let, self.got = threading.Event(), list[Notice]()

    def send(self, notice: Notice) -> int:
        assert self.let.wait(5)
        self.got.append(notice)
        return 200


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    yield fake
    fake.let.set()


@pytest.fixture
def client(bundle_folder: Path, fake: Fake) -> TestClient:
    return TestClient(create_app(ServiceSettings(bundle=bundle_folder, receivers=(fake,))))


@pytest.fixture
def flagging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every session is one that harvests."""
    judged = {name: getattr(Scorer, name) for name in ("judge", "judge_rows")}

    def flag(name: str) -> Any:
        def flagged(self: Scorer, *given: Any, **named: Any) -> Any:
            verdicts = judged[name](self, *given, **named)
            verdicts.label[:] = np.array("harvesting")
            return verdicts

        return flagged

    for name in judged:
        monkeypatch.setattr(Scorer, name, flag(name))


def post(client: TestClient, session_id: str, exchanges: list[dict[str, str]]) -> Any:
    reply = client.post(f"/v1/sessions/{session_id}/exchanges", json={"account_id": "a", "exchanges": exchanges})
    assert reply.status_code == 200
    return reply.json()["verdict"]


def counted(client: TestClient, outcome: str) -> float:
    start = f'stillwatch_notices_total{{outcome="{outcome}",receiver="webhook"}} '
    return next(
        float(line.removeprefix(start)) for line in client.get("/metrics").text.splitlines() if line.startswith(start)
    )


@pytest.mark.usefixtures("flagging")
def test_growing_and_whole_sessions_are_sent_once_and_what_waits_is_sent_at_the_end(
    client: TestClient, fake: Fake
) -> None:
    fake.let.set()
    with client:
        first = post(client, "s", EXCHANGES[:2])
        post(client, "s", EXCHANGES[2:])
        session = {"session_id": "t", "account_id": "b", "exchanges": EXCHANGES}
        client.post("/v1/score", json={"sessions": [session, session | {"session_id": "u"}]})
    assert [(own.account_id, own.session_id) for own in fake.got] == [("a", "s"), ("b", "t"), ("b", "u")]
    assert (fake.got[0].n_exchanges, fake.got[0].score) == (2, first["score"])
    assert not any(b"canary" in event(own) for own in fake.got)
    assert [counted(client, outcome) for outcome in ("sent", "failed", "dropped")] == [3, 0, 0]


@pytest.mark.usefixtures("flagging")
def test_a_receiver_that_never_answers_holds_nobody_up(
    client: TestClient, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CLOSE_S", 0.0)
    monkeypatch.setattr(service, "_NOTICES_CLOSE_S", 0.01)
    begun = time.monotonic()
    with client:
        assert [post(client, f"s{index}", EXCHANGES)["label"] for index in range(3)] == ["harvesting"] * 3
    assert time.monotonic() - begun < 4  # it would wait for 5
    assert fake.got == []
    assert counted(client, "dropped") == 2


def test_receivers_are_settings(tmp_path: Path) -> None:
    secret, keys = tmp_path / "secret", tmp_path / "keys"
    secret.write_text(f"whsec_{base64.b64encode(bytes(32)).decode()}")
    keys.write_text("pk:sk")
    environment = {
        "STILLWATCH_WEBHOOK": "https://host/hook", "STILLWATCH_WEBHOOK_SECRET": str(secret),
        "STILLWATCH_LANGFUSE": "http://langfuse:3000", "STILLWATCH_LANGFUSE_KEYS": str(keys),
    }  # fmt: skip
    webhook, langfuse = settings_of("127.0.0.1", 8080, None, environment).service.receivers
    assert isinstance(webhook, Webhook)
    assert isinstance(langfuse, Langfuse)
    assert (webhook.endpoint.path, langfuse.endpoint.path) == ("/hook", "/api/public/scores")
    for name in environment:
        with pytest.raises(ValueError, match="need each other"):
            settings_of("127.0.0.1", 8080, None, {own: value for own, value in environment.items() if own != name})
        with pytest.raises(ValueError, match=f"{name} can't be used") as fault:
            settings_of("127.0.0.1", 8080, None, environment | {name: "canary"})
        assert "canary" not in str(fault.value)
    more = {"STILLWATCH_PHOENIX": "http://phoenix:6006/", "STILLWATCH_ALERTS": "http://oncall/hook?token=t"}
    phoenix, alerts = settings_of("127.0.0.1", 8080, None, more).service.receivers
    assert isinstance(phoenix, Phoenix)
    assert isinstance(alerts, Alertmanager)
    assert (phoenix.endpoint.path, phoenix.key, alerts.endpoint.path) == (
        "/v1/session_annotations",
        None,
        "/hook?token=t",
    )
    with_key = settings_of("127.0.0.1", 8080, None, more | {"STILLWATCH_PHOENIX_KEY": str(keys)}).service.receivers[0]
    assert isinstance(with_key, Phoenix)
    assert with_key.key == "pk:sk"
    with pytest.raises(ValueError, match="STILLWATCH_PHOENIX_KEY needs STILLWATCH_PHOENIX"):
        settings_of("127.0.0.1", 8080, None, {"STILLWATCH_PHOENIX_KEY": str(keys)})
