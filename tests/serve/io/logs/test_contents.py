from __future__ import annotations

import pytest

from serve.io.logs.contents import content_of, is_system_summary, words_of

URL = "data:image/png;base64,AJ42FI/ydb5+kj1RGiuDVUg=="


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": URL}], "a"),
        ([{"text": "converse"}, {"image": {"source": {"bytes": "AAAA"}}}], "converse"),
        ([{"type": "text", "content": "telemetry"}], "telemetry"),
        ([{"type": "text", "text": {"value": "assistant", "annotations": []}}], "assistant"),
        ([{"guardContent": {"text": {"text": "guarded"}}}], "guarded"),
        (["a", "b"], "a\nb"),
        ({"type": "text", "text": "one part"}, "one part"),
        ([{"type": "document", "source": {"data": "x"}}, {"type": "input_audio"}, {"type": "file"}], ""),
        (None, ""),
        (7, ""),
        ([None, 7, {"type": "text", "text": 5}], ""),
    ],
)
def test_texts_of_contents(value, text):
    assert content_of(value) == (text, False)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "tool_result", "tool_use_id": "t", "content": "never"},
        {"type": "tool_use", "name": "x"},
        {"type": "tool_call_response", "response": "never"},
        {"toolResult": {"content": [{"text": "never"}]}},
        {"functionResponse": {"response": "never"}},
    ],
)
def test_tools_are_no_text_but_text_beside_them_stays(part):
    assert content_of([part]) == ("", True)
    assert content_of([part, {"type": "text", "text": "mine"}]) == ("mine", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"See {URL} here", "See [image] here"),
        ("See data:application/pdf;name=a.pdf;base64,AAAA here", "See [file] here"),
        (URL, ""),
        ("<system-reminder>x</system-reminder>mine", "mine"),
        ("<task>mine</task>", "mine"),
        ("Why is <div class='a'> not centred?", "Why is <div class='a'> not centred?"),
        ("[image]", ""),
        ("a lone \ud800 surrogate", "a lone \ufffd surrogate"),
    ],
)
def test_words(text, words):
    assert words_of(text).text == words
    assert not words_of(text).is_summary


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<summary>all was fixed</summary>", ""),
        ("<conversation_summary>\nall\n</conversation_summary>\nNext?", "Next?"),
        ("This session is being continued from a previous conversation that ran out of context.", ""),
        ("<summary>never closed", ""),
    ],
)
def test_summaries_are_no_prompt(text, rest):
    assert words_of(text) == (rest, True)


def test_summary_inside_a_text_stays():
    assert words_of("Explain <details><summary>this</summary></details>") == (
        "Explain <details><summary>this</summary></details>",
        False,
    )


@pytest.mark.parametrize(
    ("text", "is_summary"),
    [
        ("Summary of the conversation so far: all done.", True),
        ("# Conversation summary\nall done", True),
        ("<summary>all done</summary>", True),
        ("Summary bot: write a summary of each text.", False),
        ("You are a helpful assistant that sums up conversations.", False),
    ],
)
def test_summaries_in_system_messages(text, is_summary):
    assert is_system_summary(text) is is_summary


def test_many_openings_cost_one_pass():
    for text in ("data:image/png;" * 20_000, "data:a/b" + ";a=b" * 50_000, "<summary>" * 50_000):
        words_of(text)
