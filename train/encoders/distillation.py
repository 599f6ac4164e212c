"""Distillation: a static encoder whose token vectors are taught minilm's sentence vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from model2vec import StaticModel
from model2vec.distill import distill
from numpy.typing import NDArray

from serve.embedding.encoders import StaticEncoder, minilm, minilm_folder, window
from serve.sessions.canonical_text import canonical
from train.encoders.settings import DistillSettings


def distilled(texts: Sequence[str], settings: DistillSettings, folder: Path, *, seed: int) -> StaticEncoder:
    """Distil minilm (weights verified) into `folder`, and load it; the same texts and seed give the same bytes.

    Raises:
        ImportError: when the extra `train` is not installed.
        ValueError: when minilm's weights differ from the official ones.
    """
    teacher = minilm()
    sample = training_sample(texts, settings.n_texts, seed)
    targets = teacher.embed(sample) if sample else np.zeros((0, teacher.n_dims), np.float32)
    return taught(sample, targets, settings, folder, seed=seed)


def taught(
    sample: Sequence[str], targets: NDArray[np.float32], settings: DistillSettings, folder: Path, *, seed: int
) -> StaticEncoder:
    """Plain distillation, then gradient steps that bring mean token vectors to `targets` (n_texts, 384) of `sample`."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)  # without it, gradients of token vectors add up in any order
    student = distill(str(minilm_folder()), pca_dims=settings.n_dims, device="cpu")
    if len(sample):
        student = _regressed(student, [window(text) for text in sample], targets, settings, seed)
    folder.mkdir(parents=True, exist_ok=True)
    half = StaticModel(student.embedding.astype(np.float16), student.tokenizer, normalize=True)
    half.save_pretrained(folder)
    return StaticEncoder(folder)


def training_sample(texts: Sequence[str], n_texts: int, seed: int) -> tuple[str, ...]:
    """At most `n_texts` distinct canonical texts, drawn with the seed, whatever the order they come in."""
    distinct = np.array(sorted({canonical(text) for text in texts}), dtype=object)
    order = np.random.default_rng(seed).permutation(len(distinct))[:n_texts]
    return tuple(str(text) for text in distinct[np.sort(order)])


def _regressed(
    student: StaticModel, texts: list[str], targets: NDArray[np.float32], settings: DistillSettings, seed: int
) -> StaticModel:
    tokenizer = student.tokenizer
    tokenizer.no_truncation()
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    kept = [row for row, own in enumerate(ids) if own]
    bags = [torch.tensor(ids[row]) for row in kept]
    goal = torch.from_numpy(_projected(targets[kept], settings.n_dims))
    table = torch.nn.EmbeddingBag.from_pretrained(
        torch.from_numpy(np.array(student.embedding, np.float32)), freeze=False, mode="mean"
    )
    # The map from token space to the teacher's is learned first, and folded into the table: tokens are linear in it.
    align = torch.nn.Linear(table.embedding_dim, settings.n_dims, bias=False)
    with torch.no_grad():
        align.weight.copy_(_least_squares(table, bags, goal))
        table.weight.copy_(table.weight @ align.weight.T)
    _descend(table, bags, goal, settings, np.random.default_rng(seed))
    vectors = table.weight.detach().numpy()
    vectors = vectors / np.sqrt(np.square(vectors).sum(axis=1)).mean()
    return StaticModel(vectors.astype(np.float32), tokenizer, normalize=True)


def _least_squares(table: torch.nn.EmbeddingBag, bags: list[torch.Tensor], goal: torch.Tensor) -> torch.Tensor:
    means = torch.cat([_forward(table, bags[start : start + 2048]) for start in range(0, len(bags), 2048)])
    solution: torch.Tensor = torch.linalg.lstsq(torch.nn.functional.normalize(means), goal).solution
    return solution.T


def _descend(
    table: torch.nn.EmbeddingBag,
    bags: list[torch.Tensor],
    goal: torch.Tensor,
    settings: DistillSettings,
    rng: np.random.Generator,
) -> None:
    n_steps = settings.n_epochs * ((len(bags) + settings.n_batch - 1) // settings.n_batch)
    optimiser = torch.optim.Adam(table.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=max(1, n_steps))
    for _ in range(settings.n_epochs):
        order = rng.permutation(len(bags))
        for start in range(0, len(bags), settings.n_batch):
            batch = order[start : start + settings.n_batch]
            loss = _loss(_forward(table, [bags[i] for i in batch]), goal[batch], settings.pair_weight)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def _forward(table: torch.nn.EmbeddingBag, bags: list[torch.Tensor]) -> torch.Tensor:
    lengths = torch.tensor([0, *(len(bag) for bag in bags[:-1])])
    vectors: torch.Tensor = table(torch.cat(bags), torch.cumsum(lengths, 0))
    return vectors


def _loss(vectors: torch.Tensor, goal: torch.Tensor, pair_weight: float) -> torch.Tensor:
    """1 - cosine to the teacher's vector, plus the squared error of the cosines of all pairs in the batch."""
    unit, aim = torch.nn.functional.normalize(vectors), torch.nn.functional.normalize(goal)
    pointwise = 1.0 - (unit * aim).sum(1).mean()
    pairwise = ((unit @ unit.T - aim @ aim.T) ** 2).mean()
    return pointwise + pair_weight * pairwise * 10.0


def _projected(targets: NDArray[np.float32], n_dims: int) -> NDArray[np.float32]:
    """The targets on their `n_dims` leading principal directions (uncentred, so that cosines keep their meaning)."""
    if n_dims >= targets.shape[1]:
        return targets
    _, directions = np.linalg.eigh(targets.T.astype(np.float64) @ targets)
    return np.asarray(targets @ directions[:, -n_dims:], dtype=np.float32)
