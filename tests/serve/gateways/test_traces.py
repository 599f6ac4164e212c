"""Spans are read alike from JSON and from protobuf, as OpenTelemetry's own library writes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from serve.gateways.otlp_protobuf import export_of, partial_success
from serve.gateways.traces import traced
from serve.io.logs.otlp import spans
from serve.io.logs.requests import Request, Skipped

MESSAGES = json.dumps([
    {"role": "user", "parts": [{"type": "text", "content": "one"}]},
    {"role": "assistant", "parts": [{"type": "text", "content": "ok"}]},
    {"role": "user", "parts": [{"type": "text", "content": "two"}]},
])  # fmt: skip


def attribute(name: str, text: str) -> dict[str, Any]:
    return {"key": name, "value": {"stringValue": text}}


def span(*attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    named = [attribute("gen_ai.operation.name", "chat"), *attributes]
    about = {"traceId": "q80=", "spanId": "7w==", "name": "chat m", "startTimeUnixNano": "1767225600500000000"}
    return about | {"attributes": named} | more


def export(*rows: dict[str, Any]) -> dict[str, Any]:
    about = {"attributes": [attribute("service.name", "gateway"), attribute("tenant", "t-9")]}
    return {"resourceSpans": [{"resource": about, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(rows)}]}]}


CHAT = span(
    attribute("gen_ai.input.messages", MESSAGES), attribute("gen_ai.conversation.id", "c-1"),
    attribute("user.id", "a-1"),
)  # fmt: skip
EVENTS = span(
    attribute("enduser.id", "a-2"),
    events=[
        {
            "name": "gen_ai.user.message",
            "timeUnixNano": "1767225600500000000",
            "attributes": [attribute("content", "one")],
        },
        {"name": "gen_ai.choice", "attributes": []},
    ],
)
OTHER = {"name": "GET /", "attributes": [attribute("http.request.method", "GET")]}


def encoded(value: dict[str, Any]) -> bytes:
    return bytes(ParseDict(value, ExportTraceServiceRequest()).SerializeToString())


@pytest.mark.parametrize("is_protobuf", [False, True])
def test_spans_are_requests_of_conversations(is_protobuf: bool) -> None:
    value = export(CHAT, OTHER, EVENTS)
    found = list(traced(export_of(encoded(value)) if is_protobuf else value, ("user.id", "enduser.id")))
    chat, other, events = found
    assert isinstance(chat, Request)
    assert isinstance(events, Request)
    assert isinstance(other, Skipped)
    assert (chat.account_id, chat.session_id, chat.at) == ("a-1", "c-1", 1767225600.5)
    assert [turn.text for turn in chat.talk.turns] == ["one", "two"]
    assert (events.account_id, events.session_id, [turn.text for turn in events.talk.turns]) == ("a-2", None, ["one"])


def test_the_account_is_named_by_an_attribute_of_the_span_or_its_resource() -> None:
    (by_tenant,) = traced(export(CHAT), ("tenant",))
    (by_nothing,) = traced(export(CHAT), ("customer",))
    assert isinstance(by_tenant, Request)
    assert isinstance(by_nothing, Request)
    assert (by_tenant.account_id, by_nothing.account_id) == ("t-9", None)


values = st.recursive(
    st.one_of(
        st.text(max_size=9).map(lambda text: {"stringValue": text}), st.booleans().map(lambda flag: {"boolValue": flag}),  # noqa: E501
        st.integers(-(2**63), 2**63 - 1).map(lambda number: {"intValue": number}),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda number: {"doubleValue": number}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda rows: {"arrayValue": {"values": rows}}),
        st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3).map(
            lambda pairs: {"kvlistValue": {"values": [{"key": key, "value": value} for key, value in pairs.items()]}}
        ),
    ),
    max_leaves=8,
)  # fmt: skip


@given(
    st.dictionaries(st.text(min_size=1, max_size=9), values, max_size=5), st.integers(0, 2**64 - 1), st.integers(0, 2)
)
def test_protobuf_is_read_as_the_library_writes_it(attributes: dict[str, Any], at: int, code: int) -> None:
    rows = [{"key": name, "value": value} for name, value in attributes.items()]
    about = {"attributes": rows, "startTimeUnixNano": str(at), "status": {"code": code, "message": "x"}, "flags": 1}
    value = export(about, {"name": "empty", "attributes": rows, "events": [{"name": "e", "attributes": rows}]})
    (found, empty), (expected, _) = list(spans(export_of(encoded(value)))), list(spans(value))
    assert found.attributes == expected.attributes == empty.attributes
    assert found.resource == expected.resource
    assert (found.raw.get("startTimeUnixNano", 0), found.raw["status"].get("code", 0)) == (at, code)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_export_are_a_fault_or_nothing(data: bytes) -> None:
    try:
        list(traced(export_of(data), ("user.id",)))
    except ValueError as fault:
        assert str(fault)  # noqa: PT017


@given(st.data())
def test_cut_exports_never_fail_otherwise(data: st.DataObject) -> None:
    whole = bytearray(encoded(export(CHAT, EVENTS)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    try:
        list(traced(export_of(whole[: data.draw(st.integers(0, len(whole)))]), ("user.id",)))
    except ValueError as fault:
        assert str(fault)  # noqa: PT017


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return export({"attributes": [{"key": "k", "value": value}]})


def test_an_export_is_bounded() -> None:
    with pytest.raises(ValueError, match="too many fields"):
        export_of(b"\x0a\x00" * 100, max_fields=99)
    assert len(export_of(b"\x0a\x00" * 100, max_fields=100)["resourceSpans"]) == 100
    with pytest.raises(ValueError, match="nested too deeply"):
        export_of(encoded(nested(40)))
    assert len(list(spans(export_of(encoded(nested(20)))))) == 1


def test_an_answer_is_one_that_the_library_reads() -> None:
    answer = ExportTraceServiceResponse.FromString(partial_success(300, "300 requests that name no account"))
    assert answer.partial_success.rejected_spans == 300
    assert answer.partial_success.error_message == "300 requests that name no account"
    assert partial_success(0, "") == b""
