"""What LiteLLM sends is read as it means it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve.gateways.litellm import guardrail_request, logged, rows_of
from serve.gateways.settings import LITELLM_IDS, GatewaySettings
from serve.io.logs.requests import NO_CONTENT, Outcome, Rejected, Request, Skipped

IDS = {
    "user_api_key_hash": "h", "user_api_key_alias": None, "user_api_key_user_id": "u", "user_api_key_team_id": "t",
    "user_api_key_end_user_id": "e", "user_api_key_user_email": "x@example.org",
}  # fmt: skip
MESSAGES = [
    {"role": "system", "content": "be brief"}, {"role": "user", "content": "one"},
    {"role": "assistant", "content": "ok"}, {"role": "user", "content": [{"type": "text", "text": "two"}]},
]  # fmt: skip
PAYLOAD = {
    "id": "c", "trace_id": "t-1", "call_type": "acompletion", "status": "success", "startTime": 1767225600.5,
    "endTime": 1767225601.5, "end_user": "e", "metadata": IDS, "messages": MESSAGES, "model": "m", "response": {},
}  # fmt: skip


def prompts(found: Outcome) -> list[str]:
    assert isinstance(found, Request)
    return [turn.text for turn in found.talk.turns]


def test_the_guardrail_reads_who_said_what() -> None:
    found = guardrail_request({"texts": ["be brief", "one", "ok", "two"], "structured_messages": MESSAGES}, LITELLM_IDS)
    assert prompts(found) == ["one", "two"]
    assert isinstance(found, Request)
    assert found.account_id is None
    only_texts = guardrail_request({"texts": ["be brief", "two"], "request_data": IDS}, LITELLM_IDS)
    assert prompts(only_texts) == ["two"]


@pytest.mark.parametrize(("names", "expected"), [(LITELLM_IDS, "e"), (("key",), "h"), (("team", "key"), "t")])
def test_the_account_is_the_first_id_that_is_asked_for(names: tuple[str, ...], expected: str) -> None:
    found = guardrail_request({"structured_messages": MESSAGES, "request_data": IDS}, names)
    assert isinstance(found, Request)
    assert found.account_id == expected
    (row,) = logged([PAYLOAD], names)
    assert isinstance(row, Request)
    assert (row.account_id, row.session_id, row.at) == (expected, None, 1767225600.5)


def test_the_library_without_the_proxy_knows_the_user_of_the_request_alone() -> None:
    (row,) = logged([PAYLOAD | {"end_user": None, "metadata": {}, "model_parameters": {"user": "u"}}], LITELLM_IDS)
    assert isinstance(row, Request)
    assert row.account_id == "u"


@pytest.mark.parametrize(
    "body",
    [{}, {"texts": []}, {"texts": [1]}, {"texts": {"a": 1}}, {"structured_messages": "x"}, {"request_data": [1]}],
)
def test_a_guardrail_that_asks_about_nothing_has_no_request(body: dict[str, Any]) -> None:
    assert isinstance(guardrail_request(body, LITELLM_IDS), Skipped | Rejected)


def test_a_log_is_an_array_an_object_or_lines() -> None:
    one = json.dumps(PAYLOAD)
    for text, n in (
        (one, 1),
        (f"[{one}, {one}]", 2),
        (f"{one}\n{one}\n\n{one}\n", 3),
        (json.dumps(PAYLOAD, indent=1), 1),
    ):
        found = list(logged(rows_of(text), LITELLM_IDS))
        assert [prompts(row) for row in found] == [["one", "two"]] * n
    (good, bad) = logged(rows_of(f"{one}\nsecret {{"), LITELLM_IDS)
    assert isinstance(good, Request)
    assert bad == Rejected(2, "not JSON")
    for text in ("", "secret", '"secret"', "3"):
        with pytest.raises(ValueError, match="the body is") as fault:
            rows_of(text)
        assert "secret" not in str(fault.value)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"status": "failure"}, Skipped), ({"call_type": "aembedding"}, Skipped), ({"messages": None}, Skipped),
        ({"messages": [{"role": "user", "content": "redacted-by-litellm"}]}, Skipped), ({"messages": "one"}, Request),
        ({"messages": [1]}, Rejected), ({"metadata": None, "end_user": ""}, Request),
    ],
)  # fmt: skip
def test_rows_that_are_no_request_are_left_out(change: dict[str, Any], kind: type) -> None:
    (found,) = logged([PAYLOAD | change], LITELLM_IDS)
    assert isinstance(found, kind)
    if change.get("metadata", 0) is None:
        assert isinstance(found, Request)
        assert found.account_id is None
    assert [type(row) for row in logged([1, None, [], PAYLOAD], LITELLM_IDS)] == [Rejected] * 3 + [Request]


def test_messages_that_litellm_does_not_log_are_no_content() -> None:
    (found,) = logged([PAYLOAD | {"messages": [{"role": "user", "content": "redacted-by-litellm"}]}], LITELLM_IDS)
    assert found == Skipped(1, NO_CONTENT)


@pytest.mark.parametrize(
    "given", [{"litellm_account": ("name",)}, {"litellm_account": ()}, {"trace_account": ()}, {"answer_s": 0}]
)
def test_settings_that_can_not_be_used_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"account|answers"):
        GatewaySettings(**given)
