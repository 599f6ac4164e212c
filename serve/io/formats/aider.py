"""aider: the chat history of a coding tool, a Markdown file of several chats."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serve.io.log_files.files import Log, Sample
from serve.io.logs.bodies import outcome
from serve.io.logs.requests import HARNESS, Format, Outcome, Skipped
from serve.io.logs.talks import one_turn
from serve.io.timestamps import seconds

_CHAT = re.compile(r"# aider chat started at (?P<time>.{8,40}?)\s*")
_PROMPT = re.compile(r"####(?: (?P<text>.*))?")
_COMMAND = re.compile(r"[/!][\w-]*(?:\s|$)")


def _recognises(sample: Sample) -> float:
    return 1.0 if re.search(r"^# aider chat started at ", sample.text, re.MULTILINE) else 0.0


def _requests(log: Log) -> Iterator[Outcome]:
    session_id, at, n_chats = log.name, float("nan"), 0
    for number, block in _blocks(log.lines()):
        chat = _CHAT.fullmatch(block[0])
        if chat:
            n_chats += 1
            session_id, at = f"{log.name} {chat['time']} {n_chats}", seconds(chat["time"])
        else:
            text = "\n".join(block).strip()
            yield _parse(number, text, session_id, at)


def _blocks(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Headings of chats, and the texts of each run of prompt lines, with the line where it begins."""
    run: list[str] = []
    number = 0
    for number, line in enumerate(lines, 1):
        prompt = _PROMPT.fullmatch(line)
        if prompt:
            run.append((prompt["text"] or "").rstrip())
            continue
        if run:
            yield number - len(run), run
            run = []
        if _CHAT.fullmatch(line):
            yield number, [line]
    if run:
        yield number - len(run) + 1, run


def _parse(line: int, text: str, session_id: str, at: float) -> Outcome:
    if text in ("", "<blank>") or _COMMAND.match(text):
        return Skipped(line, HARNESS)
    return outcome(line, one_turn(text), account_id=None, session_id=session_id, key=f"{session_id}/{line}", at=at)


FORMAT = Format("aider_history", "aider chat histories", _recognises, _requests)
