"""Distilling: the same texts and seed give the same bytes, and the student comes nearer to its teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model2vec import StaticModel

from train.encoders.settings import DistillSettings

WORDS = ("fix", "bug", "python", "loop", "cake", "lemon", "weather", "soup", "sort", "list", "function", "recipe")
SETTINGS = DistillSettings(n_dims=64, n_epochs=6, n_batch=64)


@pytest.fixture
def lesson(static_folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], np.ndarray]:
    """Texts and the vectors a teacher gives them, which are sums of its own vectors of the words."""
    from train.encoders import distillation as module  # takes seconds: only in the worker that runs this file

    monkeypatch.setattr(module, "minilm_folder", lambda: static_folder)
    monkeypatch.setattr(module, "distill", lambda folder, **_: StaticModel.from_pretrained(folder))
    rng = np.random.default_rng(0)
    teacher = {word: rng.normal(size=96) for word in WORDS}
    texts = [" ".join(rng.choice(WORDS, size=int(rng.integers(2, 9)))) for _ in range(400)]
    vectors = np.array([sum(teacher[word] for word in text.split()) for text in texts])
    return texts, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def cosine_gap(folder: Path, texts: list[str], targets: np.ndarray) -> float:
    """Mean error of the cosines of all pairs of texts."""
    vectors = StaticModel.from_pretrained(str(folder)).encode(texts)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float(np.abs(vectors @ vectors.T - targets @ targets.T).mean())


def test_the_same_lesson_gives_the_same_bytes(lesson: tuple[list[str], np.ndarray], tmp_path: Path) -> None:
    from train.encoders.distillation import taught

    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        taught(lesson[0], lesson[1], SETTINGS, folder, seed=0)
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 1


def test_a_taught_student_is_nearer_to_its_teacher_than_an_untaught_one(
    lesson: tuple[list[str], np.ndarray], tmp_path: Path, static_folder: Path
) -> None:
    from train.encoders.distillation import taught

    taught(lesson[0], lesson[1], SETTINGS, tmp_path / "taught", seed=0)
    assert cosine_gap(tmp_path / "taught", *lesson) < 0.5 * cosine_gap(static_folder, *lesson)


def test_the_sample_depends_on_the_texts_and_not_on_their_order() -> None:
    from train.encoders.distillation import training_sample

    texts = [f"text number {n}" for n in range(50)]
    sample = training_sample(texts, 20, seed=1)
    assert sample == training_sample([*texts[::-1], texts[0].upper()], 20, seed=1)
    assert len(set(sample)) == 20
    assert sample != training_sample(texts, 20, seed=2)
