"""The HTTP interface: the verdicts of a batch, problems that quote nothing, and nobody gets in."""

from __future__ import annotations

import dataclasses
import gzip
import json
import logging
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.http.app import create_app
from serve.http.keys import ApiKeys, new_key
from serve.http.request_bodies import BodyLimits
from serve.http.service import Service, ServiceSettings
from serve.scoring.scorer import Scorer
from serve.sessions.records import Session

ROOT = Path(__file__).parents[3]
OPENAPI = ROOT / "openapi.json"
EXCHANGES = [{"prompt": f"sort a list {index}", "at": 1e9 + index} for index in range(6)]
SESSION = {"session_id": "s", "account_id": "a", "exchanges": EXCHANGES}


@pytest.fixture
def make(bundle_folder: Path) -> Callable[..., TestClient]:
    def made(**given: Any) -> TestClient:
        return TestClient(create_app(ServiceSettings(bundle=bundle_folder, **given)), raise_server_exceptions=True)

    return made


@pytest.fixture
def client(make: Callable[..., TestClient]) -> Iterator[TestClient]:
    with make() as client:
        yield client


def service_of(client: TestClient) -> Service:
    found: Service = client.app.state.service  # type: ignore[attr-defined]
    return found


def problem_of(reply: Any, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = reply.json()
    assert told["status"] == status
    assert "canary" not in reply.text
    return told


def test_scores_are_those_of_a_batch(client: TestClient, tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    given = [dataclasses.asdict(session) for session in sessions]
    found = client.post("/v1/score", json={"sessions": given, "explain": True}).json()["verdicts"]
    expected = [dataclasses.asdict(verdict) for verdict in tiny_scorer.score_many(sessions)]
    assert found == json.loads(json.dumps(expected))
    assert client.post("/v1/score", json={"sessions": given[:1]}).json()["verdicts"][0]["score"] == found[0]["score"]


def test_a_session_grows_to_the_verdict_of_a_batch(client: TestClient, tiny_scorer: Scorer) -> None:
    for exchange in EXCHANGES:
        reply = client.post("/v1/sessions/s/exchanges", json={"account_id": "a", "exchanges": [exchange]})
    scored = client.post("/v1/score", json={"sessions": [SESSION]}).json()["verdicts"][0]
    assert reply.json() == {"verdict": scored, "is_partial": False, "is_shared": True}
    assert client.get("/v1/sessions/s").json() == reply.json() == client.get("/v1/sessions/s?account_id=a").json()
    account = client.get("/v1/accounts/a").json()
    assert (account["n_sessions"], account["n_exchanges"], account["max_score"]) == (1, 6, scored["score"])
    assert account["started_at"] == 1e9
    problem_of(client.get("/v1/sessions/canary"), 404)
    problem_of(client.get("/v1/accounts/canary"), 404)


@pytest.mark.parametrize("name", ["a/b", "arn:aws:bedrock:us:1:model/x", "a/exchanges", "/", "a//b/"])
def test_ids_may_have_slashes(client: TestClient, name: str) -> None:
    path = urllib.parse.quote(name, safe="")
    body = {"account_id": name, "exchanges": EXCHANGES[:1]}
    assert client.post(f"/v1/sessions/{path}/exchanges", json=body).status_code == 200
    assert client.get(f"/v1/sessions/{path}").json()["verdict"]["session_id"] == name
    assert client.get(f"/v1/accounts/{path}").json()["account_id"] == name
    assert [client.get(f"/page/{kind}?id={path}").status_code for kind in ("session", "account")] == [200, 200]
    problem_of(client.get(f"/v1/sessions/canary{path}"), 404)
    assert 'route="/v1/sessions/{session_id}"' in client.get("/metrics").text


def test_a_request_that_is_sent_again_says_so(client: TestClient) -> None:
    body = {"account_id": "a", "exchanges": EXCHANGES[:2]}
    named = {"idempotency-key": "canary-1"}
    first, again = (client.post("/v1/sessions/s/exchanges", json=body, headers=named) for _ in range(2))
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = body | {"exchanges": EXCHANGES[:1]}
    problem_of(client.post("/v1/sessions/s/exchanges", json=other, headers=named), 422)
    for name in ("", "x" * 256, "a b"):
        problem_of(client.post("/v1/sessions/s/exchanges", json=body, headers={"idempotency-key": name}), 422)


@pytest.mark.parametrize("at", [253402300799.9999, "9999-12-31T23:59:59.99Z", -62135596800, "0001-01-01T00:00:00Z"])
def test_no_time_that_is_taken_is_a_fault_later(client: TestClient, at: float | str) -> None:
    body = {"account_id": "late", "exchanges": [{"prompt": "sort a list", "at": at}]}
    assert client.post("/v1/sessions/late/exchanges", json=body).status_code == 200
    for path in ("/v1/sessions/late", "/v1/accounts/late", "/page/session?id=late", "/page/account?id=late"):
        assert client.get(path).status_code == 200, path


def test_an_answer_that_takes_too_long_is_a_503(make: Callable[..., TestClient]) -> None:
    client = make(request_s=0.05)
    release = threading.Event()

    def slow(given: Any) -> dict[str, Any]:
        release.wait(5)
        return {"verdicts": []}

    service_of(client).score = slow  # type: ignore[method-assign]
    with client:
        problem_of(client.post("/v1/score", json={"sessions": [SESSION]}), 503)
        assert service_of(client).body_memory.n_held > 0  # the work still has it
        release.set()
    assert service_of(client).body_memory.n_held == 0


def test_other_sites_pages_are_refused_where_there_are_no_keys(make: Callable[..., TestClient]) -> None:
    client = make(hosts=())
    evil = {"host": "evil.example", "origin": "http://evil.example"}
    for path in ("/", "/v1/bundle", "/metrics", "/openapi.json", "/page/queue", "/v1/accounts/a"):
        problem_of(client.get(path, headers=evil), 421)
        problem_of(client.get(path, headers=evil | {"host": "localhost:8080"}), 403)
    assert client.get("/v1/bundle", headers={"host": "localhost:8080"}).status_code == 200


def test_its_state_can_be_asked(client: TestClient, tiny_scorer: Scorer) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    bundle_id = tiny_scorer.bundle.bundle_id
    assert client.get("/readyz").json() == {"status": "ready", "bundle_id": bundle_id, "store": "process"}
    assert client.get("/v1/bundle").json()["bundle_id"] == bundle_id
    client.post("/v1/score", json={"sessions": [SESSION]})
    text = client.get("/metrics").text
    for name in (
        'stillwatch_requests_total{method="POST",route="/v1/score",status="200"} 1.0', "stillwatch_exchanges_total 6.0",
        "stillwatch_score_count 1.0", "stillwatch_drift_outlying_share", "stillwatch_store_sessions 0.0",
        'stillwatch_request_seconds_bucket{le="0.001",route="/healthz"}', 'stillwatch_drift_area_share{area="coding"}',
    ):  # fmt: skip
        assert name in text, name


@pytest.mark.parametrize(
    "prompt", [r"sort\u0000 a list", r"sort\ud800 a list", r"\udc00\ud800sort a list", " " * 120_000]
)
def test_no_prompt_is_refused_for_its_characters_or_length(client: TestClient, prompt: str) -> None:
    prompt = prompt if "sort" in prompt else f"{prompt}sort a list"
    session = f'{{"session_id": "s", "account_id": "a", "exchanges": [{{"prompt": "{prompt}"}}]}}'
    headers = {"content-type": "application/json"}
    reply = client.post("/v1/score", content=f'{{"sessions": [{session}]}}', headers=headers)
    plain = {"session_id": "s", "account_id": "a", "exchanges": [{"prompt": "sort a list"}]}
    assert reply.json() == client.post("/v1/score", json={"sessions": [plain]}).json()


def test_altered_prompts_of_a_growing_session_are_counted(client: TestClient) -> None:
    for prompt in ("sort a list", "so\u200brt a list", "sort\0 a list"):
        body = {"account_id": "altering", "exchanges": [{"prompt": prompt}]}
        assert client.post("/v1/sessions/altering/exchanges", json=body).status_code == 200
    assert client.get("/v1/accounts/altering").json()["altered_prompts"] == 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"sessions": []}, "/sessions"),
        ({"sessions": [SESSION | {"account_id": ""}]}, "/sessions/0/account_id"),
        ({"sessions": [SESSION | {"exchanges": [{"prompt": "  "}]}]}, "/sessions/0/exchanges/0"),
        ({"sessions": [SESSION | {"exchanges": [{"prompt": ["canary"]}]}]}, "/sessions/0/exchanges/0/prompt"),
        ({"sessions": [SESSION | {"exchanges": [{"prompt": "x", "at": "canary"}]}]}, "/sessions/0/exchanges/0"),
        ({"sessions": [SESSION | {"exchanges": [{"prompt": "x", "at": 1e15}]}]}, "/sessions/0/exchanges/0"),
        ({"sessions": [SESSION] * 257}, "/sessions"),
        ({}, "/sessions"),
        ({"sessions": [SESSION], "explain": "canary"}, "/explain"),
    ],
)
def test_what_cannot_be_used_is_a_422_that_says_where(client: TestClient, body: Any, pointer: str) -> None:
    told = problem_of(client.post("/v1/score", json=body), 422)
    assert told["errors"][0]["pointer"].startswith(pointer)


def test_bombs_depth_size_and_other_types_are_refused(make: Callable[..., TestClient]) -> None:
    client = make(body=BodyLimits(n_bytes=100_000))
    kind = {"content-type": "application/json"}
    zipped = kind | {"content-encoding": "gzip"}
    problem_of(client.post("/v1/score", content=b"x" * 100_001, headers=kind), 413)
    problem_of(client.post("/v1/score", content=(b"x" * 60_000 for _ in range(2)), headers=kind), 413)
    problem_of(client.post("/v1/score", content=gzip.compress(b" " * 50_000_000), headers=zipped), 413)
    problem_of(client.post("/v1/score", content=b"canary", headers=zipped), 422)
    problem_of(client.post("/v1/score", content=gzip.compress(b"{}")[:-9], headers=zipped), 422)
    problem_of(client.post("/v1/score", content=b"[" * 90_000, headers=kind), 422)
    problem_of(client.post("/v1/score", content=b'{"sessions":' * 5_000, headers=kind), 422)
    problem_of(client.post("/v1/score", content=b'{"sessions": "\\ud800"}', headers=kind), 422)
    problem_of(client.post("/v1/score", content=b"\xff\xfe{", headers=kind), 422)
    problem_of(client.post("/v1/score", content=b"{}", headers={"content-type": "text/plain"}), 415)
    problem_of(client.post("/v1/score", content=b"{}", headers=kind | {"content-encoding": "br"}), 415)
    problem_of(client.get("/v1/score"), 405)
    problem_of(client.get("/canary"), 404)
    problem_of(client.get("/v1/accounts/" + "x" * 300), 422)
    ok = client.post("/v1/score", content=gzip.compress(json.dumps({"sessions": [SESSION]}).encode()), headers=zipped)
    assert ok.status_code == 200


@settings(max_examples=80)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["sessions", "exchanges", "prompt", "at", "account_id", "session_id", "x"]),
                        inner, max_size=4), max_leaves=12), st.binary(max_size=3))  # fmt: skip
def test_no_body_is_a_fault_of_ours(shared_client: TestClient, value: Any, noise: bytes) -> None:
    body = json.dumps(value).encode() + noise
    kind = {"content-type": "application/json"}
    for path in ("/v1/score", "/v1/sessions/s/exchanges"):
        assert shared_client.post(path, content=body, headers=kind).status_code in (200, 422)


@pytest.fixture(scope="module")
def shared_client(bundle_folder: Path) -> TestClient:
    return TestClient(create_app(ServiceSettings(bundle=bundle_folder)))


def test_every_answer_has_security_headers(client: TestClient) -> None:
    for reply in (client.get("/healthz"), client.get("/nowhere"), client.post("/v1/score", content=b"")):
        for name in ("x-content-type-options", "content-security-policy", "cache-control", "x-frame-options"):
            assert name in reply.headers


def test_without_a_known_key_nobody_gets_in_and_no_key_asks_without_end(make: Callable[..., TestClient]) -> None:
    key, digest = new_key()
    client = make(keys=ApiKeys.parse(f"gateway:{digest}"), rate_per_s=0.02)
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {key}"}, {"authorization": key}):
        for path in ("/v1/bundle", "/metrics", "/openapi.json", "/nowhere"):
            assert "www-authenticate" in client.get(path, headers=header).headers
            problem_of(client.get(path, headers=header), 401)
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    own = {"authorization": f"Bearer {key}"}
    assert [client.get("/v1/bundle", headers=own).status_code for _ in range(2)] == [200, 429]
    reply = client.get("/v1/bundle", headers=own)
    problem_of(reply, 429)
    assert reply.headers["retry-after"] == "50"  # so long that a busy machine doesn't outlast it


def test_a_full_desk_answers_503_and_recovers(make: Callable[..., TestClient]) -> None:
    client = make(n_workers=1, n_waiting=0)
    service = service_of(client)
    gate, begun = threading.Event(), threading.Event()

    def slow(given: Any) -> dict[str, Any]:
        begun.set()
        gate.wait(10)
        return {"verdicts": []}

    service.score, answer = slow, service.score  # type: ignore[method-assign]
    with client:
        first = threading.Thread(target=lambda: client.post("/v1/score", json={"sessions": [SESSION]}))
        first.start()
        assert begun.wait(10)
        reply = client.post("/v1/score", json={"sessions": [SESSION]})
        problem_of(reply, 503)
        assert reply.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200
        gate.set()
        first.join(10)
        service.score = answer  # type: ignore[method-assign]
        assert client.post("/v1/score", json={"sessions": [SESSION]}).status_code == 200


def test_a_reload_takes_the_bundle_that_is_there_and_refuses_a_damaged_one(copied_bundle: Callable[[], Path]) -> None:
    folder = copied_bundle()
    client = TestClient(create_app(ServiceSettings(bundle=folder)))
    service = service_of(client)
    before = service.scorer
    client.post("/v1/sessions/s/exchanges", json={"account_id": "a", "exchanges": EXCHANGES})
    assert service.reload()
    assert service.scorer is not before
    again = client.post("/v1/sessions/s/exchanges", json={"account_id": "a", "exchanges": EXCHANGES[:1]}).json()
    assert (again["verdict"]["n_exchanges"], again["is_partial"]) == (7, False)
    (folder / "capabilities.json").write_text("[]")
    kept = service.scorer
    assert not service.reload()
    assert service.scorer is kept
    assert client.get("/readyz").status_code == 200
    assert 'stillwatch_bundle_reloads_total{outcome="refused"} 1.0' in client.get("/metrics").text


def test_no_canary_is_written_anywhere(
    make: Callable[..., TestClient], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    client = make()
    bad = [{"prompt": "canary\0"}, {"prompt": 7, "canary": "canary"}, {"prompt": "canary", "at": "canary"}]
    written = []
    for exchanges in ([{"prompt": f"the canary {n}", "system": "canary"}] * 6 for n in range(2)):
        body = {"account_id": "canary-account", "exchanges": exchanges}
        written.append(client.post("/v1/sessions/x/exchanges", json=body).text.replace("canary-account", ""))
        written.append(client.post("/v1/score", json={"sessions": [body | {"session_id": "x"}]}).text)
    for fault in bad:
        body = {"account_id": "a", "exchanges": [fault]}
        written.append(client.post("/v1/sessions/x/exchanges", json=body).text)
    service = service_of(client)

    def broken(given: Any) -> dict[str, Any]:
        raise RuntimeError(given.sessions[0].exchanges[0].prompt)

    service.score = broken  # type: ignore[method-assign]
    reply = client.post("/v1/score", json={"sessions": [SESSION | {"exchanges": [{"prompt": "canary"}]}]})
    problem_of(reply, 500)
    out = capfd.readouterr()
    written += [client.get("/metrics").text, caplog.text, out.out, out.err]
    assert "RuntimeError" in caplog.text
    assert '"account"' in caplog.text
    assert "canary" not in "".join(written).replace("canary-account", "")
    assert "canary-account" not in caplog.text + out.out + out.err


def test_keys_are_read_strictly_and_faults_do_not_quote_them() -> None:
    with pytest.raises(ValueError, match="API key 2 is not NAME:SHA256") as fault:
        ApiKeys.parse(f"a:{'0' * 64},canary")
    assert "canary" not in str(fault.value)
    assert not ApiKeys.parse("")


EXCHANGE = {"prompt": "sort a list", "at": "2026-01-31T09:30:00Z", "system": None}
GUARDRAIL, TRACES = "/beta/litellm_basic_guardrail_api", "/v1/traces"


@pytest.mark.parametrize(
    ("path", "body", "is_taken"),
    [
        *(("/v1/score", {"sessions": [SESSION | {"exchanges": [EXCHANGE | own]}]}, is_taken) for own, is_taken in (
            ({}, True), ({"at": 5}, True), ({"at": None}, True), ({"at": "2026-01-31"}, True), ({"at": ""}, False),
            ({"at": "02/03/2026"}, False), ({"at": "2026-02-30"}, False), ({"prompt": " "}, False),
        )),
        ("/v1/score", {"sessions": [SESSION | {"account_id": " "}]}, False),
        ("/v1/score", {"sessions": ["one"]}, False),
        ("/v1/requests", {"user": "a", "model": "m"}, False),
        ("/v1/requests", {"user": "a", "prompt": "sort a list"}, True),
        *((TRACES, body, is_taken) for body, is_taken in (({}, True), ({"resourceSpans": None}, True), ([], False))),
        ("/v1/litellm/logs", [None], True),
        ("/v1/litellm/logs", 5, False),
        (GUARDRAIL, [None], True),
        ("/v1/portkey/webhook", "anything", True),
    ],
)  # fmt: skip
def test_the_document_says_which_bodies_are_taken(
    shared_client: TestClient, path: str, body: Any, is_taken: bool
) -> None:
    content = shared_client.get("/openapi.json").json()["paths"][path]["post"]["requestBody"]["content"]
    assert jsonschema_rs.is_valid(content["application/json"]["schema"], body) is is_taken
    assert (shared_client.post(path, json=body).status_code == 200) is is_taken


def test_the_document_says_where_a_key_is_needed(make: Callable[..., TestClient], client: TestClient) -> None:
    key, digest = new_key()
    headers = {"authorization": f"Bearer {key}"}
    paths = make(keys=ApiKeys.parse(f"gateway:{digest}")).get("/openapi.json", headers=headers).json()["paths"]
    needing = {path for path, own in paths.items() for about in own.values() if about["security"] == [{"key": []}]}
    assert set(paths) - needing == {"/healthz", "/readyz"}
    assert all({"401", "429"} <= set(about["responses"]) for path in needing for about in paths[path].values())
    assert "security" not in client.get("/openapi.json").json()["paths"]["/v1/score"]["post"]


def test_the_openapi_file_is_what_the_application_says(client: TestClient, request: pytest.FixtureRequest) -> None:
    said = json.dumps(client.app.openapi(), indent=1, sort_keys=True) + "\n"  # type: ignore[attr-defined]
    if request.config.getoption("--regenerate-golden"):
        OPENAPI.write_text(said, encoding="utf-8")
    assert OPENAPI.read_text(encoding="utf-8") == said, "pytest tests/serve/http/test_app.py --regenerate-golden"
