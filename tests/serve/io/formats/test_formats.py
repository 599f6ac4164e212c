"""One story in every format that stores requests: history, a retry, an edit, tools, failures, other endpoints."""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path

import pytest

from serve.io.formats import FORMATS, by_name, recognise
from serve.io.importing import SCHEMA, Choice, Import, format_of
from serve.io.log_files.files import Log
from serve.io.log_files.opening import LogError

ROOT = Path(__file__).parents[4]
AT = 1_772_442_000
REMINDER = "<system-reminder>never</system-reminder>"
URL = "data:image/png;base64,AAAA"


def user(text):
    return {"role": "user", "content": text}


def answer(text="never"):
    return {"role": "assistant", "content": text}


TOOL = {"role": "tool", "tool_call_id": "c", "content": "never"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
SUMMARY = user("<summary>never</summary>")
SYSTEM = {"role": "system", "content": "never"}
PICTURE = [{"type": "image_url", "image_url": {"url": URL}}, {"type": "text", "text": "B"}]

STORY = (
    ("ann", "s1", 0, [SYSTEM, user(REMINDER + "A")], 200, "chat"),
    ("bob/1", "s2", 5, [user("A")], 200, "chat"),
    ("ann", "s1", 10, [SYSTEM, user("A"), answer(), user(PICTURE)], 200, "chat"),
    ("ann", "s1", 11, [SYSTEM, user("A"), answer("other"), user(PICTURE)], 200, "chat"),
    ("ann", "s1", 20, [user("A"), answer(), user(PICTURE), CALL, TOOL], 200, "chat"),
    ("ann", "s1", 30, [user("A"), answer(), user("<task>B2</task>")], 429, "chat"),
    ("ann", "s1", 31, [user("A"), answer(), user("<task>B2</task>")], 200, "chat"),
    ("ann", "s1", 40, [user("never")], 200, "embeddings"),
    ("ann", "s1", 50, [SYSTEM, SUMMARY, user("B2"), answer(), user("C")], 200, "chat"),
    ("ann", "s1", 60, [SUMMARY, user("B2"), answer(), user("C"), answer(), user("C")], 200, "chat"),
)  # fmt: skip
"""Account, session, time, messages, status, endpoint."""

EXPECTED = [
    ("ann", "A", 0), ("ann", "B", 10), ("ann", "B2", 31), ("ann", "C", 50), ("ann", "C", 60), ("bob/1", "A", 5),
]  # fmt: skip
PATHS = {"chat": "/v1/chat/completions", "embeddings": "/v1/embeddings"}


def body(messages, endpoint="chat"):
    return {"model": "m", "messages": messages} if endpoint == "chat" else {"model": "embed", "input": ["never"]}


def openai_flat(account, session, at, messages, status, endpoint):
    return {"id": "x", "created": AT + at, "path": PATHS[endpoint], "user": account, "status_code": status} | body(
        messages, endpoint
    )


def openai_enveloped(account, session, at, messages, status, endpoint):
    request = body(messages, endpoint) | {"safety_identifier": account}
    return {"created_at": AT + at, "status": status, "path": PATHS[endpoint], "request": request}


def anthropic(account, session, at, messages, status, endpoint):
    user_id = json.dumps({"device_id": account, "account_uuid": "u", "session_id": session})
    own = [message for message in messages if message["role"] != "system"]
    own = [user([{"type": "tool_result", "content": "never"}]) if message is TOOL else message for message in own]
    url = "/v1/messages" if endpoint == "chat" else "/v1/messages/count_tokens?beta=true"
    request = {
        "model": "m",
        "system": [{"type": "text", "text": "never"}],
        "messages": own,
        "metadata": {"user_id": user_id},
    }
    return {"timestamp": iso(at), "url": url, "status_code": status, "request": request}


def litellm(account, session, at, messages, status, endpoint):
    return {
        "request_id": f"r{at}", "call_type": "acompletion" if endpoint == "chat" else "aembedding", "end_user": "",
        "user": account, "api_key": "k", "session_id": session, "startTime": iso(at).replace("T", " ")[:-1],
        "status": "success" if status < 400 else "failure", "messages": {}, "spend": 0.1,
        "proxy_server_request": json.dumps(body(messages, endpoint)),
        "metadata": {"error_information": {"error_code": ""}},
    }  # fmt: skip


def langfuse_observation(account, session, at, messages, status, endpoint):
    return {
        "id": f"o{at}", "traceId": f"t{at}", "type": "GENERATION" if endpoint == "chat" else "EMBEDDING",
        "startTime": iso(at), "userId": account, "sessionId": session, "input": {"messages": messages},
        "level": "DEFAULT" if status < 400 else "ERROR",
    }  # fmt: skip


def helicone(account, session, at, messages, status, endpoint):
    return {
        "request_id": "r", "request_created_at": iso(at), "request_user_id": account, "helicone_user": "operator",
        "request_body": json.dumps(body(messages, endpoint)), "response_status": status,
        "request_path": PATHS[endpoint],
        "request_properties": None, "properties": {"Helicone-Session-Id": session},
    }  # fmt: skip


def span_parts(message):
    if message is TOOL:
        return [{"type": "tool_call_response", "response": "never"}]
    contents = message["content"] if isinstance(message["content"], list) else [message["content"] or ""]
    texts = [part if isinstance(part, str) else part.get("text") for part in contents]
    return [
        {"type": "blob", "content": "never"} if text is None else {"type": "text", "content": text} for text in texts
    ]


def span(account, session, at, messages, status, endpoint):
    parts = [{"role": message["role"], "parts": span_parts(message)} for message in messages]
    names = {
        "gen_ai.operation.name": endpoint, "enduser.id": account, "gen_ai.conversation.id": session,
        "gen_ai.input.messages": json.dumps(parts),
    }  # fmt: skip
    return otlp_span(at, names | ({} if status < 400 else {"error.type": str(status)}))


def otlp_span(at, names, name="chat m"):
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in names.items()]
    own = {"traceId": f"t{at}", "spanId": "s", "name": name, "startTimeUnixNano": str((AT + at) * 10**9)}
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [own | {"attributes": attributes}]}]}]}


def openrouter(account, session, at, messages, status, endpoint):
    names = {
        "gen_ai.prompt": json.dumps(body(messages, endpoint)),
        "gen_ai.operation.name": endpoint,
        "session.id": session,
    }
    named = names | {"trace.metadata.openrouter.api_key_name": account}
    return otlp_span(at, named | ({} if status < 400 else {"error.type": "x"}), "LLM Generation")


def bedrock(account, session, at, messages, status, endpoint):
    model = "lab.chat" if endpoint == "chat" else "lab.embed"
    row = {"schemaType": "ModelInvocationLog", "timestamp": iso(at), "identity": {"arn": account}, "modelId": model}
    row |= {"operation": "InvokeModel", "input": {"inputBodyJson": body(messages, endpoint)}}
    return row if status < 400 else row | {"errorCode": "ThrottlingException"}


def kong(account, session, at, messages, status, endpoint):
    return {
        "started_at": (AT + at) * 1000, "request": {"uri": PATHS[endpoint]}, "upstream_uri": PATHS[endpoint],
        "response": {"status": status}, "consumer": {"id": account, "username": None}, "latencies": {},
        "ai": {"proxy": {"payload": {"request": json.dumps(body(messages, endpoint))}}},
    }  # fmt: skip


def portkey(account, session, at, messages, status, endpoint):
    return {
        "id": "p", "created_at": iso(at), "trace_id": session, "is_success": status < 400,
        "request_url": f"https://embeddings.example.com{PATHS[endpoint]}", "metadata.key": ["env", "_user"],
        "metadata.value": ["prod", account], "request.body": json.dumps(body(messages, endpoint)),
    }  # fmt: skip


def columns(account, session, at, messages, status, endpoint):
    return {"account_id": account, "session_id": session, "at": iso(at), "messages": json.dumps(messages)}


def iso(at):
    return f"2026-03-02T09:{at // 60:02}:{at % 60:02}.000Z"


WITHOUT_SESSION = {"openai_chat", "bedrock_invocation", "kong_ai"}
WRITERS = {
    "openai_chat": openai_flat, "anthropic_messages": anthropic, "litellm_spendlogs": litellm,
    "langfuse_observations": langfuse_observation, "helicone": helicone, "otlp_genai": span, "openrouter": openrouter,
    "bedrock_invocation": bedrock, "kong_ai": kong, "portkey": portkey, "columns": columns,
}  # fmt: skip


def imported(tmp_path, text, form=None):
    """Rows of a log, and the reading."""
    path = tmp_path / "log"
    path.write_text(text, encoding="utf-8")
    log = Log(path)
    chosen = format_of(log, Choice(form))
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    job, rejects = Import(chosen, folder, path.stat().st_size, with_system=True), io.StringIO()
    job.read(log, rejects)
    tables = []
    job.write(type("Tables", (), {"add": lambda self, table: tables.append(table)})())
    return [row for table in tables for row in table.to_pylist()], job.reading, rejects.getvalue()


def prompts(rows):
    return [(row["account_id"], row["prompt"], None if row["at"] is None else round(row["at"] - AT)) for row in rows]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", [*WRITERS, "enveloped"])
def test_the_story_in_every_format(tmp_path, name):
    write = WRITERS.get(name, openai_enveloped)
    story = [entry for entry in STORY if name != "columns" or (entry[4] == 200 and entry[5] == "chat")]
    rows, reading, rejects = imported(tmp_path, lines(write(*entry) for entry in story))
    assert sorted(prompts(rows)) == sorted(EXPECTED)
    assert len({row["session_id"] for row in rows if row["account_id"] == "ann"}) == 1
    assert rejects == ""
    assert "never" not in json.dumps([row["prompt"] for row in rows])
    assert reading.n_prompts == len(rows)
    assert reading.n_accounts == 2
    assert reading.line().startswith(f"read as {reading.title}: ")


@pytest.mark.parametrize("name", WRITERS)
def test_order_of_lines_makes_no_difference(tmp_path, name):
    story = [WRITERS[name](*entry) for entry in STORY if entry[4] == 200 and entry[5] == "chat"]
    first, *_ = imported(tmp_path, lines(story))
    newest_first, *_ = imported(tmp_path, lines(reversed(story)))
    shuffled, *_ = imported(tmp_path, lines(random.Random(7).sample(story, len(story))))
    as_array, *_ = imported(tmp_path, json.dumps(story, indent=1))
    assert first == newest_first == shuffled == as_array


@pytest.mark.parametrize("name", WRITERS)
def test_cut_lines_are_rejected_and_quote_nothing(tmp_path, name):
    text = lines(WRITERS[name](*entry) for entry in STORY[:2]) + '{"user": "x", "messages": "secret...(truncated)\n'
    rows, reading, rejects = imported(tmp_path, text)
    assert prompts(rows) == EXPECTED[:1] + EXPECTED[-1:] or sorted(prompts(rows)) == [
        ("ann", "A", 0),
        ("bob/1", "A", 5),
    ]
    assert reading.rejected.total() == 1
    assert json.loads(rejects)["line"] == 3
    assert "secret" not in rejects


def test_without_a_session_the_first_message_names_the_thread(tmp_path):
    story = [openai_flat(*entry) for entry in STORY] + [openai_flat("ann", "", 70, [user("X")], 200, "chat")]
    rows, *_ = imported(tmp_path, lines(story))
    sessions = [row["session_id"] for row in rows if row["account_id"] == "ann"]
    assert len(set(sessions)) == 2
    assert sessions[-1] not in sessions[:-1]


def test_requests_without_an_account_are_counted(tmp_path):
    rows, reading, _ = imported(tmp_path, lines([openai_flat(None, "", 0, [user("A")], 200, "chat")]))
    assert rows[0]["account_id"] == "unknown"
    assert reading.n_unnamed == 1


def test_system_text_is_kept_beside_the_prompt(tmp_path):
    rows, *_ = imported(
        tmp_path, lines([openai_flat("a", "", 0, [{"role": "developer", "content": "S"}, user("A")], 200, "chat")])
    )
    assert rows[0]["system"] == "S"


def test_unknown_format_says_what_it_looks_like(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"colour": "secret", "shape": "round"}\n')
    with pytest.raises(LogError, match="no known format: lines whose first row has colour, shape"):
        format_of(Log(path), Choice())
    path.write_text('{"acount_id": "a", "promt": "x"}\n')
    with pytest.raises(LogError, match="use --columns account_id=acount_id,prompt=promt"):
        format_of(Log(path), Choice())
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(LogError, match="no known format: binary data"):
        format_of(Log(path), Choice())


def test_columns_of_what_is_no_table_are_refused(tmp_path):
    path = tmp_path / "log"
    path.write_text("a secret question\nand another\n")
    with pytest.raises(LogError, match="has no header that names columns, expected user, text in one") as caught:
        format_of(Log(path), Choice(columns={"account_id": "user", "prompt": "text"}))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("first", ["Tell me, is it secret?", "Write about my secret garden, please"])
def test_what_may_be_a_prompt_is_not_shown_as_a_column(tmp_path, first):
    path = tmp_path / "log"
    path.write_text(first + "\nYes, it is.\n")
    with pytest.raises(LogError) as caught:
        format_of(Log(path), Choice())
    assert "secret" not in str(caught.value)


def test_formats_have_names_of_their_own_and_are_found_by_them():
    names = [form.name for form in FORMATS]
    assert len(set(names)) == len(names)
    assert all(by_name(form.name) is form for form in FORMATS)
    with pytest.raises(ValueError, match="expected one of"):
        by_name("nothing")


def test_columns_of_any_name(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("kunde;zeit;frage\nann;2026-03-02 09:00:00;A\nann;2026-03-02 09:00:05;A\n")
    choice = Choice(columns={"account_id": "kunde", "at": "zeit", "prompt": "frage"})
    job = Import(format_of(Log(path), choice), tmp_path, 1)
    job.read(Log(path), io.StringIO())
    tables = []
    job.write(type("Tables", (), {"add": lambda self, table: tables.append(table)})())
    assert [row["prompt"] for table in tables for row in table.to_pylist()] == ["A", "A"]
    assert tables[0].schema == SCHEMA


@pytest.mark.parametrize("name", ["accountId", "user_id", "Customer", "account"])
def test_columns_whose_name_means_the_same(tmp_path, name):
    rows, *_ = imported(tmp_path, lines([{name: 7, "timestamp": AT * 1000, "Prompt": "A"}]))
    assert prompts(rows) == [("7", "A", 0)]


def test_exact_copies_of_parts_count_once_and_of_plain_rows_each(tmp_path):
    parts = {"account_id": "a", "at": AT, "prompt": [{"type": "text", "text": "A"}]}
    assert len(imported(tmp_path, lines([parts, parts]))[0]) == 1
    assert len(imported(tmp_path, json.dumps([parts | {"prompt": "A"}] * 2, indent=1))[0]) == 2


def test_sample_of_nothing_is_no_format(tmp_path):
    path = tmp_path / "log"
    path.write_text("nothing of the kind\n")
    assert recognise(Log(path).sample) is None
    path.write_text("")
    assert format_of(Log(path), Choice()) is None


def test_the_example_of_the_readme_runs(tmp_path):
    readme = (ROOT / "serve" / "io" / "formats" / "README.md").read_text(encoding="utf-8")
    example, code = (re.search(f"```{kind}\n(.*?)```", readme, re.DOTALL)[1] for kind in ("json", "python"))
    module = {}
    exec(compile(code, "brook.py", "exec"), module)
    path = tmp_path / "brook.jsonl"
    path.write_text(json.dumps(json.loads(example)) + "\n", encoding="utf-8")
    form = module["FORMAT"]
    assert form.recognises(Log(path).sample) == 1.0
    (request,) = form.requests(Log(path))
    assert (request.account_id, request.session_id, request.at) == ("team-1", "c-9", 1772442060.0)
    assert [turn.text for turn in request.talk.turns] == ["Hello"]
    assert code.count("\n") < 60


@pytest.mark.parametrize(
    ("times", "line"),
    [
        (["1772442000000", "1772442060000"], "; 2 times in milliseconds as text"),
        (["2/3/2026 09:00", "28/2/2026 09:01"], "; 2 times with the day before the month"),
        (["soon", ""], "; 1 times that can't be read, left out"),
    ],
)
def test_how_the_times_of_a_table_were_read_is_said(tmp_path, times, line):
    path = tmp_path / "a.csv"
    path.write_text("user,text,ts\n" + "".join(f"a,prompt {at},{at}\n" for at in times), encoding="utf-8")
    job = Import(format_of(Log(path), Choice()), tmp_path, 100)
    job.read(Log(path), io.StringIO())
    assert job.reading.line().endswith(line)
