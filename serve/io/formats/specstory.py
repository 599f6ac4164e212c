"""SpecStory: the Markdown file of one session of a coding tool."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serve.io.logs.bodies import outcome
from serve.io.logs.contents import words_of
from serve.io.logs.files import Log, Sample
from serve.io.logs.requests import HARNESS, NOT_USER, SUMMARIES, Format, Outcome, Skipped
from serve.io.logs.talks import one_turn
from serve.io.timestamps import seconds

_SPEAKER = re.compile(r"_\*\*(?P<who>[^*(]{1,80}?)\s*(?:\((?P<about>[^)]{0,120})\))?\*\*_\s*")
_SESSION = re.compile(r"<!--.{0,80}?[Ss]ession (?P<id>[\w./-]{4,100})")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T_]\d\d[:-]\d\d(?:[:-]\d\d(?:\.\d+)?)?\s?(?:Z|[+-]\d\d:?\d\d)?")


def _recognises(sample: Sample) -> float:
    has_speaker = re.search(r"^_\*\*User", sample.text, re.MULTILINE)
    return 1.0 if has_speaker and ("SpecStory" in sample.text or _SPEAKER.search(sample.text)) else 0.0


def _requests(log: Log) -> Iterator[Outcome]:
    session_id, begun_at = log.name, float("nan")
    for number, speaker, lines in _blocks(log.lines()):
        if speaker is None:
            head = "\n".join(lines[:40])
            found = _SESSION.search(head)
            session_id, begun_at = found["id"] if found else session_id, _time(head)
            continue
        own_at = _time(speaker["about"] or "")
        at = own_at if own_at == own_at else begun_at  # noqa: PLR0124 (NaN where it has no time)
        yield _parse(number, speaker, "\n".join(lines), session_id, at)


def _time(text: str) -> float:
    found = _TIME.search(text)
    return seconds(found[0].replace("_", " ")) if found else float("nan")


def _blocks(lines: Iterator[str]) -> Iterator[tuple[int, re.Match[str] | None, list[str]]]:
    """The head of the file, then each speaker's block: its line, who speaks, and the lines up to the rule."""
    begun, speaker, block = 1, None, list[str]()
    for number, line in enumerate(lines, 1):
        if found := _SPEAKER.fullmatch(line):
            yield begun, speaker, _trimmed(block)
            begun, speaker, block = number, found, []
        else:
            block.append(line)
    yield begun, speaker, _trimmed(block)


def _trimmed(lines: list[str]) -> list[str]:
    """Lines without the rule that ends a block."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines[:-1] if lines and lines[-1].strip() == "---" else lines


def _parse(line: int, speaker: re.Match[str], text: str, session_id: str, at: float) -> Outcome:
    if speaker["who"].lower() not in ("user", "human"):
        return Skipped(line, NOT_USER)
    words = words_of(text)
    if not words.text:
        return Skipped(line, SUMMARIES if words.is_summary else HARNESS)
    return outcome(line, one_turn(text), account_id=None, session_id=session_id, key=f"{session_id}/{line}", at=at)


FORMAT = Format("specstory", "SpecStory histories", _recognises, _requests)
