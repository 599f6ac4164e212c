"""Channel: what a sender's software does to the surface of every prompt, drawn alike for all kinds of session."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

CASINGS = ("kept", "lower", "capitalised")
FINALS = ("kept", "dropped", "full stop")
BREAKS = ("kept", "spaces", "doubled")
PREFIXES = (
    "", "User: ", "Question: ", "Q: ", "Please help: ", "[INST] ", "### Instruction:\n", "Human: ", "Task: ", "Hi! ",
    "Hello, I have a request. ", "You are a helpful assistant. ", "Answer the following. ", "Respond in English. ",
    "[ticket] ", "Prompt: ", "> ", "Dear assistant, ", "Input:\n", "As always, be precise. ",
)  # fmt: skip

_BREAK = re.compile(r"\s*\n\s*")


@dataclass(frozen=True, slots=True)
class Channel:
    """One choice of casing, final punctuation, line breaks and a fixed prefix."""

    casing: str = "kept"
    final: str = "kept"
    breaks: str = "kept"
    prefix: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether texts come through unchanged."""
        return self == Channel()

    def apply(self, text: str) -> str:
        """The text as this channel sends it; never blank."""
        changed = text.lower() if self.casing == "lower" else text
        if self.casing == "capitalised":
            changed = text[:1].upper() + text[1:]
        if self.final != "kept":
            changed = changed.rstrip(" .!?") or changed
        if self.final == "full stop":
            changed += "."
        if self.breaks != "kept":
            changed = _BREAK.sub(" " if self.breaks == "spaces" else "\n\n", changed)
        return self.prefix + changed


def draw_channel(rng: np.random.Generator) -> Channel:
    """A random channel: each part is left as it is half the time, apart from the others."""
    draw = rng.random(4) < 0.5
    picks = rng.integers(1, [len(CASINGS), len(FINALS), len(BREAKS), len(PREFIXES)])
    casing, final, breaks, prefix = np.where(draw, picks, 0)
    return Channel(CASINGS[casing], FINALS[final], BREAKS[breaks], PREFIXES[prefix])
