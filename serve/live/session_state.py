"""Session state: what is stored of a growing session: vectors, evidence, counts and keyed digests, never text.

It holds all that a verdict needs, so that after k exchanges the feature row is that of the k exchanges together, to the
last bit. At most `geometry.MAX_PROMPTS` vectors are kept; beside them an exchange costs 16 bytes of digests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.capability.coverage import CellCounts
from serve.features import similarity as geometry
from serve.features.prompt_scorer import PromptInputs
from serve.features.session_features import SHORT_WORDS, Totals, assembled
from serve.features.similarity import MAX_PROMPTS, MAX_SCORED
from serve.live.incremental_similarity import IncrementalSimilarity
from serve.live.sealing import Seal
from serve.live.wrapper_detection import WrapperDetector, is_last
from serve.scoring.evidence import PromptScores
from serve.scoring.scorer import Judged
from serve.sessions.canonical_text import canonical, is_altered
from serve.sessions.normalization import N_OPENING, opening_words
from serve.sessions.records import Exchange

MAX_RECENT = 64


@dataclass(slots=True)
class SessionState:
    """A session so far.

    Of compared prompts (see `geometry.stride`): `vectors` (capacity, n_dims), log lengths `words` (capacity,),
    confidence and cosine `placed` (capacity, 2), NaN where unknown. Of scored ones: `evidence` (capacity, n_heads). Of
    all: `cells` (n_cells,) counts, `openings` and `texts` (capacity,) digests, sums. `is_partial` says that exchanges
    before these were lost; `recent` are digests of the last named requests.
    """

    session_id: str
    account_id: str
    base_id: str
    reading: str
    vectors: NDArray[np.int8]
    evidence: NDArray[np.float64]
    words: NDArray[np.float64]
    placed: NDArray[np.float64]
    cells: NDArray[np.uint16]
    openings: NDArray[np.uint64]
    texts: NDArray[np.uint64]
    opening: WrapperDetector = field(default_factory=WrapperDetector)
    nth: int = 1
    n: int = 0
    stride: int = 1
    started_at: float = math.nan
    ended_at: float = math.nan
    previous_at: float = math.nan
    confidence: float = 0.0
    cosine: float = 0.0
    n_short: int = 0
    n_same_opening: int = 0
    n_same_text: int = 0
    n_altered: int = 0
    is_partial: bool = False
    recent: tuple[str, ...] = ()
    columns: NDArray[np.float64] | None = None
    comparison: IncrementalSimilarity | None = None

    @classmethod
    def begun(cls, account_id: str, base_id: str, bundle: Bundle, *, nth: int = 1, is_partial: bool = False) -> Self:
        """A session without an exchange yet; the `nth` of its name is told apart as batches do."""
        n_dims, n_cells = bundle.capabilities.cells.shape[1], len(bundle.capabilities.cells)
        return cls(
            session_id=base_id if nth == 1 else f"{base_id}-{nth}",
            account_id=account_id,
            base_id=base_id,
            nth=nth,
            reading=reading_id(bundle),
            vectors=np.zeros((4, n_dims), np.int8),
            evidence=np.zeros((4, 3)),
            words=np.zeros(4),
            placed=np.zeros((4, 2)),
            cells=np.zeros(n_cells, np.uint16),
            openings=np.zeros(4, np.uint64),
            texts=np.zeros(4, np.uint64),
            is_partial=is_partial,
        )

    @property
    def n_compared(self) -> int:
        """Prompts whose vectors are kept."""
        return -(-self.n // self.stride)

    @property
    def scored_stride(self) -> int:
        """Steps between the prompts whose scores are kept; it divides `stride`."""
        return max(1, self.stride * MAX_PROMPTS // MAX_SCORED)

    @property
    def n_scored(self) -> int:
        """Prompts whose scores are kept."""
        return -(-self.n // self.scored_stride)

    @property
    def n_bytes(self) -> int:
        """About what this takes in memory."""
        arrays = (self.vectors, self.evidence, self.words, self.placed, self.cells, self.openings, self.texts)
        comparison = self.comparison
        compared = 0 if comparison is None else comparison.n_bytes
        compared += 100 * len(self.recent)
        return 1500 + sum(array.nbytes for array in arrays) + sum(map(len, self.opening.sealed)) + compared

    @property
    def is_complete(self) -> bool:
        """Whether everything is known of every prompt."""
        return not self.is_partial and self.stride == 1 and not np.isnan(self.placed[: self.n]).any()

    def remember(self, request: str) -> None:
        """Note a named request that was counted; the last `MAX_RECENT` are known."""
        self.recent = (*self.recent, request)[-MAX_RECENT:]

    def extend(self, exchanges: Sequence[Exchange], bundle: Bundle, seal: Seal) -> None:
        """More exchanges, in their order."""
        for place, exchange in enumerate(exchanges):
            if self.n >= N_OPENING:  # all that is left is read as it is, so together
                texts = tuple(self.opening.strip(canonical(own.prompt), seal) for own in exchanges[place:])
                self._read(texts, bundle, seal)
                break
            self._open(canonical(exchange.prompt), bundle, seal)
        self.n_altered += sum(is_altered(exchange.prompt) for exchange in exchanges)
        at = np.array([math.nan if exchange.at is None else exchange.at for exchange in exchanges])
        self.started_at = float(np.fmin.reduce(at, initial=self.started_at))
        self.ended_at = float(np.fmax.reduce(at, initial=self.ended_at))
        self.previous_at = float(at[-1])

    def _open(self, text: str, bundle: Bundle, seal: Seal) -> None:
        """One of the first exchanges, which decide the wrapper."""
        if is_last(self.n):
            self.opening, bare = self.opening.completed(text, seal)
            self._begin_again()
            self._read(bare, bundle, seal)
        else:
            self.opening = self.opening.with_text(text, seal)
            self._read((text,), bundle, seal)

    def judged(self, bundle: Bundle) -> tuple[Judged, NDArray[np.float64]]:
        """What a scorer judges: the session, and its feature row (1, n_features)."""
        kept = np.flatnonzero(self.cells)
        counts = CellCounts(np.zeros(len(kept), np.int64), kept, self.cells[kept].astype(np.int64), 1)
        sums = (self.confidence, self.cosine, self.n_short, self.n_same_opening, self.n_same_text)
        confidence, cosine, n_short, n_same_opening, n_same_text = (np.array([float(value)]) for value in sums)
        totals = Totals(
            np.array([self.n]), counts, confidence, cosine, n_short, n_same_opening, n_same_text
        )  # fmt: skip
        if self.columns is None:
            self.columns = self._compared()
        judged = Judged(
            (self.session_id,), (self.account_id,), np.array([self.started_at]), np.array([self.ended_at]),
            PromptScores.of_ranked(self.evidence[: self.n_scored, 0], self.scored_stride), totals,
        )  # fmt: skip
        return judged, assembled(totals, self.columns[None], bundle.capabilities)

    def _compared(self) -> NDArray[np.float64]:
        n = self.n_compared
        # A store may take `comparison` away at any moment, to save memory.
        comparison = self.comparison or IncrementalSimilarity.of(self.vectors[:n])
        while comparison.n < n:
            comparison.add(self.vectors[: comparison.n + 1])
        self.comparison = comparison
        return comparison.columns(self.vectors[:n], self.evidence[: self.n_scored], self.words[:n])

    def _begin_again(self) -> None:
        """Forget what was read, so that it can be read without its wrapper."""
        self.n, self.n_short, self.n_same_opening, self.n_same_text = 0, 0, 0, 0
        self.confidence, self.cosine = 0.0, 0.0
        self.cells[:] = 0
        self.comparison = self.columns = None

    def _read(self, texts: tuple[str, ...], bundle: Bundle, seal: Seal) -> None:
        encoded = bundle.encoder.read(texts)
        vectors = encoded.vectors
        assigned = bundle.capabilities.assign(vectors)
        evidence = bundle.prompt_scorer.of(PromptInputs.of(encoded))
        for row, text in enumerate(texts):
            cell, n_words = int(assigned.cell[row]), text.count(" ") + 1
            if cell >= 0:
                self.cells[cell] += 1
            self.n_short += n_words < SHORT_WORDS
            placed = np.array([assigned.confidence[row], assigned.cosine[row]])
            keys = (seal.number(opening_words(text)), seal.number(text))
            self._add(vectors[row], evidence[row], np.log1p(np.int64(n_words)), placed, keys)

    def absorb(self, other: SessionState) -> None:
        """All prompts of a session that is complete after these, as if they had been sent in this one."""
        self.cells += other.cells
        self.n_short += other.n_short
        for row in range(other.n):
            keys = (int(other.openings[row]), int(other.texts[row]))
            self._add(other.vectors[row], other.evidence[row], other.words[row], other.placed[row], keys)

    def _add(
        self, vector: NDArray[np.int8], evidence: NDArray[np.float64], words: np.float64, placed: NDArray[np.float64],
        keys: tuple[int, int],
    ) -> None:  # fmt: skip
        """One more prompt, but for what is only counted."""
        self._count(*keys)
        self.confidence += float(placed[0])
        self.cosine += float(placed[1])
        self._keep(vector, evidence, words, placed)
        self.n += 1

    def _count(self, opening: int, text: int) -> None:
        """Count what is shared with prompts before."""
        if self.n == len(self.texts):
            self.openings, self.texts = _doubled(self.openings), _doubled(self.texts)
        for keys, key in ((self.openings, opening), (self.texts, text)):
            keys[self.n] = key
            n_before = int(np.count_nonzero(keys[: self.n] == np.uint64(key)))
            n_more = 0 if n_before == 0 else 2 if n_before == 1 else 1  # the first to come again makes two
            if keys is self.openings:
                self.n_same_opening += n_more
            else:
                self.n_same_text += n_more

    def _keep(
        self, vector: NDArray[np.int8], evidence: NDArray[np.float64], words: np.float64, placed: NDArray[np.float64]
    ) -> None:
        """Keep what is compared, if this prompt is."""
        stride = int(geometry.stride(np.array([self.n + 1]))[0])
        if stride != self.stride:
            n_compared, n_scored, scored_stride = self.n_compared, self.n_scored, self.scored_stride
            self.stride, self.comparison, self.columns = stride, None, None
            _thin(self.vectors, n_compared)
            _thin(self.words, n_compared)
            _thin(self.placed, n_compared)
            if self.scored_stride != scored_stride:
                _thin(self.evidence, n_scored)
        if self.n % self.scored_stride == 0:
            place = self.n // self.scored_stride
            if place == len(self.evidence):
                self.evidence = _doubled(self.evidence)
            self.evidence[place] = evidence
            self.columns = None
        if self.n % stride:
            return
        place = self.n // stride
        if place == len(self.words):
            self.vectors, self.words = _doubled(self.vectors), _doubled(self.words)
            self.placed = _doubled(self.placed)
        self.vectors[place], self.words[place], self.placed[place] = vector, words, placed
        self.columns = None


def reading_id(bundle: Bundle) -> str:
    """What prompts are read with: two bundles of the same id read a prompt alike, whatever else they differ in."""
    files = bundle.manifest["files"]
    names = sorted(name for name in files if name.startswith(("static/", "capabilities", "prompt_scorer")))
    return "".join(str(files[name]["sha256"])[:8] for name in names)


def _thin(array: NDArray[Any], n: int) -> None:
    """Move every second of the first n rows to the front."""
    thinned = array[:n:2].copy()
    array[: len(thinned)] = thinned


def _doubled(array: NDArray[Any]) -> NDArray[Any]:
    """The array with as much room again, up to what a compared array may need."""
    return np.concatenate([array, np.zeros_like(array)])
