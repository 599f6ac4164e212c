"""A small world to learn from: people, products, campaigns and a benchmark, in words of the tiny capability map."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from serve.capability.capability_map import CapabilityMap
from serve.embedding.encoders import Encoder
from serve.model.refitting import ClassifierSettings
from train.config.settings import Settings, TrackingSettings
from train.corpora.loading import CorporaSettings
from train.corpora.pool import Pool, PromptRow, Source
from train.encoders.prompt_cache import PromptCache
from train.encoders.settings import EncoderSettings, EncoderSource
from train.evaluation.exam import ExamSettings
from train.learning.bundling import BundlingSettings
from train.learning.evidence import EvidenceSettings
from train.learning.model import ModelSettings, topics
from train.synthesis.compose import ComposeSettings
from train.taxonomy.areas import AreaSettings

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


AREAS = {
    "coding": {"title": "Coding", "skills": {
        "debugging": {"title": "Debugging", "examples": ["fix the bug in this python loop", "find the bug in my code"]},
        "katas": {"title": "Katas", "examples": ["write a python function that sorts a list", "sort a list"]},
    }},
    "cooking": {"title": "Cooking", "skills": {
        "baking": {"title": "Baking", "examples": ["bake a cake with lemon", "lemon cake recipe"]},
    }},
    "small_talk": {"title": "Small talk", "skills": {
        "weather": {"title": "Weather", "examples": ["nice weather today", "is it raining again"]},
    }},
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_settings(tmp_path_factory: pytest.TempPathFactory, static_folder: Path) -> Settings:
    """Settings of a whole run over the small world, as files, in about a second; nothing is tracked."""
    folder = tmp_path_factory.mktemp("corpora")
    own = [(source, prompts) for source, prompts in corpora() if not source.name.startswith("starter/")]
    for source, prompts in own:
        _write_corpus(folder / f"{source.name}.jsonl.gz", prompts)
    cards = [{**asdict(source), "licence": "Apache-2.0", "use": "train"} for source, _ in own]
    (folder / "CARDS.json").write_text(json.dumps(cards), encoding="utf-8")
    (folder / "areas.yaml").write_text(yaml.safe_dump(AREAS, sort_keys=False), encoding="utf-8")
    return Settings(
        name="tiny",
        corpora=CorporaSettings(dir=str(folder), starter=False),
        encoder=EncoderSettings(EncoderSource.folder, str(static_folder)),
        capabilities=AreaSettings(str(folder / "areas.yaml"), n_cells=3, floor=0.4),
        compose=ComposeSettings(max_exchanges=12),
        evidence=EvidenceSettings(n_parts=2, n_columns=8, n_hidden=16, n_passes=20, rate=0.02, n_sample=400),
        classifier=ClassifierSettings(n_rounds=12, min_data_in_leaf=10, n_threads=1),
        model=ModelSettings(n_sessions=240, n_calibration=160, n_inner_folds=2, n_accounts=60),
        exam=ExamSettings(n_harvesting=8, n_organic=16, n_evaluation=4, lengths=(10,), n_bootstrap=0),
        bundling=BundlingSettings(fpr=0.05),
        tracking=TrackingSettings(enabled=False),
    )


def _write_corpus(path: Path, prompts: Sequence[PromptRow]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for row in prompts:
            line = {"text": row.text, "conversation_id": row.conversation, "turn": row.turn, "user_id": row.person}
            file.write(json.dumps(line) + "\n")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, so that `mlruns/` is the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with all its tables, which take seconds to make, and nothing in them."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(workplace: Path, empty_store: Path) -> Path:
    """A workplace with an MLflow store."""
    (workplace / "mlruns").mkdir()
    shutil.copy(empty_store, workplace / "mlruns" / "mlflow.db")
    return workplace
