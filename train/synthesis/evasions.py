"""Evasions: what a campaign can do to hide, as steps that compose, each with its price.

A step takes the sessions that a campaign sends and gives those that it sends instead. What is asked for stays the same:
every harvested prompt is still sent once, changed or not. Steps never need a model; paraphrasing by an LLM is stood in
for by a table of synonyms and priced as one call a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from serve.bundle.bundle import Bundle
from serve.embedding.encoders import encode_unique
from serve.sessions.canonical_text import canonical


@dataclass(frozen=True, slots=True)
class Sent:
    """One prompt as sent: when, and whether it is harvested or only there to hide the others."""

    prompt: str
    at: float
    is_harvested: bool = True


Sending = tuple[Sent, ...]
"""The prompts of one session, in order."""


@dataclass(frozen=True)
class Scene:
    """What steps may draw on: benign sessions to hide in, the map that topics are told by, and chance."""

    cover: tuple[Sending, ...]
    bundle: Bundle
    rng: np.random.Generator


Step = Callable[[tuple[Sending, ...], Scene], tuple[Sending, ...]]


@dataclass(frozen=True)
class Evasion:
    """Steps taken one after the other; `calls` are calls of an LLM for each harvested prompt."""

    name: str
    steps: tuple[Step, ...] = ()
    calls: float = 0.0

    def __add__(self, other: Evasion) -> Evasion:
        """Both, this one first; its calls are added to the other's."""
        return Evasion(f"{self.name}, {other.name}", (*self.steps, *other.steps), self.calls + other.calls)

    def apply(self, sessions: tuple[Sending, ...], scene: Scene) -> tuple[Sending, ...]:
        """What is sent instead of these sessions."""
        for step in self.steps:
            sessions = step(sessions, scene)
        return sessions


def dilute(share: float) -> Step:
    """Hide each session in benign traffic, of which `share` of it then consists, at random places."""

    def one(session: Sending, scene: Scene) -> Sending:
        n_cover = round(len(session) * share / (1.0 - share))
        cover: list[Sent] = []
        while len(cover) < n_cover:
            drawn = scene.cover[int(scene.rng.integers(len(scene.cover)))]
            cover += [Sent(sent.prompt, sent.at, False) for sent in drawn]
        n = len(session) + n_cover
        is_own = np.zeros(n, dtype=bool)
        is_own[scene.rng.choice(n, size=len(session), replace=False)] = True
        own, other = iter(session), iter(cover)
        mixed = [next(own) if here else next(other) for here in is_own.tolist()]
        times = np.linspace(session[0].at, session[-1].at, n).tolist()
        return tuple(Sent(sent.prompt, at, sent.is_harvested) for sent, at in zip(mixed, times, strict=True))

    return lambda sessions, scene: tuple(one(session, scene) for session in sessions)


def split(k: int) -> Step:
    """Deal each session's prompts to k accounts."""
    return lambda sessions, scene: tuple(
        session[start::k] for session in sessions for start in range(k) if session[start::k]
    )


def narrow(sessions: tuple[Sending, ...], scene: Scene) -> tuple[Sending, ...]:
    """Deal all prompts anew, sorted by topic, so that each account asks about little; sizes stay."""
    everything = [sent for session in sessions for sent in session]
    vectors = encode_unique(scene.bundle.encoder, [canonical(sent.prompt) for sent in everything])
    placed = scene.bundle.capabilities.assign(vectors)
    order = np.lexsort((placed.cell, placed.skill, placed.area)).tolist()
    bounds = np.cumsum([0, *(len(session) for session in sessions)]).tolist()
    return tuple(
        tuple(
            Sent(everything[row].prompt, slot.at, everything[row].is_harvested)
            for row, slot in zip(order[low:high], session, strict=True)
        )
        for session, low, high in zip(sessions, bounds[:-1], bounds[1:], strict=True)
    )


def jitter(sessions: tuple[Sending, ...], scene: Scene) -> tuple[Sending, ...]:
    """Stretch every pause by a random factor."""

    def one(session: Sending) -> Sending:
        pauses = np.diff([sent.at for sent in session]) * np.exp(scene.rng.normal(0.0, 1.0, len(session) - 1))
        times = session[0].at + np.concatenate([[0.0], np.cumsum(pauses)])
        return tuple(Sent(s.prompt, at, s.is_harvested) for s, at in zip(session, times.tolist(), strict=True))

    return tuple(map(one, sessions))


def _texts(change: Callable[[str, int, np.random.Generator], str]) -> Step:
    """A step that changes each harvested text, given its place in the session."""

    def one(session: Sending, rng: np.random.Generator) -> Sending:
        return tuple(
            Sent(change(sent.prompt, place, rng), sent.at) if sent.is_harvested else sent
            for place, sent in enumerate(session)
        )

    return lambda sessions, scene: tuple(one(session, scene.rng) for session in sessions)


FIXED_PREFIX = "Answer this for me: "


def _surface(text: str, place: int, rng: np.random.Generator) -> str:
    return FIXED_PREFIX + (text.lower().rstrip(" .!?") or text)


surface = _texts(_surface)
"""Lower case, no final punctuation and a fixed prefix."""

_TEMPLATES = (
    "{}", "Could you help me with this? {}", "{} Thanks in advance!", "I need an answer to the following. {}",
    "Quick question: {}", "Here is what I'm stuck on: {}", "{} Please keep it short.", "So, {}", "Next one. {}",
    "For a project of mine: {}", "{} Explain it so that I understand it.", "I was wondering: {}",
)  # fmt: skip
rotate_templates = _texts(lambda text, place, rng: _TEMPLATES[int(rng.integers(len(_TEMPLATES)))].format(_bare(text)))
"""A template drawn for every prompt."""

_LANGUAGES = ("German", "French", "Spanish", "Italian", "Dutch", "Portuguese")
translate = _texts(
    lambda text, place, rng: f"Answer in {_LANGUAGES[int(rng.integers(len(_LANGUAGES)))]}, then in English: {text}"
)
"""A wish for the answer in another language around every prompt."""

_REASONS = (
    "my boss asked me to find out: ", "a friend of mine wants to know, ", "i have to hand this in tomorrow. ",
    "ok and what about this one: ", "sorry, one more: ", "my daughter has this for school: ", "hm, then tell me, ",
    "i tried it myself and got nowhere. ", "", "",
)  # fmt: skip
_SMALL_TALK = (
    "thanks, that helps", "hm ok", "can you say that again in simpler words?", "great, thank you so much!",
    "i'm not sure i get the second part", "ok let me think about that", "are you sure?", "haha nice", "wait, why?",
)  # fmt: skip


def converse(sessions: tuple[Sending, ...], scene: Scene) -> tuple[Sending, ...]:
    """Dress every prompt as a person's, greet first, and answer one in four with a word of small talk."""
    rng = scene.rng

    def one(session: Sending) -> Sending:
        said: list[Sent] = [Sent("hi! how are you today?", session[0].at - 20.0, False)]
        for sent in session:
            if not sent.is_harvested:
                said.append(sent)
                continue
            reason = _REASONS[int(rng.integers(len(_REASONS)))]
            said.append(Sent(reason + (sent.prompt if not reason else _bare(sent.prompt)), sent.at))
            if rng.random() < 0.25:
                said.append(Sent(_SMALL_TALK[int(rng.integers(len(_SMALL_TALK)))], sent.at + 5.0, False))
        return tuple(said)

    return tuple(map(one, sessions))


_SYNONYMS = {
    "write": ("compose", "draft", "put together"), "create": ("make", "build", "come up with"),
    "generate": ("produce", "come up with"), "explain": ("describe", "make clear", "go over"),
    "describe": ("tell me about", "outline"), "find": ("work out", "determine", "figure out"),
    "calculate": ("work out", "compute"), "compute": ("calculate", "work out"), "determine": ("find", "work out"),
    "give": ("show", "provide"), "provide": ("give", "show"), "list": ("name", "enumerate"), "identify": ("spot",),
    "following": ("below", "next"), "sentence": ("phrase", "line"), "function": ("routine", "method"),
    "program": ("script", "piece of code"), "number": ("figure", "count"), "numbers": ("figures", "values"),
    "total": ("overall", "whole"), "many": ("a lot of", "numerous"), "large": ("big",), "small": ("little",),
    "use": ("apply", "work with"), "using": ("with", "by means of"), "example": ("instance", "sample"),
    "examples": ("instances", "samples"), "answer": ("reply", "response"), "question": ("query", "problem"),
    "problem": ("task", "exercise"), "solve": ("work through", "do"), "choose": ("pick", "select"),
    "correct": ("right",), "best": ("most fitting", "top"), "how": ("in what way",), "each": ("every",),
    "make": ("build", "prepare"), "show": ("display", "present"), "list of": ("set of",), "text": ("passage",),
    "story": ("tale",), "article": ("piece",), "important": ("key", "crucial"), "different": ("various", "other"),
    "people": ("persons", "folks"), "person": ("individual",), "get": ("obtain", "fetch"), "buy": ("purchase",),
    "help": ("assist", "support"), "return": ("give back",), "string": ("text value",), "given": ("provided",),
    "implement": ("code up", "write"), "summarize": ("sum up", "shorten"), "rewrite": ("rephrase", "reword"),
    "classify": ("sort", "label"), "convert": ("turn", "change"), "compare": ("contrast",), "task": ("job",),
    "information": ("details", "facts"), "because": ("since",), "about": ("on", "regarding"), "also": ("too",),
    "need": ("want", "require"), "want": ("would like",), "please": ("kindly",), "should": ("ought to",),
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z]+")


def paraphrased(text: str, rng: np.random.Generator) -> str:
    """The text with four in five of the words that the table knows replaced, capitals kept."""

    def other(found: re.Match[str]) -> str:
        word = found.group()
        choices = _SYNONYMS.get(word.lower())
        if choices is None or rng.random() < 0.2:
            return word
        chosen = choices[int(rng.integers(len(choices)))]
        return chosen.capitalize() if word[0].isupper() else chosen

    return _WORD.sub(other, text)


paraphrase = _texts(lambda text, place, rng: paraphrased(text, rng))
"""Other words for what is asked."""


def typo(share: float) -> Step:
    """Swap, drop or double a letter in this share of words, and set the case of some at random."""
    return _texts(lambda text, place, rng: _WORD.sub(lambda found: _mistyped(found.group(), share, rng), text))


def _mistyped(word: str, share: float, rng: np.random.Generator) -> str:
    if len(word) < 3 or rng.random() >= share:
        return word
    place, kind = int(rng.integers(len(word) - 1)), int(rng.integers(4))
    head, pair, tail = word[:place], word[place : place + 2], word[place + 2 :]
    return (head + pair[::-1] + tail, head + pair[1] + tail, head + pair[0] + pair + tail, word.swapcase())[kind]


def _bare(text: str) -> str:
    """The text with its first letter small, unless the word is all capitals."""
    return text if len(text) < 2 or text[1].isupper() or text.startswith("I ") else text[0].lower() + text[1:]


EVASIONS: tuple[Evasion, ...] = (
    Evasion("nothing"),
    Evasion("surface", (surface,)),
    *(Evasion(f"dilution {share:.0%}", (dilute(share),)) for share in (0.25, 0.5, 0.75, 0.9, 0.95)),
    *(Evasion(f"split over {k}", (split(k),)) for k in (2, 5, 10)),
    Evasion("conversation", (converse,)),
    Evasion("templates", (rotate_templates,)),
    Evasion("paraphrase", (paraphrase,), calls=1.0),
    Evasion("typos 10%", (typo(0.1),)),
    Evasion("typos 30%", (typo(0.3),)),
    Evasion("translation", (translate,)),
    Evasion("one topic an account", (narrow,)),
    Evasion("jitter", (jitter,)),
)
"""Each step alone."""


def combined() -> tuple[Evasion, ...]:
    """Mixtures that a careful campaign would choose, cheap ones first."""
    by_name = {evasion.name: evasion for evasion in EVASIONS}
    cheap = by_name["templates"] + by_name["typos 10%"]
    dressed = by_name["paraphrase"] + by_name["conversation"]
    half, most = by_name["dilution 50%"], by_name["dilution 90%"]
    return (
        cheap, dressed, dressed + half, by_name["split over 5"] + half, dressed + by_name["split over 5"] + most,
        by_name["one topic an account"] + dressed + by_name["split over 5"] + most,
    )  # fmt: skip
