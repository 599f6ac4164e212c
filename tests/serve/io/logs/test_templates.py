from __future__ import annotations

import pytest

from serve.io.logs.templates import MAX_MESSAGES, template_talk

PROMPTS = {
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nX<|im_end|>\n"
    "<|im_start|>user\nB </s> b<|im_end|>\n<|im_start|>assistant\n",
    "llama 3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nX<|eot_id|><|start_header_id|>"
    "user<|end_header_id|>\n\nB </s> b<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "deepseek": "<｜begin▁of▁sentence｜>S<｜User｜>A<｜Assistant｜>X<｜end▁of▁sentence｜>"
    "<｜User｜>B </ s> b<｜Assistant｜>",
    "inst": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nA [/INST] X </s><s>[INST] B < /s> b [/INST]",
    "gemma": "<bos><start_of_turn>user\nA<end_of_turn>\n<start_of_turn>model\nX<end_of_turn>\n<start_of_turn>user\n"
    "B </s> b<end_of_turn>\n<start_of_turn>model\n",
    "harmony": "<|start|>system<|message|>S<|end|><|start|>user<|message|>A<|end|><|start|>assistant<|channel|>final"
    "<|message|>X<|end|><|start|>user<|message|>B </s> b<|end|><|start|>assistant",
    "phi": "<|system|>\nS<|end|>\n<|user|>\nA<|end|>\n<|assistant|>\nX<|end|>\n"
    "<|user|>\nB </ s> b<|end|>\n<|assistant|>",
    "claude": "S\n\nHuman: A\n\nAssistant: X\n\nHuman: B </s> b\n\nAssistant:",
}


@pytest.mark.parametrize("name", PROMPTS)
def test_user_segments_are_the_turns(name):
    talk = template_talk(PROMPTS[name])
    assert talk is not None
    first, second = (turn.text for turn in talk.turns)
    assert (first, second.split()[0], second.split()[-1]) == ("A", "B", "b")
    assert talk.has_answers
    assert talk.system in ("S", "<bos>")


def test_tool_responses_in_a_user_segment_are_no_prompt():
    response = "<tool_response>\nnever\n</tool_response>"
    for text, expected in ((response, ()), (f"{response}\nmine", ("mine",))):
        talk = template_talk(f"<|im_start|>user\n{text}<|im_end|>\n")
        assert talk is not None
        assert tuple(turn.text for turn in talk.turns) == expected
        assert talk.has_answers
    talk = template_talk(f"<|im_start|>user\nmine<|im_end|>\n<|im_start|>user\n{response}<|im_end|>\n")
    assert talk is not None
    assert talk.ends_with_tool


def test_plain_text_is_no_template():
    assert template_talk("What does <s>struck</s> text mean?") is None
    assert template_talk("") is None


def test_many_openings_cost_one_pass():
    talk = template_talk("<|im_start|>user\n" + "<tool_response>" * 100_000)
    assert talk is not None
    assert len(talk.turns) == 1


@pytest.mark.parametrize("part", ["[INST] x [/INST]", "<|im_start|>user\nx<|im_end|>\n", "\n\nHuman: x\n\nAssistant:"])
def test_a_text_of_far_too_many_messages_is_no_conversation(part):
    talk = template_talk(part * (MAX_MESSAGES // 2))
    assert talk is not None
    assert len(talk.turns) == MAX_MESSAGES // 2
    assert template_talk(part * (MAX_MESSAGES // 2 + 1)) is None
