"""Word pieces: BERT's greedy cutting of plain ASCII words, which costs less here than a call of the tokenizer."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_N_KEY = 3
_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class WordPieces:
    """A vocabulary of WordPiece (Schuster & Nakajima 2012): of a word the longest known beginning is a token, then the
    longest known beginning of what is left, with `prefix` before it; a word that can't be cut so is `unknown`."""

    vocabulary: Mapping[str, int]
    prefix: str
    unknown: tuple[int, ...]
    max_chars: int
    first: Mapping[str, int]
    next: Mapping[str, int]
    words: re.Pattern[str]
    plain: re.Pattern[str]

    @classmethod
    def of(cls, tokenizer: Tokenizer, left_out: int | None) -> Self:
        """The vocabulary of a BERT tokenizer, without the token `left_out`."""
        model = tokenizer.model
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)
        unknown, prefix = vocabulary[model.unk_token], model.continuing_subword_prefix
        added = tokenizer.get_added_tokens_decoder().values()  # a tokenizer looks for these before it cuts words
        refused = {name[:1].lower() for name in (model.unk_token, *(token.content for token in added))}
        signs = "".join(sign for sign in string.punctuation if sign not in refused)
        letters = "".join(sign for sign in _LETTERS if sign not in refused)
        return cls(
            vocabulary=vocabulary,
            prefix=prefix,
            unknown=() if unknown == left_out else (unknown,),
            max_chars=model.max_input_chars_per_word,
            first=_reach(vocabulary),
            next=_reach([name[len(prefix) :] for name in vocabulary if name.startswith(prefix)]),
            words=re.compile(f"[{letters}]+|[{re.escape(signs)}]"),
            plain=re.compile(f"[{letters}{re.escape(signs)}]+"),
        )

    def ids(self, piece: str) -> tuple[int, ...] | None:
        """Tokens of a piece of text without blanks; None where it is long or has other characters than plain ones."""
        if len(piece) > self.max_chars or not self.plain.fullmatch(piece):
            return None
        found: list[int] = []
        for word in self.words.findall(piece):
            found += (token,) if (token := self.vocabulary.get(word)) is not None else self._of_word(word)
        return tuple(found)

    def _of_word(self, word: str) -> tuple[int, ...]:
        vocabulary: Mapping[str, int] = self.vocabulary
        found: list[int] = []
        start, head, reach = 0, "", self.first
        while start < len(word):
            longest = reach.get(word[start : start + _N_KEY], _N_KEY - 1)
            for end in range(min(len(word), start + longest), start, -1):
                if (token := vocabulary.get(head + word[start:end])) is not None:
                    found.append(token)
                    start, head, reach = end, self.prefix, self.next
                    break
            else:
                return self.unknown
        return tuple(found)


def _reach(names: Iterable[str]) -> dict[str, int]:
    """The length of the longest name with these first signs."""
    found: dict[str, int] = {}
    for name in names:
        if found.get(key := name[:_N_KEY], 0) < len(name):
            found[key] = len(name)
    return found
