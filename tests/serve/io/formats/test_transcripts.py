"""Formats whose rows are no whole requests: transcripts, conversations, and requests spread over rows."""

from __future__ import annotations

import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.io.importing import Choice, Import, format_of
from serve.io.log_files.files import Log

AT = 1_772_442_000
CONTEXT = "<environment_context>never</environment_context>"


def imported(path, form=None):
    log = Log(path)
    chosen = format_of(log, Choice(form))
    folder = path.with_suffix(".work")
    folder.mkdir(exist_ok=True)
    job, rejects = Import(chosen, folder, 1), io.StringIO()
    job.read(log, rejects)
    tables = []
    job.write(type("Tables", (), {"add": lambda self, table: tables.append(table)})())
    rows = [row for table in tables for row in table.to_pylist()]
    return chosen.name, [(row["session_id"], row["prompt"]) for row in rows], rows, job.reading


def written(tmp_path, rows, name="log.jsonl"):
    path = tmp_path / name
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def test_claude_code(tmp_path):
    def event(number, content, **about: object) -> object:
        message = {"role": "user", "content": content}
        about = {
            "type": "user",
            "uuid": f"u{number}",
            "sessionId": "s",
            "timestamp": f"2026-03-02T09:00:{number:02}Z",
        } | about
        return about | {"message": message}

    result = {"type": "tool_result", "content": "never"}
    rows = [
        {"type": "summary", "summary": "never", "leafUuid": "x"},
        event(1, "A"),
        event(2, [result]),
        event(3, [{"type": "text", "text": "<ide_selection>never</ide_selection>"}, {"type": "text", "text": "B"}]),
        event(4, "never", isMeta=True),
        event(5, "never", isSidechain=True),
        event(6, "never", isCompactSummary=True),
        event(7, "<bash-input>never</bash-input>"),
        event(8, "A"),
        event(1, "A", sessionId="resumed"),
        event(9, [result, {"type": "text", "text": "C"}]),
        event(10, "[Request interrupted by user]"),
    ]
    name, prompts, rows, reading = imported(written(tmp_path, rows))
    assert name == "claude_code"
    assert prompts == [("s", "A"), ("s", "B"), ("s", "A"), ("s", "C")]
    assert rows[1]["at"] == AT + 3
    assert reading.skipped["tool results"] == 1


@pytest.mark.parametrize("has_events", [True, False])
def test_codex(tmp_path, has_events):
    def item(kind, **payload: object) -> object:
        return {"timestamp": "2026-03-02T09:00:00Z", "type": kind, "payload": payload}

    def said(text) -> object:
        own = [item("event_msg", type="user_message", message=text)] if has_events else []
        return [
            *own,
            item("response_item", type="message", role="user", content=[{"type": "input_text", "text": text}]),
        ]

    rows = [
        item("session_meta", id="s"),
        item("response_item", type="message", role="developer", content=[{"type": "input_text", "text": "never"}]),
        item("response_item", type="message", role="user", content=[{"type": "input_text", "text": CONTEXT}]),
        *said("A"),
        item("response_item", type="function_call_output", output="never"),
        item("compacted", message="never", replacement_history=[{"role": "user", "content": "never"}]),
        item("session_meta", id="s"),
        *said("A"),
        *said("B"),
    ]
    name, prompts, *_ = imported(written(tmp_path, rows))
    assert name == "codex_rollout"
    assert prompts == [("s", "A"), ("s", "A"), ("s", "B")]


def test_sharegpt_parts_and_copies(tmp_path):
    def row(name, *texts: object) -> object:
        turns = [
            turn for text in texts for turn in ({"from": "human", "value": text}, {"from": "gpt", "value": "never"})
        ]
        return ({"id": name} if name else {}) | {"conversations": turns}

    rows = [
        row("a/b_0", "A", "A"),
        row("a/b_1", "B"),
        row("a/b_0", "A", "A"),
        row("c", "A"),
        row(None, "X"),
        row(None, "X"),
    ]
    rows += [{"id": "d", "conversations": []}, {"id": "e", "conversations": "human: never"}, {"id": "f"}]
    name, prompts, _, reading = imported(written(tmp_path, json.dumps(rows)))
    assert name == "sharegpt"
    assert [prompt for prompt in prompts if "row" not in prompt[0]] == [
        ("a/b", "A"),
        ("a/b", "A"),
        ("a/b", "B"),
        ("c", "A"),
    ]
    assert len({session for session, text in prompts if text == "X"}) == 2
    assert reading.rejected.total() == 2


def test_lmsys_and_wildchat(tmp_path):
    turns = [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "never"},
        {"role": "user", "content": "A"},
    ]
    path = tmp_path / "chats.parquet"
    pq.write_table(pa.Table.from_pylist([{"conversation_id": name, "conversation": turns} for name in "xyx"]), path)
    assert imported(path)[:2] == ("lmsys_chat_1m", [("x", "A"), ("x", "A"), ("y", "A"), ("y", "A")])

    timed = [
        turns[0] | {"timestamp": None},
        turns[1] | {"timestamp": "2026-03-02T09:00:01Z"},
        turns[2] | {"timestamp": "2026-03-02 09:00:09"},
    ]
    row = {"conversation_hash": "h", "hashed_ip": "ip", "timestamp": "2026-03-02T10:00:00Z", "conversation": timed}
    name, prompts, rows, _ = imported(written(tmp_path, [row, row]))
    assert (name, prompts) == ("wildchat", [("h", "A"), ("h", "A")])
    assert [row["at"] - AT for row in rows] == [1.0, 9.0]
    assert {row["account_id"] for row in rows} == {"ip"}


def test_chatgpt_export_follows_the_current_branch(tmp_path):
    def node(parent, role, text, children=(), **metadata: object) -> object:
        content = {"content_type": "text", "parts": text if isinstance(text, list) else [text]}
        message = {"author": {"role": role}, "content": content, "create_time": AT, "metadata": metadata}
        return {"message": message, "parent": parent, "children": list(children)}

    mapping = {
        "root": {"message": None, "parent": None, "children": ["hidden"]},
        "hidden": node("root", "user", "never", ["a"], is_visually_hidden_from_conversation=True),
        "a": node("hidden", "user", "A", ["old", "new"]),
        "old": node("a", "user", "never"),
        "new": node("a", "user", ["B", {"content_type": "image_asset_pointer"}], ["tool"]),
        "tool": node("new", "tool", "never"),
    }
    rows = [
        {"title": "t", "conversation_id": "c", "current_node": "tool", "mapping": mapping},
        {"title": "loop", "conversation_id": "d", "current_node": "x", "mapping": {"x": node("x", "user", "X")}},
        {"title": "empty", "conversation_id": "e", "current_node": None, "mapping": {}},
    ]
    assert imported(written(tmp_path, json.dumps(rows)))[:2] == ("chatgpt_export", [("c", "A"), ("c", "B"), ("d", "X")])


def test_aider(tmp_path):
    text = """
# aider chat started at 2026-03-02 09:00:00

> aider v1
#### A
#### more

never

#### /add file
#### !ls
#### /usr/bin/x fails
# aider chat started at 2026-03-02 10:00:00
#### A
"""
    name, prompts, rows, _ = imported(written(tmp_path, text.replace("#### !ls", "\n#### !ls\n"), "h.md"))
    assert name == "aider_history"
    assert [text for _, text in prompts] == ["A\nmore", "/usr/bin/x fails", "A"]
    assert [row["at"] - AT for row in rows] == [0.0, 0.0, 3600.0]
    assert len({session for session, _ in prompts}) == 2


def test_specstory(tmp_path):
    text = """<!-- Generated by SpecStory -->

# 2026-03-02 09:00:00Z

<!-- Cursor Session 1234-abcd (2026-03-02 09:00:00Z) -->

_**User (2026-03-02 09:00:05Z)**_

A

---

not the end

---

_**Agent (model 2026-03-02 09:00:06Z)**_

never

---

_**User**_

<user_query>B</user_query>

---

_**User**_

This session is being continued from a previous conversation: never
"""
    name, prompts, rows, _ = imported(written(tmp_path, text, "s.md"))
    assert (name, prompts) == ("specstory", [("1234-abcd", "B"), ("1234-abcd", "A\n\n---\n\nnot the end")])
    assert [row["at"] - AT for row in rows] == [0.0, 5.0]


def test_vllm(tmp_path):
    prompt = '<|im_start|>user\nIt\'s "A"\nhere<|im_end|>\n<|im_start|>assistant\n'
    head, tail = (
        "INFO 03-02 09:00:17 [logger.py:43] Received request ",
        ", params: SamplingParams(n=1), lora_request: None.\n",
    )
    text = (
        "INFO starting\n"
        f"{head}chatcmpl-1: prompt: {prompt!r}{tail}"
        f"{head}embd-2: prompt: 'never', params: PoolingParams(dimensions=None)\n"
        f"{head}chatcmpl-3: prompt: None{tail}"
        f"{head}cmpl-4: prompt: 'plain text with \\'quotes\\''{tail}"
        f"{head}chatcmpl-5: prompt: '<|im_start|>never\n"
    )
    name, prompts, _, reading = imported(written(tmp_path, text, "server.log"))
    assert name == "vllm_log"
    assert [text for _, text in prompts] == ['It\'s "A"\nhere', "plain text with 'quotes'"]
    assert reading.rejected.total() == 1


def test_azure_rows_are_joined_in_any_order(tmp_path):
    messages = json.dumps([{"role": "user", "content": "A" * 50}])
    sixes = range(0, len(messages), 6)
    sent = {"SequenceNumber": 1, "RequestMessages": messages}
    shared = {"CorrelationId": "c", "TimeGenerated": "2026-03-02T09:00:00Z", "_SubscriptionId": "operator"}
    rows = [
        shared | {"SequenceNumber": 0, "OperationName": "ChatCompletions"},
        *(shared | {"SequenceNumber": n // 6 + 1, "RequestMessages": messages[n : n + 6]} for n in sixes),
        shared | {"SequenceNumber": 99, "ResponseMessages": "never"},
        shared | {"ApimSubscriptionId": "ann", "ResponseCode": 200, "Url": "https://gw/openai/chat/completions"},
        shared | {"CorrelationId": "d", "SequenceNumber": 1, "RequestMessages": messages},
        shared | {"CorrelationId": "d", "ResponseCode": 500},
        shared | {"CorrelationId": "e", "OperationName": "Embeddings"} | sent,
        {"properties": shared | {"CorrelationId": "f", "ApimSubscriptionId": "bob"} | sent},
    ]  # fmt: skip
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        name, _, found, reading = imported(written(tmp_path, rows))
        assert name == "azure_apim"
        assert sorted((row["account_id"], row["prompt"]) for row in found) == [("ann", "A" * 50), ("bob", "A" * 50)]
        assert not reading.rejected


def test_langfuse_traces_in_pages(tmp_path):
    def trace(number, value, **about: object) -> object:
        about = {"sessionId": "s", "userId": "u"} | about
        return {"id": f"t{number}", "timestamp": f"2026-03-02T09:00:{number:02}Z", "input": value, **about}

    messages = [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "never"},
        {"role": "user", "content": "B"},
    ]
    traces = [
        trace(9, {"messages": messages}, observations=[{"input": messages}]),
        trace(1, json.dumps(messages[:1])),
        trace(2, None),
        trace(3, "plain", sessionId=None),
        trace(4, '[{"role": "user", "content": "never...(truncated)'),
        trace(5, "never", name="embed-passages"),
    ]
    name, prompts, _, reading = imported(written(tmp_path, json.dumps({"data": traces, "meta": {"page": 1}})))
    assert (name, prompts) == ("langfuse_traces", [("s", "A"), ("t3", "plain"), ("s", "B")])
    assert reading.rejected.total() == 1


@pytest.mark.parametrize("is_logged", [True, False])
def test_events_of_a_request_are_one_request(tmp_path, is_logged):
    def exported(span, *messages: object) -> object:
        names = {"user": "gen_ai.user.message", "assistant": "gen_ai.assistant.message", "tool": "gen_ai.tool.message"}
        shared = {"traceId": "t", "spanId": span}
        about = [{"key": "enduser.id", "value": {"stringValue": "ann"}}]
        if is_logged:
            records = [
                shared | {"timeUnixNano": str((AT * 1000 + n) * 10**6), "eventName": names[role], "attributes": about,
                          "body": {"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": text}}]}}}
                for n, (role, text) in enumerate(messages)
            ]  # fmt: skip
            return [{"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]} for record in records]
        events = [
            {"name": names[role], "attributes": [{"key": "content", "value": {"stringValue": text}}]}
            for role, text in messages
        ]
        own = shared | {"startTimeUnixNano": str(AT * 10**9), "events": events, "attributes": about}
        return [{"resourceSpans": [{"scopeSpans": [{"spans": [own]}]}]}]

    first, second, empty = ("user", "A"), ("user", '[{"type": "text", "text": "B"}]'), ("user", "")
    rows = (
        exported("1", first)
        + exported("2", first, ("assistant", "never"), second, ("tool", "never"))
        + exported("3", empty)
    )
    name, prompts, found, reading = imported(written(tmp_path, rows))
    assert name == "otlp_genai_events"
    assert [text for _, text in prompts] == ["A", "B"]
    assert len({session for session, _ in prompts}) == 1
    assert {row["account_id"] for row in found} == {"ann"}
    assert reading.skipped["requests without stored content"] == 1


def test_responses_chains_conversations_and_stateless_history(tmp_path):
    def response(number, value, **about: object) -> object:
        return {"id": f"r{number}", "object": "response", "created_at": AT + number, "user": 7, "input": value} | about

    def user(text) -> object:
        return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}

    rows = [
        response(1, "A"),
        response(2, [{"type": "function_call_output", "output": "never"}], previous_response_id="r1"),
        response(3, [user("B")], previous_response_id="r2"),
        response(4, [user("B2")], previous_response_id="r1"),
        response(5, "X", conversation={"id": "c"}),
        response(60, "X", conversation="c"),
        response(61, "never", conversation="c", status="failed"),
        response(70, [user("S"), {"type": "reasoning"}, {"role": "assistant", "content": "never"}, user("T")]),
        response(71, [{"type": "compaction"}, user("T"), {"role": "assistant", "content": "never"}, user("U")]),
        {"object": "list", "model": "embed", "input": ["never"], "path": "/v1/embeddings", "user": 7},
    ]
    name, prompts, found, reading = imported(written(tmp_path, rows))
    assert name == "openai_responses"
    assert [text for _, text in prompts] == ["A", "B", "B2", "X", "X", "S", "T", "U"]
    assert len({session for session, text in prompts if text in ("A", "B", "B2")}) == 1
    assert [session for session, text in prompts if text == "X"] == ["c", "c"]
    assert len({session for session, text in prompts if text in "STU"}) == 1
    assert {row["account_id"] for row in found} == {"7"}
    assert reading.skipped["tool results"] == 1


def test_batch_input_is_one_session(tmp_path):
    def line(number, body, url="/v1/chat/completions") -> object:
        return {"custom_id": f"c{number}", "method": "POST", "url": url, "body": body}

    ask, more = {"role": "user", "content": "A"}, {"role": "user", "content": "B"}
    rows = [
        line(1, {"messages": [ask]}),
        line(1, {"messages": [ask]}),
        line(2, {"messages": [ask, more]}),
        line(3, {"input": "C", "instructions": "never"}, "/v1/responses"),
        line(4, {"input": "never"}, "/v1/embeddings"),
    ]
    name, prompts, *_ = imported(written(tmp_path, rows, "jobs.jsonl"))
    assert (name, prompts) == ("openai_batch_input", [("jobs", "A"), ("jobs", "B"), ("jobs", "C")])
