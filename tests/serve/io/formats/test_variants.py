"""Shapes of the same formats that other versions, exporters and providers write; every prompt is A or B."""

from __future__ import annotations

import io
import json

import pytest

from serve.io.importing import Choice, Import, format_of
from serve.io.log_files.files import Log

AT = 1_772_442_000
ISO = "2026-03-02T09:00:00Z"
NEVER = {"role": "assistant", "content": "never"}
A = {"role": "user", "content": "A"}
B = {"role": "user", "content": "B"}
PARTS = [{"role": "user", "parts": [{"type": "text", "content": "A"}]}]
PAYLOAD = {"payload": {"request": json.dumps({"messages": [A]})}}


def openai(**about: object):
    return {"created": AT, "user": "u"} | about


def response(**about: object):
    return {"id": "r1", "object": "response", "created_at": AT, "user": "u"} | about


def spend(**about: object):
    row = {"call_type": "acompletion", "spend": 0.1, "startTime": ISO, "end_user": "u", "status": "success"}
    return row | {"messages": "{}", "proxy_server_request": {}} | about


def trace(value, **about: object):
    return {"id": "t", "timestamp": ISO, "name": "chat", "userId": "u", "sessionId": "s", "input": value} | about


def observation(value, **about: object):
    about = {"traceId": "t", "userId": "u", "name": "chat"} | about
    return {"id": "o", "type": "GENERATION", "startTime": ISO, "input": value} | about


def helicone(sent, **about: object):
    return {"request_created_at": ISO, "request_user_id": "u", "request_body": sent, "response_status": 200} | about


def portkey(sent, **about: object):
    return {"created_at": ISO, "is_success": True, "request": {"body": sent}, "metadata": {"_user": "u"}} | about


def attributes(values):
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]


def span(values, events=(), **about: object):
    own = {"traceId": "t", "spanId": "s", "startTimeUnixNano": str(AT * 10**9), "events": list(events)} | about
    own |= {"attributes": attributes({"user.id": "u"} | values)}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [own]}]}]}


def logged(values, **about: object):
    record = {"timeUnixNano": str(AT * 10**9), "spanId": "s", "attributes": attributes({"user.id": "u"} | values)}
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record | about]}]}]}


def bedrock(sent, model="anthropic.claude-x", **about: object):
    row = {"schemaType": "ModelInvocationLog", "timestamp": ISO, "identity": {"arn": "u"}, "operation": "InvokeModel"}
    return row | {"modelId": model, "input": {"inputBodyJson": sent}} | about


def azure(**about: object):
    row = {"CorrelationId": "c", "TimeGenerated": ISO, "ApimSubscriptionId": "u", "ResponseCode": 200}
    return row | {"SequenceNumber": 1} | about


def kong(ai, **about: object):
    return {"started_at": AT * 1000, "request": {"uri": "/v1/chat"}, "consumer": {"username": "u"}, "ai": ai} | about


def openrouter(values, name="LLM Generation", **about: object):
    return span({"trace.metadata.openrouter.api_key_name": "k"} | values, name=name, **about)


DETAILS = "gen_ai.client.inference.operation.details"
CHAT = {"gen_ai.operation.name": "chat"}
VARIANTS = {
    "openai_chat": [
        [openai(messages=[A]), openai(messages=[B], response={"error": {"message": "x"}})],
        [openai(messages=[A]), openai(messages=[B], response={"status_code": 429})],
        [openai(messages=[A]), openai(messages=[B], response='{"error": {"code": 500}}')],
        [openai(messages=[A]), openai(path="/v1/responses", body={"model": "m", "input": "A"}, created=AT + 1)],
        [openai(messages=[A]), openai(path="/v1/completions", body={"model": "m", "prompt": ["A"]})],
        [{"ts": AT, "user_id": "u", "request_body": json.dumps({"messages": [{"role": "user", "content": None}, A]})}],
        [{"created": AT, "request": {"messages": [A], "metadata": {"user": "u"}}}],
    ],
    "openai_batch_input": [
        [{"custom_id": "1", "url": "/v1/responses", "body": {"model": "m", "input": "A", "user": "u"}}],
        [{"custom_id": "1", "params": {"messages": [A], "metadata": {"user_id": "u"}}}],
    ],
    "openai_responses": [
        [response(input={"object": "list", "data": [{"type": "message"} | A]}, output=[])],
        [response(input=[A, {"type": "shell_call_output", "output": "never"}, {"type": "item_reference", "id": "x"}])],
        [{"timestamp": AT, "request": {"input": "A", "user": "u"}, "response": {"id": "r", "object": "response"}}],
    ],
    "anthropic_messages": [
        [
            {
                "timestamp": ISO,
                "request": {
                    "url": "https://api.example.com/v1/messages",
                    "body": {"messages": [A], "metadata": {"user_id": "u"}},
                },
                "response": {"status_code": 200},
            }
        ],
    ],
    "litellm_spendlogs": [
        [spend(call_type="aresponses", proxy_server_request={"model": "m", "input": "A"})],
        [spend(call_type="aresponses", messages="A")],
        [spend(call_type="atext_completion", proxy_server_request={"prompt": ["A"]})],
        [spend(messages={"messages": [A]}), spend(call_type="call_mcp_tool", messages=[B])],
        [spend(messages=[A]), spend(status=None, metadata={"status": "failure"}, messages=[B])],
        [spend(end_user="", messages=[A], metadata={"user_api_key_user_id": "u"})],
    ],
    "langfuse_traces": [
        *([trace(value)] for value in ({"question": "A"}, {"input": "A", "chat_history": []}, {"query": "A"})),
        *([trace(value)] for value in ({"args": ["A"], "kwargs": {}}, {"args": [], "kwargs": {"messages": [A]}})),
        [trace({"messages": [["user", "A"]]})],
        [trace({"messages": [{"type": "constructor", "id": ["x", "HumanMessage"], "kwargs": {"content": "A"}}]})],
        [trace({"prompt": [A]}, userId=None, metadata={"langfuse_user_id": "u"})],
    ],
    "langfuse_observations": [
        [observation([A]), observation("B", model="text-embedding-3-small")],
        [observation(json.dumps({"messages": PARTS}), userId=None, metadata={"user_id": "u"})],
    ],
    "helicone": [
        [helicone({"messages": [A]}), helicone("[Request body omitted]")],
        [helicone({"model": "m", "input": "A"}, request_path="/v1/responses")],
        [helicone({"contents": {"role": "user", "parts": {"text": "A"}}})],
        [helicone(None, llmSchema={"request": {"messages": [A]}}, request_user_id="")
         | {"properties": {"Helicone-User-Id": "u"}}],
    ],
    "portkey": [
        [portkey({"messages": [A], "user": "u"}, metadata={})],
        [portkey({"messages": [A]}, created_at="Mon Mar 02 2026 09:00:00 GMT+0000 (Coordinated Universal Time)")],
    ],
    "otlp_genai": [
        [logged(CHAT | {"gen_ai.input.messages": json.dumps(PARTS)}, eventName=DETAILS)],
        [span(CHAT, [{"name": DETAILS, "attributes": attributes({"gen_ai.input.messages": json.dumps(PARTS)})}])],
        [span(CHAT, [{"name": "x", "attributes": attributes({"gen_ai.prompt": json.dumps([A])})}])],
        [span({"llm.request.type": "chat", "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "A"})],
        [span({"openinference.span.kind": "LLM", "llm.input_messages.0.message.role": "user",
               "llm.input_messages.0.message.contents.0.message_content.text": "A"})],
        [span({"ai.operationId": "ai.generateText.doGenerate", "ai.prompt.messages": json.dumps([A])})],
        [{"batches": span(CHAT | {"gen_ai.input.messages": json.dumps(PARTS)})["resourceSpans"]}],
        [{"context": {"trace_id": "t", "span_id": "s"}, "start_time": ISO,
          "attributes": CHAT | {"user.id": "u", "gen_ai.input.messages": json.dumps(PARTS)}}],
    ],
    "otlp_genai_events": [
        [logged({}, eventName="gen_ai.user.message", body={"stringValue": '{"content": "A"}'})],
        [span({}, [{"name": "gen_ai.user.message",
                    "attributes": attributes({"gen_ai.event.content": json.dumps(A)})}])],
    ],
    "bedrock_invocation": [
        [bedrock({"inputText": "A"}, "amazon.titan-text-x")],
        [bedrock({"inputText": "User: A\nBot:", "textGenerationConfig": {}}, "amazon.titan-text-x")],
        [bedrock({"prompt": "\n\nHuman: A\n\nAssistant:"}, "anthropic.claude-v2")],
        [bedrock({"messages": [A]}), bedrock({"prompt": "B"}, "luma.ray-v2:0")],
        [{"timestamp": AT, "message": json.dumps(bedrock({"messages": [A]}))}],
        [{"messageType": "DATA_MESSAGE", "logEvents": [{"message": json.dumps(bedrock({"messages": [A]}))}]}],
    ],
    "azure_apim": [
        [azure(RequestMessages=json.dumps([A])), azure(SequenceNumber=2, RequestMessages=json.dumps([NEVER]))],
        [{"tables": [{"columns": [{"name": name} for name in azure(RequestMessages="")],
                      "rows": [list(azure(RequestMessages=json.dumps([A])).values())]}]}],
    ],
    "kong_ai": [
        *([kong(ai)] for ai in ({"ai-proxy": PAYLOAD}, PAYLOAD, {"statistics": [PAYLOAD]})),
        [kong({"ai-request-transformer": {"payload": {"request": json.dumps({"messages": [B]})}}, "proxy": PAYLOAD})],
    ],
    "openrouter": [
        [openrouter({"gen_ai.prompt": json.dumps({"messages": [A]})}, name="mine", parentSpanId="elsewhere")],
        [openrouter({"gen_ai.prompt": json.dumps({"input": "A"})})],
        [openrouter({"gen_ai.input.messages": json.dumps(PARTS)})],
    ],
    "columns": [
        [{"account_id": "u", "at": {"$date": ISO}, "prompt": [A, NEVER]}],
    ],
    "wildchat": [[{"conversation_id": "h", "timestamp": ISO, "hashed_ip": "u", "conversation": [A, NEVER]}]],
}  # fmt: skip
"""Rows of logs whose only prompt is A, of account u, at a known time."""

WITHOUT_TIME = {"openai_batch_input"}
CASES = [
    pytest.param(name, rows, id=f"{name}-{place}") for name, logs in VARIANTS.items() for place, rows in enumerate(logs)
]


def imported(path):
    log = Log(path)
    chosen = format_of(log, Choice())
    job, tables = Import(chosen, path.parent, 1), []
    job.read(log, io.StringIO())
    job.write(type("Tables", (), {"add": lambda self, table: tables.append(table)})())
    assert not job.reading.rejected
    return chosen.name, [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize(("name", "rows"), CASES)
def test_a_prompt_is_found_wherever_a_version_puts_it(tmp_path, name, rows):
    path = tmp_path / "log.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recognised, found = imported(path)
    assert recognised == name
    assert {(row["account_id"], row["prompt"]) for row in found} == {("u", "A")}
    assert all((row["at"] is None) == (name in WITHOUT_TIME) for row in found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bedrock_invocation", f"2026-03-02T09:00:00.000Z {json.dumps(bedrock({'messages': [A]}))}\n"),
        ("portkey", json.dumps({"success": True, "data": {"total": 1, "records": [portkey({"messages": [A]})]}})),
        ("azure_apim", 'CorrelationId,"TimeGenerated [UTC]",SequenceNumber,RequestMessages,ApimSubscriptionId\n'
                       'c,"3/2/2026, 9:00:00.250 AM",1,"[{""role"":""user"",""content"":""A""}]",u\n'),
    ],
)  # fmt: skip
def test_logs_in_the_layout_of_what_collected_them(tmp_path, name, text):
    path = tmp_path / "log"
    path.write_text(text)
    recognised, found = imported(path)
    assert recognised == name
    assert [(row["account_id"], row["prompt"], int(row["at"])) for row in found] == [("u", "A", AT)]
