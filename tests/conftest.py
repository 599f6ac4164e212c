"""Tiny, deterministic stand-ins for everything that is learned: no network, no training run, no clock."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from safetensors.numpy import save_file

from serve.bundle import files, manifest, trial, writing
from serve.bundle.bundle import Bundle
from serve.capability.breadth import CoverageNull
from serve.capability.capability_map import CapabilityMap, Skill
from serve.capability.coverage import CellCounts
from serve.embedding.encoders import Encoded, Encoder, StaticEncoder, quantise
from serve.features.prompt_scorer import HEADS, N_BUCKETS, N_LENGTHS, PromptInputs, PromptScorer
from serve.features.prompt_training import HARVEST, ORGANIC, DenseExamples, Examples
from serve.features.session_features import feature_names, feature_rows, n_judged, observe
from serve.model.benign_profile import BenignProfile
from serve.model.calibration import Calibration
from serve.model.classifier import Classifier
from serve.model.logistic_ensemble import LogisticEnsemble
from serve.model.trees import Trees
from serve.scoring.scorer import Scorer
from serve.sessions.normalization import canonical_sessions
from serve.sessions.records import Exchange, Session, Sessions
from serve.sessions.size_classes import ACCOUNT_EDGES, SIZE_EDGES, size_class

settings.register_profile(
    "stillwatch",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("stillwatch")

N_SKIPPED: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count skipped tests by reason."""
    if report.skipped and isinstance(report.longrepr, tuple):
        N_SKIPPED[report.longrepr[2].removeprefix("Skipped: ")] += 1


def pytest_unconfigure() -> None:
    """The last line of `make test`: what was skipped, and the command that brings it."""
    if N_SKIPPED and "CI" not in os.environ:
        print("not run:", "; ".join(f"{n} test{'s' * (n != 1)}: {reason}" for reason, n in sorted(N_SKIPPED.items())))


N_DIMS = 64

AREAS = {"coding": "Coding", "cooking": "Cooking", "small_talk": "Small talk"}
EXAMPLES = {
    (0, "debugging"): ("fix the bug in this python loop", "python loop never ends why", "find the bug in my code"),
    (0, "katas"): ("write a python function that sorts a list", "write code that reverses a list", "sort a list"),
    (1, "baking"): ("bake a cake with lemon", "how long to bake bread", "lemon cake recipe"),
    (1, "soups"): ("soup with leeks", "how to thicken a soup", "recipe of a leek soup"),
    (2, "greetings"): ("hello how are you", "good morning my friend", "thanks and good night"),
    (2, "weather"): ("nice weather today", "is it raining again", "what a cold morning"),
}
WORDS = tuple(sorted({word for texts in EXAMPLES.values() for text in texts for word in text.split()}))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--regenerate-golden` writes tests/golden/ anew from the released bundle instead of comparing."""
    parser.addoption("--regenerate-golden", action="store_true", help="write tests/golden/ from the released bundle")


class HashingEncoder:
    """Each word's hash draws a vector; a text is the sum of its words', whatever their order."""

    name = "hashing"
    n_dims = N_DIMS

    def __init__(self) -> None:
        self._words: dict[str, tuple[int, NDArray[np.int64]]] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.int8]:
        return self.read(texts).vectors

    def read(self, texts: Sequence[str]) -> Encoded:
        words = [[self._word(word) for word in text.split()] for text in texts]
        sums = [sum((vector for _, vector in own), np.zeros(N_DIMS, np.int64)) for own in words]
        vectors = quantise(np.array(sums, dtype=np.float64).reshape(len(texts), N_DIMS))
        bounds = np.cumsum([0, *map(len, words)], dtype=np.int64)
        return Encoded(vectors, np.array([token for own in words for token, _ in own], np.int32), bounds)

    def _word(self, word: str) -> tuple[int, NDArray[np.int64]]:
        if word not in self._words:
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
            vector = np.rint(np.random.default_rng(seed).normal(size=N_DIMS) * 1000).astype(np.int64)
            self._words[word] = seed % 30_000, vector
        return self._words[word]


def map_of(encoder: Encoder) -> CapabilityMap:
    """Three areas of two skills of three examples, in three cells an area."""
    skills = tuple(Skill(name, name.title(), area) for area, name in EXAMPLES)
    texts = [text for own in EXAMPLES.values() for text in own]
    owners = np.repeat(np.arange(len(EXAMPLES), dtype=np.int16), [len(own) for own in EXAMPLES.values()])
    return CapabilityMap.build(AREAS, skills, encoder.encode(texts), owners, n_cells=3, floor=0.4, seed=0)


def prompt_scorer_of(encoder: Encoder, n_columns: int = 8, n_hidden: int = 16) -> PromptScorer:
    """A network of random weights, whose log-odds spread over a few units."""
    rng = np.random.default_rng(1)
    n_inputs = n_columns + encoder.n_dims
    return PromptScorer(
        table=rng.integers(-127, 128, (N_BUCKETS, n_columns)).astype(np.int8),
        table_scale=0.3,
        hidden=rng.integers(-127, 128, (n_hidden, n_inputs)).astype(np.int8),
        length=rng.integers(-5000, 5000, (N_LENGTHS, n_hidden)).astype(np.int32),
        hidden_scale=np.full(n_hidden, 1.0 / (70 * 30 * np.sqrt(n_inputs))),
        output=rng.integers(-1000, 1001, (n_hidden, len(HEADS))).astype(np.int32),
        output_scale=1e-3,
        intercepts=np.linspace(-0.1, 0.1, len(HEADS)),
    )


def prompt_sample_of(sessions: Sessions, encoder: Encoder, scorer: PromptScorer) -> DenseExamples:
    """The prompts of some sessions to train a scorer on with, every third session a harvesting one."""
    inputs = PromptInputs.of(encoder.read(canonical_sessions(sessions.prompts, sessions.offsets)))
    owner = np.repeat(np.arange(len(sessions)), sessions.n_exchanges)
    kind = np.where(owner % 3 == 0, HARVEST, ORGANIC)
    return DenseExamples.of(Examples(inputs, kind, np.ones(len(kind))), scorer)


def draw_sessions(n_sessions: int, *, seed: int, sizes: Sequence[int] = (1, 2, 3, 5, 8, 13, 21)) -> tuple[Session, ...]:
    """Sessions of random words; every third one sends examples of one area only, every other one has times."""
    rng = np.random.default_rng(seed)
    sessions = []
    for index in range(n_sessions):
        n = int(rng.choice(sizes)) if index >= len(sizes) else sizes[index]
        exchanges = []
        for turn in range(n):
            prompt = " ".join(rng.choice(WORDS, size=int(rng.integers(2, 12))))
            if index % 3 == 0:
                own = [text for (area, _), texts in EXAMPLES.items() if area == 0 for text in texts]
                prompt = f"{rng.choice(own)} {rng.integers(100)}"
            exchanges.append(Exchange(prompt, at=1_767_225_600.0 + 40.0 * turn if index % 2 else None))
        sessions.append(Session(f"s{index:03d}", f"a{index // 2:03d}", tuple(exchanges)))
    return tuple(sessions)


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """An encoder that needs no file."""
    return HashingEncoder()


@pytest.fixture(scope="session")
def capabilities(encoder: Encoder) -> CapabilityMap:
    """A tiny map."""
    return map_of(encoder)


@pytest.fixture(scope="session")
def prompt_scorer(encoder: Encoder) -> PromptScorer:
    """A network that reads the tiny encoder's vectors."""
    return prompt_scorer_of(encoder)


@pytest.fixture(scope="session")
def sessions() -> tuple[Session, ...]:
    """Thirty tiny sessions, the first seven of which have 1, 2, 3, 5, 8, 13 and 21 exchanges."""
    return draw_sessions(30, seed=0)


@pytest.fixture(scope="session")
def example_texts() -> tuple[tuple[int, str], ...]:
    """Area and text of each example of the tiny map, in the order of its anchors."""
    return tuple((area, text) for (area, _), own in EXAMPLES.items() for text in own)


@pytest.fixture(scope="session")
def static_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model2vec folder that knows the words of the tiny sessions."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ("[UNK]", *WORDS)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(3).normal(size=(len(words), N_DIMS)).astype(np.float16)
    folder = tmp_path_factory.mktemp("encoder") / "static"
    StaticModel(vectors, tokenizer, normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Bundles that tests make are loaded without a trial in another process; tests of trials start one themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("serve.bundle.trial.is_proved", lambda digest: True)
        yield


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory, static_folder: Path) -> Path:
    """A whole bundle of less than a megabyte, learned from random sessions in a moment. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(static_folder, folder / files.STATIC)
    write_bundle(folder)
    trial.note(manifest.verify(folder)["manifest_sha256"])
    return folder


def write_bundle(folder: Path) -> None:
    """Learn from sessions of which every third is `harvesting`, and write what `Bundle.load` reads."""
    encoder = StaticEncoder(folder / files.STATIC)
    capabilities = map_of(encoder)
    scorer = prompt_scorer_of(encoder)
    names = feature_names(capabilities.areas)
    columns = Sessions.of(draw_sessions(240, seed=7))
    observed = observe(columns, encoder, capabilities, scorer)
    rows = feature_rows(observed, capabilities)
    y = (np.arange(len(rows)) % 3 == 0).astype(np.int64)
    quiet = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "min_data_in_leaf": 5}
    judged = rows[:, : n_judged(capabilities.areas)]
    booster = lightgbm.train(quiet, lightgbm.Dataset(judged, y), num_boost_round=20)
    booster.save_model(folder / files.CLASSIFIER)
    classifier = Classifier(Trees.of(booster), experts_of(judged, y))
    save_file(classifier.experts.arrays(), folder / files.EXPERTS)
    writing.write_capabilities(capabilities, folder)
    margins = classifier.margins(rows[y == 0])
    calibration = calibration_of(margins, columns.n_exchanges[y == 0])
    save_file(calibration.arrays(), folder / files.CALIBRATION)
    counts = CellCounts.of(observed.session_of, observed.assigned.cell.astype(np.int64), len(columns))
    null = CoverageNull.fit(counts, capabilities.cell_areas, len(capabilities.areas))
    p_values = calibration.p_value(margins, columns.n_exchanges[y == 0])
    benign = BenignProfile.fit(rows[y == 0], names, p_values, columns.n_exchanges[y == 0], null)
    save_file({name: np.ascontiguousarray(array) for name, array in benign.arrays().items()}, folder / files.BENIGN)
    quantiles = np.quantile(rows[y == 0], (0.05, 0.95), axis=0).T
    writing.write_prompt_scorer(scorer, prompt_sample_of(columns, encoder, scorer), folder)
    writing.write_reference(np.repeat(quantiles[None], len(SIZE_EDGES), axis=0), folder)
    pq.write_table(pa.table(dict(zip(names, rows.T, strict=True))), folder / files.FEATURES)
    entries = {"encoder": "static", "features": list(names), "fpr": 0.05, "data": {}, "metrics": {}}
    manifest.write_manifest(folder, entries)


def experts_of(rows: np.ndarray, y: np.ndarray) -> LogisticEnsemble:
    """One expert that weighs each feature by how far its means lie apart."""
    knots = np.ascontiguousarray(np.quantile(rows, np.linspace(0.0, 1.0, 9), axis=0).T)
    scores = np.repeat(np.linspace(-2.0, 2.0, 9)[None], len(knots), axis=0)
    blank = LogisticEnsemble(knots, scores, np.zeros((1, len(knots))), np.zeros(1), 0.5)
    Z = blank.normal_scores(rows)
    return replace(blank, weights=(Z[y == 1].mean(axis=0) - Z[y == 0].mean(axis=0))[None] / len(knots))


def calibration_of(margins: NDArray[np.float64], n_exchanges: NDArray[np.int64]) -> Calibration:
    """Benign margins by size class."""
    classes = size_class(n_exchanges)
    parts = [np.sort(margins[classes == index]) for index in range(len(SIZE_EDGES))]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Calibration(1.0, 0.0, np.concatenate(parts), offsets)


@pytest.fixture(scope="session")
def tiny_scorer(bundle_folder: Path) -> Scorer:
    """A scorer with the tiny bundle."""
    return Scorer(Bundle.load(bundle_folder))


@pytest.fixture(scope="session")
def account_scorer(tiny_scorer: Scorer) -> Scorer:
    """The tiny scorer with benign accounts enough of every size to judge accounts as a whole."""
    margins, sizes = np.tile(np.linspace(-4.0, 4.0, 200), len(ACCOUNT_EDGES)), np.repeat(ACCOUNT_EDGES, 200)
    benign = Calibration.of_margins(1.0, 0.0, margins, sizes, ACCOUNT_EDGES)
    return Scorer(replace(tiny_scorer.bundle, accounts=benign))


@pytest.fixture
def copied_bundle(bundle_folder: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes fresh copies of the tiny bundle, to be damaged."""
    made: list[Path] = []

    def copy() -> Path:
        made.append(tmp_path / f"copy-{len(made)}")
        return Path(shutil.copytree(bundle_folder, made[-1]))

    return copy


@pytest.fixture(scope="session")
def released_scorer() -> Scorer:
    """A scorer with the bundle that the package ships."""
    if not (files.RELEASED / files.MANIFEST).is_file():
        pytest.skip(f"there is no released bundle at {files.RELEASED} yet")
    return Scorer(Bundle.load(files.RELEASED))
