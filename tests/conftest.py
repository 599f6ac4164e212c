"""Tiny, deterministic stand-ins for everything that is learned: no network, no training run, no clock."""

from __future__ import annotations

import hashlib
import shutil
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

from serve.bundle import bundle as bundles
from serve.bundle import trial
from serve.bundle.bundle import Bundle
from serve.capability.breadth import CoverageNull
from serve.capability.capability_map import CapabilityMap, Skill
from serve.capability.coverage import CellCounts
from serve.embedding.encoders import Encoder, StaticEncoder, quantise
from serve.features.prompt_scorer import HEADS, N_LENGTHS, Evidence
from serve.features.session_features import feature_names, feature_rows, n_judged, observe, place
from serve.model.benign_profile import BenignProfile
from serve.model.calibration import Calibration
from serve.model.classifier import Classifier
from serve.model.logistic_ensemble import LogisticEnsemble
from serve.model.ridge import Moments, moment
from serve.scoring.scorer import Scorer
from serve.sessions.records import Exchange, Session, Sessions
from serve.sessions.size_classes import SIZE_EDGES, size_class

settings.register_profile(
    "stillwatch",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("stillwatch")

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
        self._words: dict[str, NDArray[np.int64]] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.int8]:
        sums = [sum((self._word(word) for word in text.split()), np.zeros(N_DIMS, np.int64)) for text in texts]
        return quantise(np.array(sums, dtype=np.float64).reshape(len(texts), N_DIMS))

    def _word(self, word: str) -> NDArray[np.int64]:
        if word not in self._words:
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
            self._words[word] = np.rint(np.random.default_rng(seed).normal(size=N_DIMS) * 1000).astype(np.int64)
        return self._words[word]


def map_of(encoder: Encoder) -> CapabilityMap:
    """Three areas of two skills of three examples, in three cells an area."""
    skills = tuple(Skill(name, name.title(), area) for area, name in EXAMPLES)
    texts = [text for own in EXAMPLES.values() for text in own]
    owners = np.repeat(np.arange(len(EXAMPLES), dtype=np.int16), [len(own) for own in EXAMPLES.values()])
    return CapabilityMap.build(AREAS, skills, encoder.encode(texts), owners, n_cells=3, floor=0.4, seed=0)


def evidence_of(encoder: Encoder, capabilities: CapabilityMap) -> Evidence:
    """Heads of small random weights."""
    vocabulary = ("a", "python", "the", "0", "?", "cake")
    n_inputs = encoder.n_dims + len(capabilities.cells) + N_LENGTHS + len(vocabulary)
    weights = np.random.default_rng(1).integers(-1000, 1000, size=(n_inputs, len(HEADS))).astype(np.int32)
    return Evidence(vocabulary, weights, np.full(len(HEADS), 2e-6), np.linspace(-0.1, 0.1, len(HEADS)))


def moments_of(sessions: Sessions, encoder: Encoder, capabilities: CapabilityMap, evidence: Evidence) -> Moments:
    """Moments of the prompts of some sessions, every third session a harvesting one."""
    inputs = place(sessions, encoder, capabilities, evidence.vocabulary).inputs
    scales = np.full(len(evidence.weights), 0.05)
    owner = np.repeat(np.arange(len(sessions)), sessions.n_exchanges)
    parts = [moment(inputs.rows(owner % 3 == third), scales).astype(np.float64) for third in range(3)]
    second = sum(parts, np.zeros_like(parts[0])) / 3
    goals = np.stack([(parts[0] - parts[1] - parts[2])[:, -1] / 3] * len(HEADS), axis=1)
    return Moments(evidence.vocabulary, scales, second, goals, 0.05)


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
def evidence(encoder: Encoder, capabilities: CapabilityMap) -> Evidence:
    """Heads that fit the tiny map."""
    return evidence_of(encoder, capabilities)


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
    """A whole bundle of a few kilobytes, learned from random sessions in a moment. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(static_folder, folder / bundles.STATIC)
    write_bundle(folder)
    trial.note(bundles.verify(folder)["manifest_sha256"])
    return folder


def write_bundle(folder: Path) -> None:
    """Learn from sessions of which every third is `harvesting`, and write what `Bundle.load` reads."""
    encoder = StaticEncoder(folder / bundles.STATIC)
    capabilities = map_of(encoder)
    evidence = evidence_of(encoder, capabilities)
    names = feature_names(capabilities.areas)
    columns = Sessions.of(draw_sessions(240, seed=7))
    observed = observe(columns, encoder, capabilities, evidence)
    rows = feature_rows(observed, capabilities)
    y = (np.arange(len(rows)) % 3 == 0).astype(np.int64)
    quiet = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "min_data_in_leaf": 5}
    judged = rows[:, : n_judged(capabilities.areas)]
    booster = lightgbm.train(quiet, lightgbm.Dataset(judged, y), num_boost_round=20)
    booster.save_model(folder / bundles.CLASSIFIER)
    classifier = Classifier(booster, experts_of(judged, y))
    save_file(classifier.experts.arrays(), folder / bundles.EXPERTS)
    bundles.write_capabilities(capabilities, folder)
    margins = classifier.margins(rows[y == 0])
    calibration = calibration_of(margins, columns.n_exchanges[y == 0])
    save_file(calibration.arrays(), folder / bundles.CALIBRATION)
    counts = CellCounts.of(observed.session_of, observed.assigned.cell.astype(np.int64), len(columns))
    null = CoverageNull.fit(counts, capabilities.cell_areas, len(capabilities.areas))
    p_values = calibration.p_value(margins, columns.n_exchanges[y == 0])
    benign = BenignProfile.fit(rows[y == 0], names, p_values, columns.n_exchanges[y == 0], null)
    save_file({name: np.ascontiguousarray(array) for name, array in benign.arrays().items()}, folder / bundles.BENIGN)
    quantiles = np.quantile(rows[y == 0], (0.05, 0.95), axis=0).T
    moments = moments_of(columns, encoder, capabilities, evidence)
    bundles.write_evidence(evidence, moments, np.repeat(quantiles[None], len(SIZE_EDGES), axis=0), folder)
    pq.write_table(pa.table(dict(zip(names, rows.T, strict=True))), folder / bundles.FEATURES)
    entries = {"encoder": "static", "features": list(names), "fpr": 0.05, "data": {}, "metrics": {}}
    bundles.write_manifest(folder, entries)


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
    if not (bundles.RELEASED / bundles.MANIFEST).is_file():
        pytest.skip(f"there is no released bundle at {bundles.RELEASED} yet")
    return Scorer(Bundle.load(bundles.RELEASED))
