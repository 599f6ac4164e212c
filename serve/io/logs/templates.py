"""Templates: the messages inside a prompt that a chat template has filled, such as ChatML, Llama or `[INST]`."""

from __future__ import annotations

import itertools
import re

from serve.io.logs.requests import Talk
from serve.io.logs.talks import talk_of
from serve.sessions.prompt_text import MAX_READ_CHARS

_FAMILIES = tuple(
    re.compile(pattern)
    for pattern in (
        r"<\|im_start\|>(?P<role>\w{1,20})\n?|<\|im_end\|>\n?",
        r"<\|(?:start_header_id|header_start)\|>(?P<role>\w{1,20})<\|(?:end_header_id|header_end)\|>\s{0,2}"
        r"|<\|(?:eot_id|eot|eom_id|end_of_text|begin_of_text)\|>",
        r"<\|start\|>(?P<role>\w{1,20})(?:<\|channel\|>\w{1,20})?<\|message\|>|<\|(?:end|return|call)\|>",
        r"<[|｜](?:hy_)?(?P<role>(?i:user|assistant|system|observation|tool))[|｜]>\n?"
        r"|<[|｜](?:hy_)?(?:end|end▁of▁sentence|endoftext|begin▁of▁sentence|place▁holder▁no▁\d)[|｜]>\n?|</s>",
        r"<\|START_OF_TURN_TOKEN\|><\|(?P<role>USER|CHATBOT|SYSTEM)_TOKEN\|>|<\|END_OF_TURN_TOKEN\|>|<BOS_TOKEN>",
        r"<\|im_(?P<role>user|assistant|system)\|>[^<]{0,60}<\|im_middle\|>|<\|im_end\|>",
        r"<\|start_of_role\|>(?P<role>\w{1,20})(?:\{[^{}]{0,200}\})?<\|end_of_role\|>|<\|end_of_text\|>\n?",
        r"\]~b\](?P<role>\w{1,20})\n?|\[e~\[\n?|\]~!b\[",
        r"<seed:bos>(?P<role>\w{1,20})\n|<seed:eos>",
        r"\[\|(?P<role>user|assistant|system|tool)\|\]|\[\|endofturn\|\]\n?",
        r"<extra_id_[01]>(?P<role>User|Assistant|System|Tool)\n",
        r"<start_of_turn>(?P<role>\w{1,20})\n?|<end_of_turn>\n?",
        r"\[INST\](?P<role>)|\[/INST\]|</?s>",
        r"(?:(?<=\n\n)|^)(?P<role>Human|Assistant): ?",
    )
)
"""What separates messages, one pattern a family of templates; the group `role` names who speaks next."""

_TOOL_BLOCKS = (
    ("<tool_response>", "</tool_response>"),
    ("[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    ("<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"),
)
_MEDIA = re.compile(r"<\|(?:vision|image|video|audio|begin_of_image|end_of_image)\w{0,20}\|>", re.IGNORECASE)
"""Where pictures and sounds stood in a message."""

MAX_MESSAGES = 20_000
"""A text with more marks than this is no conversation."""

_LLAMA2_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)


def template_talk(prompt: str) -> Talk | None:
    """The talk in a filled template, None where the text is of no known one, or of far too many messages."""
    family = _family(prompt)
    marks = [] if family is None else list(itertools.islice(family.finditer(prompt), MAX_MESSAGES + 1))
    if not 0 < len(marks) <= MAX_MESSAGES:
        return None
    messages: list[dict[str, object]] = []
    role, start = "system", 0
    for mark in marks:
        _add(messages, role, prompt[start : mark.start()])
        role, start = _next_role(mark, role), mark.end()
    _add(messages, role, prompt[start:])
    return talk_of(messages)


def _family(prompt: str) -> re.Pattern[str] | None:
    """The pattern of the template whose first named speaker comes first."""
    places = [
        (mark.start(), index) for index, family in enumerate(_FAMILIES) if (mark := _first_speaker(family, prompt))
    ]
    return _FAMILIES[min(places)[1]] if places else None


def _first_speaker(family: re.Pattern[str], prompt: str) -> re.Match[str] | None:
    return next((mark for mark in family.finditer(prompt, 0, MAX_READ_CHARS) if mark["role"] is not None), None)


def _next_role(mark: re.Match[str], before: str) -> str:
    if mark["role"] is not None:
        return mark["role"].lower() or "user"
    if mark[0] == "[/INST]":
        return "assistant"
    return before if "begin" in mark[0] or mark[0] == "<s>" else "none"


def _add(messages: list[dict[str, object]], role: str, text: str) -> None:
    if not text.strip() or role == "none":
        return
    system = _LLAMA2_SYSTEM.match(text)
    if role == "user" and system:
        messages.append({"role": "system", "content": system[1].strip()})
        text = text[system.end() :]
    if role in ("user", "human"):
        text = _MEDIA.sub("", text)
        shorter = _without_tools(text)
        messages += [{"role": "tool"}] if shorter != text else []
        text = shorter
    if text.strip():
        messages.append({"role": role, "content": text.strip()})


def _without_tools(text: str) -> str:
    """A user's segment without the results of tools that travel in it."""
    for begin, end in _TOOL_BLOCKS:
        parts, place = list[str](), 0
        while (start := text.find(begin, place)) >= 0 and (stop := text.find(end, start)) >= 0:
            parts.append(text[place:start])
            place = stop + len(end)
        text = "".join([*parts, text[place:]])
    return text
