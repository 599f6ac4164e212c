"""Wrapper detection: the first prompts of a growing session, until its wrapper is known; then only marks of it.

A wrapper is told from the first `N_OPENING` texts (see surface), and those are then read again without it. So that long
they have to be held, and they are held sealed; with the last of them they are dropped, and what stays of the wrapper is
lengths and keyed digests, by which it is found on later prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from serve.live.sealing import Seal
from serve.sessions.normalization import N_OPENING, Wrapper, wrapper


@dataclass(frozen=True, slots=True)
class WrapperMark:
    """A text by its length in characters and a keyed digest; of no characters where there is none."""

    n_chars: int = 0
    digest: bytes = b""

    @classmethod
    def of(cls, text: str, seal: Seal) -> Self:
        """The mark of a text."""
        return cls(len(text), seal.digest(text)) if text else cls()

    def opens(self, text: str, seal: Seal) -> bool:
        """Whether `text` begins with what was marked."""
        return 0 < self.n_chars <= len(text) and seal.digest(text[: self.n_chars]) == self.digest

    def closes(self, text: str, seal: Seal) -> bool:
        """Whether `text` ends with what was marked."""
        return 0 < self.n_chars <= len(text) and seal.digest(text[-self.n_chars :]) == self.digest


@dataclass(frozen=True, slots=True)
class WrapperDetector:
    """Sealed canonical texts of the first prompts, fewer than `N_OPENING`; marks of the wrapper once it is known."""

    sealed: tuple[bytes, ...] = ()
    head: WrapperMark = WrapperMark()
    tail: WrapperMark = WrapperMark()

    def strip(self, text: str, seal: Seal) -> str:
        """The canonical text without the wrapper, as `Wrapper.strip` gives it."""
        bare = text[self.head.n_chars :] if self.head.opens(text, seal) else text
        bare = bare[: -self.tail.n_chars] if self.tail.closes(bare, seal) else bare
        return bare.strip() or text

    def with_text(self, text: str, seal: Seal) -> WrapperDetector:
        """The opening after one more of the first texts that isn't yet the last of them."""
        return replace(self, sealed=(*self.sealed, seal.close(text.encode())))

    def completed(self, text: str, seal: Seal) -> tuple[WrapperDetector, tuple[str, ...]]:
        """The opening after the last of the first texts, which holds none any more; and all of them without wrapper.

        Raises:
            SealError: when what was held can't be opened.
        """
        texts = [*(seal.open(sealed).decode() for sealed in self.sealed), text]
        around: Wrapper = wrapper(texts)
        opening = WrapperDetector(head=WrapperMark.of(around.head, seal), tail=WrapperMark.of(around.tail, seal))
        return opening, tuple(map(around.strip, texts))


def is_last(n_before: int) -> bool:
    """Whether the prompt that follows so many completes the opening."""
    return n_before == N_OPENING - 1
