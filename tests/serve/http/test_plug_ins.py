"""Gateways and tracers over HTTP: verdicts are recorded, nothing is quoted, and traffic never stops by a fault here."""

from __future__ import annotations

import gzip
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from serve.gateways.settings import GatewaySettings
from serve.http.app import create_app
from serve.http.keys import ApiKeys, new_key
from serve.http.request_bodies import BodyLimits
from serve.http.server import settings_of
from serve.http.service import Service, ServiceSettings

GUARDRAIL = "/beta/litellm_basic_guardrail_api"
PORTKEY = "/v1/portkey/webhook"
PROMPTS = [f"write a python function that sorts a list {index}" for index in range(12)]


@pytest.fixture
def make(bundle_folder: Path) -> Callable[..., TestClient]:
    def made(**given: Any) -> TestClient:
        return TestClient(create_app(ServiceSettings(bundle=bundle_folder, **given)))

    return made


@pytest.fixture
def client(make: Callable[..., TestClient]) -> Iterator[TestClient]:
    with make() as client:
        yield client


def messages(n: int) -> list[dict[str, Any]]:
    """The first prompts, answered but for the last."""
    rows = [{"role": "user", "content": text} for text in PROMPTS[:n]]
    return [row for own in rows for row in (own, {"role": "assistant", "content": "canary answer"})][:-1]


def asked(n: int, account: str = "a", **more: Any) -> dict[str, Any]:
    ids = {"user_api_key_end_user_id": account, "user_api_key_hash": "h"}
    texts = [row["content"] for row in messages(n)]
    about = {
        "litellm_trace_id": "t",
        "litellm_call_id": "c",
        "litellm_version": "1.110.2",
        "images": None,
        "tools": None,
    }
    given = {"texts": texts, "structured_messages": messages(n), "request_data": ids, "input_type": "request"}
    return given | about | more


def payload(n: int, account: str = "a") -> dict[str, Any]:
    return {
        "id": f"c-{n}", "trace_id": f"t-{n}", "call_type": "acompletion", "status": "success", "end_user": account,
        "startTime": 1767225600.5 + n, "messages": messages(n), "metadata": {"user_api_key_hash": "h"},
    }  # fmt: skip


def service_of(client: TestClient) -> Service:
    found: Service = client.app.state.service  # type: ignore[attr-defined]
    return found


def flag_everything(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every session from here on is one that harvests."""
    import numpy as np

    scorer = service_of(client).live.scorer
    judge = type(scorer).judge_rows

    def flagged(self: Any, *given: Any) -> Any:
        verdicts = judge(self, *given)
        verdicts.label[:] = np.array("harvesting")
        return verdicts

    monkeypatch.setattr(type(scorer), "judge_rows", flagged)


def test_the_guardrail_records_verdicts_and_lets_everything_pass(client: TestClient) -> None:
    for n in range(1, 13):
        reply = client.post(GUARDRAIL, json=asked(n))
        assert reply.status_code == 200
        assert (reply.json()["action"], reply.json()["verdict"]["n_exchanges"]) == ("NONE", n)
    again = client.post(GUARDRAIL, json=asked(12)).json()
    assert again == reply.json()  # a retry adds nothing
    account = client.get("/v1/accounts/a").json()
    assert (account["n_sessions"], account["n_exchanges"]) == (1, 12)
    assert account["max_score"] == again["verdict"]["score"]
    assert 'stillwatch_guardrail_total{action="NONE"} 13.0' in client.get("/metrics").text


def test_the_verdict_is_that_on_the_prompts_alone(client: TestClient) -> None:
    found = client.post(GUARDRAIL, json=asked(12)).json()["verdict"]
    exchanges = [{"prompt": text} for text in PROMPTS]
    expected = client.post("/v1/sessions/s/exchanges", json={"account_id": "b", "exchanges": exchanges}).json()[
        "verdict"
    ]
    assert found["label"] == expected["label"]
    assert found["n_exchanges"] == expected["n_exchanges"] == 12


@pytest.mark.parametrize("blocks", [False, True])
def test_only_a_setting_blocks_and_the_reason_quotes_nothing(
    make: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, blocks: bool
) -> None:
    with make(gateways=GatewaySettings(blocks=blocks)) as client:
        flag_everything(client, monkeypatch)
        with caplog.at_level(logging.INFO, "stillwatch"):
            reply = client.post(GUARDRAIL, json=asked(3, account="canary-account")).json()
        assert reply["verdict"]["label"] == "harvesting"
        assert reply["action"] == ("BLOCKED" if blocks else "NONE")
        assert ("blocked_reason" in reply) is blocks
        assert "canary" not in json.dumps(reply) + caplog.text
        if blocks:
            reference = reply["blocked_reason"].rpartition(" ")[2].rstrip(")")
            assert reference in caplog.text  # an operator finds who it is about
            assert client.post(GUARDRAIL, json=asked(3, account="canary-account")).json()["action"] == "BLOCKED"
            assert client.post(GUARDRAIL, json=asked(3, input_type="response")).json() == {"action": "NONE"}


@pytest.mark.parametrize(
    "body", [{}, {"texts": None}, {"texts": "canary"}, {"request_data": {"user_api_key_hash": "h"}}, asked(0), [1], "x"]
)
def test_a_guardrail_that_asks_about_nothing_passes(client: TestClient, body: Any) -> None:
    reply = client.post(GUARDRAIL, json=body)
    assert (reply.status_code, reply.json()) == (200, {"action": "NONE"})


def test_whatever_fails_here_lets_litellm_go_on(make: Callable[..., TestClient]) -> None:
    with make(body=BodyLimits(n_bytes=1000)) as client:
        for body, status in ((b"canary", "422"), (json.dumps(asked(12)).encode(), "413")):
            reply = client.post(GUARDRAIL, content=body, headers={"content-type": "application/json"})
            assert (reply.status_code, reply.json()) == (200, {"action": "NONE"})
            assert reply.headers["x-stillwatch-unjudged"] == status
        service_of(client).workers.n_inside = 10**6
        assert client.post(GUARDRAIL, json={}).headers["x-stillwatch-unjudged"] == "503"
        assert client.post("/v1/score", json={"sessions": []}).status_code == 503  # nothing else is changed
        assert 'status="503"' in client.get("/metrics").text
        assert client.post(GUARDRAIL, content=b"x", headers={"content-type": "text/plain"}).status_code == 415
        assert client.get(GUARDRAIL).status_code == 405


def test_the_guardrail_needs_a_key_as_everything_does(make: Callable[..., TestClient]) -> None:
    key, digest = new_key()
    with make(keys=ApiKeys.parse(f"gateway:{digest}"), rate_per_s=1.0) as client:
        for path in (GUARDRAIL, PORTKEY, "/v1/litellm/logs", "/v1/traces"):
            assert client.post(path, json={}).status_code == 401
        known = {"authorization": f"Bearer {key}"}
        replies = [client.post(GUARDRAIL, json=asked(1), headers=known) for _ in range(5)]
        assert [reply.status_code for reply in replies] == [200] * 5
        assert replies[-1].headers["x-stillwatch-unjudged"] == "429"


def portkey(n: int, **metadata: str) -> dict[str, Any]:
    """As Portkey's gateway sends it, before the model is asked."""
    sent = {"model": "gpt-4o", "messages": messages(n), "user": "body-user"}
    return {
        "request": {"json": sent, "text": PROMPTS[n - 1] if n else "", "isStreamingRequest": False}, "response": {},
        "provider": "openai", "requestType": "chatComplete", "metadata": metadata, "eventType": "beforeRequestHook",
    }  # fmt: skip


def test_portkeys_webhook_records_verdicts_and_lets_everything_pass(client: TestClient) -> None:
    for n in (1, 2, 3, 3):
        reply = client.post(PORTKEY, json=portkey(n, _user="a", user="other"))
        assert reply.status_code == 200
        assert (reply.json()["verdict"], reply.json()["data"]["n_exchanges"]) == (True, n)
    assert client.get("/v1/accounts/a").json()["n_exchanges"] == 3
    assert client.post(PORTKEY, json=portkey(1)).json()["data"]["n_exchanges"] == 1
    assert client.get("/v1/accounts/body-user").json()["n_exchanges"] == 1
    after = portkey(1, _user="b") | {"eventType": "afterRequestHook"}
    for body in (after, {}, {"request": "canary"}, portkey(0, _user="c"), {"eventType": 1}):
        assert client.post(PORTKEY, json=body).json() == {"verdict": True, "data": {}}


@pytest.mark.parametrize("blocks", [False, True])
def test_portkeys_webhook_blocks_where_a_setting_says_so(
    make: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, blocks: bool
) -> None:
    with make(gateways=GatewaySettings(blocks=blocks, portkey_account=("team",))) as client:
        flag_everything(client, monkeypatch)
        reply = client.post(PORTKEY, json=portkey(3, team="canary-account")).json()
        assert (reply["verdict"], reply["data"]["label"]) == (not blocks, "harvesting")
        assert ("reason" in reply["data"]) is blocks
        assert "canary" not in json.dumps(reply)
        failed = client.post(PORTKEY, content=b"canary", headers={"content-type": "application/json"})
        assert (failed.status_code, failed.json()) == (200, {"verdict": True})
        assert failed.headers["x-stillwatch-unjudged"] == "422"


def test_a_late_verdict_lets_a_request_pass_and_is_recorded(make: Callable[..., TestClient]) -> None:
    with make(gateways=GatewaySettings(answer_s=0.05, blocks=True)) as client:
        service, release = service_of(client), threading.Event()
        judged = service.live.extend

        def slow(*given: Any, **named: Any) -> Any:
            release.wait(5)
            return judged(*given, **named)

        service.live.extend = slow  # type: ignore[method-assign]
        reply = client.post(GUARDRAIL, json=asked(1))
        assert (reply.json(), reply.headers["x-stillwatch-unjudged"]) == ({"action": "NONE"}, "late")
        release.set()
    assert service.body_memory.n_held == 0
    assert service.account("a")["n_exchanges"] == 1


def test_the_log_callback_takes_every_layout_and_counts_what_the_guardrail_saw_once(client: TestClient) -> None:
    client.post(GUARDRAIL, json=asked(2))
    array = client.post(
        "/v1/litellm/logs", json=[payload(1), payload(2), payload(3), payload(2) | {"status": "failure"}]
    )
    assert array.json() | {"n_flagged": 0} == {
        "n_requests": 3, "n_prompts": 1, "n_flagged": 0, "skipped": {"failed requests": 1}, "rejected": {},
    }  # fmt: skip
    lines = "\n".join(map(json.dumps, (payload(4), payload(1, account="b")))) + "\ncanary"
    for kind in ("application/json", "application/x-ndjson"):
        reply = client.post("/v1/litellm/logs", content=lines, headers={"content-type": kind})
        assert reply.json()["rejected"] == {"not JSON": 1}
    assert client.get("/v1/accounts/a").json()["n_exchanges"] == 4
    assert client.post("/v1/litellm/logs", json=payload(2, account="b")).json()["n_prompts"] == 1
    packed = gzip.compress(json.dumps(payload(3, account="b")).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert client.post("/v1/litellm/logs", content=packed, headers=headers).json()["n_prompts"] == 1
    bad = client.post("/v1/litellm/logs", content=b"canary", headers={"content-type": "application/json"})
    assert (bad.status_code, bad.json()["detail"]) == (422, "the body is not JSON")


def export(n: int, account: str | None = "a") -> dict[str, Any]:
    rows = [
        {"role": row["role"], "parts": [{"type": "text", "content": row["content"]}]} for row in messages(n)
    ]  # fmt: skip
    pairs = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(rows), "gen_ai.conversation.id": "c"}
    pairs |= {} if account is None else {"user.id": account}
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in pairs.items()]
    spans = [{"traceId": "5b8e", "spanId": "ee", "startTimeUnixNano": str(n * 10**9), "attributes": attributes}]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def encoded(value: dict[str, Any]) -> bytes:
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return bytes(ParseDict(value, ExportTraceServiceRequest()).SerializeToString())


def test_traces_are_taken_as_json_and_as_protobuf(client: TestClient) -> None:
    for n in (1, 2):
        reply = client.post("/v1/traces", json=export(n))
        assert (reply.status_code, reply.json()) == (200, {})
    protobuf = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    reply = client.post("/v1/traces", content=gzip.compress(encoded(export(3))), headers=protobuf)
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-type"] == "application/x-protobuf"
    assert client.get("/v1/sessions/c").json()["verdict"]["n_exchanges"] == 3


def test_spans_that_name_no_account_are_a_partial_success(client: TestClient) -> None:
    partial = {"rejectedSpans": "1", "errorMessage": "1 requests that name no account"}
    assert client.post("/v1/traces", json=export(1, account=None)).json() == {"partialSuccess": partial}
    protobuf = {"content-type": "application/x-protobuf"}
    reply = client.post("/v1/traces", content=encoded(export(1, account=None)), headers=protobuf)
    assert ExportTraceServiceResponse.FromString(reply.content).partial_success.rejected_spans == 1
    empty = export(1)
    del empty["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"][1]
    said = client.post("/v1/traces", json=empty).json()
    assert said == {"partialSuccess": {"errorMessage": "1 requests without stored content"}}


def test_an_export_that_can_not_be_read_is_a_400(client: TestClient) -> None:
    protobuf = {"content-type": "application/x-protobuf"}
    in_json = {"content-type": "application/json"}
    texts = (b"canary", b"[]", b'{"resourceSpans": "canary"}', b'{"resourceSpans": ["canary"]}')
    for body, headers in ((b"\x0acanary", protobuf), *((text, in_json) for text in texts)):
        reply = client.post("/v1/traces", content=body, headers=headers)
        assert reply.status_code == 400
        assert b"canary" not in reply.content
    assert client.post("/v1/traces", content=b"", headers={"content-type": "text/plain"}).status_code == 415


def test_settings_come_from_the_environment() -> None:
    given = {
        "STILLWATCH_GUARDRAIL_BLOCKS": "1", "STILLWATCH_GUARDRAIL_SECONDS": "0.2", "STILLWATCH_LITELLM_ACCOUNT": "key",
        "STILLWATCH_TRACE_ACCOUNT": "tenant, user.id",
    }  # fmt: skip
    found = settings_of("127.0.0.1", 1, None, given).service.gateways
    assert found == GatewaySettings(True, 0.2, ("key",), ("tenant", "user.id"))
    assert not settings_of("127.0.0.1", 1, None, {}).service.gateways.blocks
    with pytest.raises(ValueError, match="account ids are some of"):
        settings_of("127.0.0.1", 1, None, {"STILLWATCH_LITELLM_ACCOUNT": "canary"})


def test_no_door_shows_logs_or_keeps_a_prompt(
    make: Callable[..., TestClient],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    secret = "zxsecretqv"
    texts = [f"{secret} {text}" for text in PROMPTS]
    chat = {"model": "m", "messages": [{"role": "user", "content": text} for text in texts]}
    doors: dict[str, Any] = {
        "/v1/requests": chat,
        "/v1/litellm/logs": [payload(8), payload(8, account="b")],
        "/v1/traces": export(8),
        GUARDRAIL: asked(8),
    }
    shown = []
    with make(review=str(tmp_path / "review.db"), gateways=GatewaySettings(blocks=True)) as client:
        for path, body in doors.items():
            content = json.dumps(body).replace(PROMPTS[0][:5], secret)
            for sent in (content, content[:-9], content.replace('"role": "user"', f'"role": ["{secret}"]')):
                shown.append(client.post(path, content=sent, headers={"content-type": "application/json"}).text)
        assert client.get("/v1/accounts/a").json()["n_exchanges"] >= 8
        service_of(client).inbox.flush_if_up()
        pages = "/metrics", "/page/queue", "/page/account?account_id=a", "/v1/accounts/a", "/page/labels.csv"
        shown += [client.get(page).text for page in pages]
        shown += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    out = capfd.readouterr()
    assert (tmp_path / "review.db").stat().st_size
    assert secret not in "".join([*shown, caplog.text, out.out, out.err])
