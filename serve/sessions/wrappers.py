"""Wrappers: what a coding tool or an agent's harness adds around the words of the person, and how to take it off."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

DROPPED = (
    "system-reminder", "environment_details", "environment_context", "user_instructions", "command-name",
    "command-message", "command-args", "task-notification", "turn_aborted", "ide_selection", "ide_opened_file",
    "ide_diagnostics", "user-prompt-submit-hook", "user_shell_command", "subagent_notification",
    "open_and_recently_viewed_files", "editorcontext", "reminderinstructions", "workspace_info", "environment_info",
)  # fmt: skip
"""Tags that go with what is inside; `local-command-*` and `bash-*` do, too."""

OPENED = ("task", "user_query", "user_message", "feedback", "userrequest")
"""Tags that go while their inside stays, because it holds the person's words."""

_TAG = re.compile(r"<(/?)([A-Za-z_-]{4,44}+)>")
_NAME = re.compile("|".join((*DROPPED, *OPENED, "local-command-[a-z-]{1,30}", "bash-[a-z-]{1,30}")))
_LONGEST_TAG = 47
_SLICE = 1 << 20
"""Characters that are searched at once; in between, other threads go on."""

_INTERRUPTED = re.compile(r"^[ \t]*\[request interrupted by user[^\]\n]{0,80}\][ \t]*$\n?", re.I | re.M | re.A)


def strip_wrappers(text: str) -> str:
    """The text without wrappers and without blanks around it; empty when it holds nothing else.

    A dropped tag ends at the first closing tag of its name; a tag that is never closed is the person's own and stays.
    One pass over the text, so the time is linear in its length. Stripping twice changes nothing more.
    """
    if "[R" in text or "[r" in text:
        text = _INTERRUPTED.sub("", text)
    if tags := list(_tags(text)):
        text = _joined([text[start:stop] for start, stop in _kept_ranges(text, tags)])
    return text.strip()


def may_be_wrapped(folded: str) -> bool:
    """Whether `strip_wrappers` may change this text, or one of which it is the lower case with single spaces."""
    return "[request interrupted by user" in folded or ("</" in folded and any(tag[1] for tag in _tags(folded)))


def _tags(text: str) -> Iterator[re.Match[str]]:
    """Tags of wrappers, in order."""
    if "<" not in text:
        return
    for start in range(0, len(text), _SLICE):
        stop = start + _SLICE
        for tag in _TAG.finditer(text, start, stop + _LONGEST_TAG):
            if tag.start() < stop and _NAME.fullmatch(tag[2].lower()):
                yield tag


def _kept_ranges(text: str, tags: list[re.Match[str]]) -> Iterator[tuple[int, int]]:
    """Bounds of the parts that stay, in order."""
    n_closing = Counter(tag[2].lower() for tag in tags if tag[1])
    opened: Counter[str] = Counter()
    inside, start = "", 0
    for tag in tags:
        name, closes = tag[2].lower(), bool(tag[1])
        n_closing[name] -= closes
        if inside:
            if closes and name == inside:
                inside, start = "", tag.end()
        elif opened[name] if closes else n_closing[name]:
            yield start, tag.start()
            start = tag.end()
            if name in OPENED:
                opened[name] += -1 if closes else 1
            else:
                inside = name
    yield start, len(text)


def _joined(parts: list[str]) -> str:
    """The parts one after another, with a space where two words would grow together."""
    joined: list[str] = []
    for part in filter(None, parts):
        if joined and not joined[-1][-1].isspace() and not part[0].isspace():
            joined.append(" ")
        joined.append(part)
    return "".join(joined)
