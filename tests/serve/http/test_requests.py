"""Requests to chat models as they are, over HTTP; and what an analyst pastes, in any format."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.http.app import create_app
from serve.http.service import ServiceSettings

TURNS = ["sort a list", "bake a cake", "fix the bug"]
FORMATS = Path(__file__).parents[3] / ".." / "shared" / "formats"
INPUTS = FORMATS.parent / "cases" / "inputs"
needs_formats = pytest.mark.skipif(not FORMATS.is_dir(), reason="../shared/formats is not there")


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    settings = ServiceSettings(bundle=request.getfixturevalue("bundle_folder"), account_header="x-customer")
    with TestClient(create_app(settings)) as made:
        yield made


def messages() -> list[dict[str, Any]]:
    """The turns, with answers after them."""
    return [
        row for text in TURNS for row in ({"role": "user", "content": text}, {"role": "assistant", "content": "ok"})
    ]


def verdict(client: TestClient, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    reply = client.post("/v1/requests", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    (found,) = reply.json()["verdicts"]
    return dict(found)


OPENAI = {
    "model": "m",
    "temperature": 0.5,
    "user": "ann",
    "messages": [{"role": "system", "content": "x"}, *messages()],
}
TOOLS = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "a long result"}]}
WRAPPED = {"role": "user", "content": "<system-reminder>be brief</system-reminder>"}
ANTHROPIC = {
    "model": "m", "max_tokens": 9, "system": "x", "metadata": {"user_id": "user_ann_account_7_session_s7"},
    "messages": [*messages(), TOOLS, WRAPPED],
}  # fmt: skip
RESPONSES = {"model": "m", "safety_identifier": "ann", "input": messages()}


@pytest.mark.parametrize("body", [OPENAI, ANTHROPIC, RESPONSES], ids=["openai", "anthropic", "responses"])
def test_a_request_is_judged_as_the_session_of_its_user_prompts(client: TestClient, body: dict[str, Any]) -> None:
    found = verdict(client, body)
    session = {"session_id": "s", "account_id": "a", "exchanges": [{"prompt": text} for text in TURNS]}
    expected = client.post("/v1/score", json={"sessions": [session], "explain": True}).json()["verdicts"][0]
    ids = ("session_id", "account_id")
    assert {name: value for name, value in found.items() if name not in ids} == {
        name: value for name, value in expected.items() if name not in ids
    }


def test_ids_come_from_headers_then_from_the_body(client: TestClient) -> None:
    ids = [(row["account_id"], row["session_id"]) for row in (verdict(client, OPENAI), verdict(client, ANTHROPIC))]
    assert ids == [("ann", "request"), ("user_ann", "s7")]
    found = verdict(client, ANTHROPIC, **{"x-customer": " bob ", "x-session-id": "s9"})
    assert (found["account_id"], found["session_id"]) == ("bob", "s9")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"messages": messages()}, "no account is named"),
        ({"user": "ann", "messages": [TOOLS, WRAPPED]}, "there is no prompt of a user to judge"),
        (
            {"user": "ann", "messages": ["secret"]},
            "there is no prompt to judge: the messages are not a list of objects",
        ),
        (
            {"user": "ann", "model": "text-embedding-3", "input": "secret"},
            "there is no prompt to judge: requests to other",
        ),
        ({"user": "x" * 257, "messages": messages()}, "an id has 1 to 256 characters"),
        ({}, "no account is named"),
    ],
)
def test_what_is_no_request_is_a_sentence(client: TestClient, body: dict[str, Any], detail: str) -> None:
    reply = client.post("/v1/requests", json=body)
    assert reply.status_code == 422
    assert detail in reply.json()["detail"]
    assert "secret" not in reply.text


def pasted(client: TestClient, text: str) -> Any:
    return client.post("/page/pasted", json={"text": text})


def test_one_prompt_a_line_is_one_session(client: TestClient) -> None:
    reply = pasted(client, "Hello, how are you?\n\nsort a list\n")
    assert reply.text.count("<details") == 1
    assert "2 exchanges" in reply.text
    assert "read as one prompt a line" in reply.text


def test_rows_are_sessions_of_their_accounts(client: TestClient) -> None:
    rows = [{"account_id": account, "prompt": text} for account in ("a<b", "c") for text in TURNS]
    for text in ("\n".join(map(json.dumps, rows)), json.dumps(rows)):
        reply = pasted(client, text)
        assert reply.text.count("<details") == 2
        assert reply.text.count("3 exchanges") == 2
        assert "a<b" not in reply.text


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "there is nothing to judge"), (" \n", "there is nothing to judge"), ("[]", "is of no known format"),
        ('{"secret": 1}', "is of no known format"), ('{"a": ', "is of no known format"),
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_a_sentence(client: TestClient, text: str, detail: str) -> None:
    reply = pasted(client, text)
    assert reply.status_code == 422
    assert detail in reply.json()["detail"]
    assert "/tmp" not in reply.text


@needs_formats
@pytest.mark.parametrize("name", ["openai_chat.jsonl", "claude_code.jsonl", "langfuse_traces.json", "specstory.md"])
def test_a_log_of_any_format_can_be_pasted(client: TestClient, name: str) -> None:
    reply = pasted(client, (FORMATS / name).read_text(encoding="utf-8"))
    assert reply.status_code == 200, reply.text
    assert "read as " in reply.text
    assert "<details" in reply.text


@needs_formats
@pytest.mark.parametrize("name", ["array.json", "b28_array.json", "b27.csv", "nul.jsonl", "late.jsonl"])
def test_a_file_of_the_cases_can_be_pasted(client: TestClient, name: str) -> None:
    reply = pasted(client, (INPUTS / name).read_text(encoding="utf-8"))
    assert reply.status_code == 200, reply.text
    assert reply.text.count("<details") == 1


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("a,b\n" * 75_001, "more than 150,000 lines and values"),
        ('"' + "[" * 150_001, "more than 150,000 lines and values"),
        ("hello\n" * 20_001, "20,001 prompts, expected at most 20,000"),
        ("account_id,prompt\n" + "a,x\n" * 20_001, "20,001 prompts, expected at most 20,000"),
        ("".join(json.dumps({"account_id": f"a{i}", "prompt": "x"}) + "\n" for i in range(257)), "257 sessions"),
    ],
)
def test_what_is_pasted_is_bounded_as_every_body_is(client: TestClient, text: str, detail: str) -> None:
    reply = pasted(client, text)
    assert reply.status_code == 422, reply.text
    assert detail in reply.json()["detail"]
    assert "stillwatch score takes any number" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"user":"a","messages":[{"role":"user","content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", 422),
        (b'{"user":"a","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", 422),
        (b'{"user":"a","messages":[' + b",".join([b"{}"] * 250_000) + b"]}", 413),
        (b'{"user":' + b"9" * 4000 + b',"messages":[{"role":"user","content":"x"}]}', 422),
        (b'{"user":"a","messages":[{"role":["user"],"type":{},"content":{"type":[],"text":{}}}, 1, null]}', 422),
        (json.dumps({"metadata": {"user_id": '{"a":' + "[" * 3_000 + '"' + '\\"' * 500_000}}).encode(), 422),
        (json.dumps({"user": "a", "prompt": "[INST] x [/INST]" * 100_000}).encode(), 200),
        (json.dumps({"user": "a", "messages": [{"role": "user", "content": "<a" * 500_000}]}).encode(), 200),
    ],
    ids=["arrays", "objects", "values", "integer", "types", "quotes", "templates", "tags"],
)
def test_hostile_requests_are_answered(client: TestClient, body: bytes, status: int) -> None:
    began_at = time.process_time()
    reply = client.post("/v1/requests", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status, reply.text
    assert time.process_time() - began_at < 10
