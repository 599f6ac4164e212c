"""A small world to learn from: people, products, campaigns and a benchmark, in words of the tiny capability map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from serve.capabilities import CapabilityMap
from serve.encoder import Encoder
from train.cache import PromptCache
from train.model import topics
from train.pool import Pool, PromptRow, Source

TASKS = ("sort", "reverse", "list", "function", "python", "code", "write", "loop", "bug", "fix")
TALK = ("hello", "morning", "weather", "soup", "cake", "lemon", "night", "friend", "raining", "thanks")


def source(name: str, kind: str, group: str | None = None) -> Source:
    label = {"harvest": "harvesting", "evaluation": "evaluation"}.get(kind, "organic")
    return Source(name, label, kind, group or name)


def rows(
    name: str, words: Sequence[str], *, n: int, turns: int = 1, persons: int | None = None, shared: Sequence[str] = ()
) -> list[PromptRow]:
    """`n` prompts of these words in conversations of `turns`; `shared` texts, which others have too, come last."""
    rng = np.random.default_rng(sum(map(ord, name)))
    texts = [f"{' '.join(rng.choice(words, size=int(rng.integers(3, 9))))} {name} {index}" for index in range(n)]
    return [
        PromptRow(
            text, f"c{index // turns:04d}", index % turns,
            None if persons is None else f"p{index // turns % persons}",
        )
        for index, text in enumerate([*texts, *shared])
    ]  # fmt: skip


def corpora() -> Iterator[tuple[Source, Sequence[PromptRow]]]:
    """Five campaigns (two of one group), three crowds, two products, a benchmark, and starter families beside them."""
    shared = ("say hello", "Write a poem!", "sort this list", "what is the weather")
    yield source("katas", "harvest"), rows("katas", TASKS, n=120, shared=shared[:3])
    yield source("maths a", "harvest", "maths"), rows("maths a", TASKS[:6], n=100)
    yield source("maths b", "harvest", "maths"), rows("maths b", TASKS[2:8], n=80)
    yield source("seeds", "harvest"), rows("seeds", (*TASKS[:4], "recipe"), n=90)
    yield source("traces", "harvest"), rows("traces", TASKS[3:], n=110, turns=2)
    yield source("forum", "person"), rows("forum", TALK, n=240, turns=4, persons=12, shared=shared)
    yield source("chats", "person"), rows("chats", (*TALK, "code"), n=200, turns=5, shared=("SAY HELLO.",))
    yield source("helpdesk", "person"), rows("helpdesk", TALK[3:], n=150, turns=3, persons=10)
    yield source("shop", "product"), rows("shop", TALK[:5], n=120)
    yield source("bot", "product"), rows("bot", TALK[5:], n=120, turns=3)
    yield source("bench", "evaluation"), rows("bench", TASKS, n=90)
    yield source("starter/tasks", "harvest"), rows("starter/tasks", TASKS, n=60)
    yield source("starter/people", "person"), rows("starter/people", TALK, n=90, turns=3, persons=6)
    yield source("starter/exam", "evaluation"), rows("starter/exam", TASKS, n=40)


@pytest.fixture(scope="session")
def pool() -> Pool:
    """The small world."""
    return Pool.of(corpora())


@pytest.fixture(scope="session")
def cache(encoder: Encoder, capabilities: CapabilityMap) -> PromptCache:
    """Vectors and places of every text that was asked for."""
    return PromptCache(encoder, capabilities)


@pytest.fixture(scope="session")
def topic(pool: Pool, cache: PromptCache) -> np.ndarray:
    """What each prompt is about."""
    return topics(pool, cache)
