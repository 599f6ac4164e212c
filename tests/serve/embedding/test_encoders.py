"""Vectors: exact, one text's own, and close where texts mean the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model2vec import StaticModel
from numpy.typing import NDArray

from serve.embedding.encoders import (
    HEAD_CHARS,
    MINILM_SHA256,
    SCALE,
    TAIL_CHARS,
    Encoded,
    Encoder,
    SentenceEncoder,
    StaticEncoder,
    encode_unique,
    quantise,
    read_unique,
    window,
)
from tests.conftest import WORDS


@pytest.fixture(scope="module")
def static(static_folder: Path) -> StaticEncoder:
    return StaticEncoder(static_folder)


@given(st.integers(0, 1000), st.sampled_from([64, 256, 384]), st.floats(1e-6, 1e6))
def test_quantised_rows_have_length_scale_and_keep_their_direction(seed: int, n_dims: int, size: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(3, n_dims)) * size
    quantised = quantise(rows).astype(np.float64)
    norms = np.linalg.norm(quantised, axis=1)
    assert norms == pytest.approx(SCALE, rel=0.01)
    assert (quantised * rows).sum(axis=1) / (norms * np.linalg.norm(rows, axis=1)) == pytest.approx(1.0, abs=1e-3)


def test_quantise_rounds_by_hand() -> None:
    rows = np.array([[2.0, 1.0, -2.0, 4.0] * 4, [0.0] * 16])
    # The row's norm is 10, so entries become 25.4 times themselves.
    assert quantise(rows).tolist() == [[51, 25, -51, 102] * 4, [0] * 16]


def test_quantise_doesnt_depend_on_length_or_type() -> None:
    rows = np.random.default_rng(0).integers(-900, 900, size=(5, 64))
    assert (quantise(rows) == quantise(rows * 7)).all()
    assert (quantise(rows) == quantise(rows.astype(np.float64) / 3)).all()


def test_quantise_never_wraps_around() -> None:
    assert quantise(np.array([[5.0, 0.0], [-5.0, 0.0]])).tolist() == [[127, 0], [-127, 0]]


def test_products_of_the_widest_vectors_are_exact_in_float32_in_any_order() -> None:
    rng = np.random.default_rng(0)
    vectors = quantise(rng.normal(size=(40, 1024)))
    exact = vectors.astype(np.int64) @ vectors.astype(np.int64).T
    order = rng.permutation(1024)
    shuffled = vectors[:, order].astype(np.float32)
    assert (vectors.astype(np.float32) @ vectors.astype(np.float32).T == exact).all()
    assert (shuffled @ shuffled.T == exact).all()


@pytest.mark.parametrize("n", [1, HEAD_CHARS, HEAD_CHARS + TAIL_CHARS])
def test_a_text_within_the_window_is_encoded_whole(n: int) -> None:
    assert window("x" * n) == "x" * n


def test_of_a_long_text_head_and_tail_are_encoded() -> None:
    text = "h" * HEAD_CHARS + "m" * 5000 + "t" * TAIL_CHARS
    assert window(text) == "h" * HEAD_CHARS + " " + "t" * TAIL_CHARS


def test_the_middle_of_a_long_text_changes_nothing_its_ends_do(static: StaticEncoder) -> None:
    head, tail = "python loop " * 64, " lemon cake bread" * 20
    plain, other, ended = static.encode(
        [f"{head}{middle}{tail}" for middle in ("soup " * 900, "rain " * 900)] + [f"{head}{'soup ' * 900}"]
    )
    assert (plain == other).all()
    assert (plain != ended).any()


class Counting:
    """Counts the texts that reach the encoder."""

    name, n_dims = "counting", 4

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.int8]:
        return self.read(texts).vectors

    def read(self, texts: Sequence[str]) -> Encoded:
        self.seen += texts
        vectors = np.array([[len(text)] * 4 for text in texts], dtype=np.int8).reshape(-1, 4)
        return Encoded(vectors, np.zeros(0, np.int32), np.zeros(len(texts) + 1, np.int64))


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=9))
def test_duplicates_are_encoded_once_and_come_back_in_place(texts: list[str]) -> None:
    counting = Counting()
    assert encode_unique(counting, texts)[:, 0].tolist() == [len(text) for text in texts]
    assert sorted(counting.seen) == sorted(set(texts))


def test_a_static_vector_is_the_mean_of_its_token_vectors(static: StaticEncoder, static_folder: Path) -> None:
    words = ("bread", "cake", "loop", "soup")
    model = StaticModel.from_pretrained(str(static_folder))
    ids = [model.tokenizer.token_to_id(word) for word in words]
    expected = quantise(model.embedding[ids].astype(np.float64).mean(axis=0)[None])[0]
    assert np.abs(static.encode([" ".join(words)])[0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("text", ["", "   ", "xyzzy qwx", "👩‍👩‍👧", "שלום"])
def test_a_text_without_any_known_token_is_the_zero_vector(static: StaticEncoder, text: str) -> None:
    assert not static.encode([text, "bread"])[0].any()


def test_unknown_words_add_nothing(static: StaticEncoder) -> None:
    plain, noisy = static.encode(["bread cake", "bread xyzzy cake qwx"])
    assert (plain == noisy).all()


def test_a_static_vector_is_the_same_alone_in_any_batch_and_on_reload(
    static: StaticEncoder, static_folder: Path
) -> None:
    texts = ["bread cake", "", "python loop bug", "rain " * 500, "bread cake"] * 7
    alone = np.concatenate([static.encode([text]) for text in texts])
    for n_batch in (1, 3, 4096):
        assert (static.encode(texts, n_batch=n_batch) == alone).all()
    assert (StaticEncoder(static_folder).encode(texts[::-1])[::-1] == alone).all()


def test_a_static_vector_is_the_same_in_another_process(static: StaticEncoder, static_folder: Path) -> None:
    code = (
        "import sys, pathlib; from serve.embedding.encoders import StaticEncoder; "
        "print(StaticEncoder(pathlib.Path(sys.argv[1])).encode(['python loop bug']).tolist())"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, str(static_folder)], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(static.encode(["python loop bug"]).tolist())


def test_the_tokens_that_are_read_are_those_that_vectors_are_made_from(
    static: StaticEncoder, static_folder: Path
) -> None:
    texts = ["bread cake", "", "python loop bug", "soup " * 500, "xyzzy", "cake xyzzy bread"] * 3
    found = static.read(texts)
    assert np.array_equal(found.vectors, static.encode(texts))
    assert np.diff(found.bounds).tolist() == [2, 0, 3, 204, 0, 2] * 3  # the window cuts words at its edges
    model = StaticModel.from_pretrained(str(static_folder))
    for row, text in enumerate(texts):
        own = found.tokens[found.bounds[row] : found.bounds[row + 1]]
        known = [word for word in window(text).split() if word in WORDS]
        assert own.tolist() == [model.tokenizer.token_to_id(word) for word in known]
        sums = np.rint(np.asarray(model.embedding)[own].astype(np.float64) * 4096.0).sum(axis=0)
        assert np.array_equal(quantise(sums[None])[0], found.vectors[row])


def test_tokens_are_the_same_alone_and_in_any_batch(static: StaticEncoder) -> None:
    texts = ["bread cake", "", "python loop bug", "soup " * 500, "bread cake"] * 7
    whole = static.read(texts)
    for n_batch in (1, 3, 4096):
        found = static.read(texts, n_batch=n_batch)
        assert np.array_equal(found.tokens, whole.tokens)
        assert np.array_equal(found.bounds, whole.bounds)
    alone = [static.read([text]).tokens for text in texts]
    assert np.array_equal(np.concatenate(alone), whole.tokens)


def test_each_distinct_text_is_read_once(static: StaticEncoder) -> None:
    texts = ["bread cake", "rain", "bread cake", "", "rain"]
    found, rows = read_unique(static, texts)
    assert rows.tolist() == [0, 1, 0, 2, 1]
    assert np.array_equal(found.vectors[rows], static.encode(texts))
    assert np.array_equal(encode_unique(static, texts), static.encode(texts))


def test_no_text_gives_no_rows(static: StaticEncoder, encoder: Encoder) -> None:
    assert static.encode([]).shape == (0, static.n_dims)
    assert encoder.encode([]).shape == (0, encoder.n_dims)


@pytest.mark.parametrize("content", ["empty", "no model", "broken model"])
def test_a_folder_that_is_no_static_encoder_is_refused(tmp_path: Path, static_folder: Path, content: str) -> None:
    folder = tmp_path / "static"
    if content == "empty":
        folder.mkdir()
    else:
        shutil.copytree(static_folder, folder)
        (folder / "model.safetensors").unlink()
    if content == "broken model":
        (folder / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ValueError, match="is not a static encoder"):
        StaticEncoder(folder)


def test_a_folder_that_is_not_there_is_never_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not there, expected the folder of a static encoder"):
        StaticEncoder(tmp_path / "minishlab" / "potion-base-8M")


def test_sentence_weights_are_verified_before_they_are_parsed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no model\.safetensors"):
        SentenceEncoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"evil")
    with pytest.raises(ValueError, match=f"has sha256 [0-9a-f]{{64}}, expected {MINILM_SHA256}"):
        SentenceEncoder(tmp_path, sha256=MINILM_SHA256)
