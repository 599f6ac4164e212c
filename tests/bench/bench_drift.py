"""Drift on composed traffic: alarms on fresh benign sessions, and sessions until an alarm when a fifth of them changes.

Learns a bundle without one product and without some people, then draws sessions of those people. Needs a folder of
corpora; prints a table.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace

import numpy as np

from serve.bundle.bundle import Bundle
from serve.model.benign_profile import LETTERS, BenignProfile
from serve.monitoring.drift import Drift, drift
from serve.monitoring.traffic import Reference, Traffic
from serve.scoring.scorer import Scorer
from serve.sessions.records import Sessions
from train.corpora.loading import load_pool
from train.experiments.run import bundled, compose
from train.inputs.prepared_inputs import prepare
from train.learning.bundling import BundlingSettings
from train.learning.model import topics
from train.learning.table import table
from train.synthesis.compose import Composer, ComposeSettings
from train.synthesis.composition import Composition

N_SESSIONS, CHANGED = 500, 0.2
STEPS = (100, 150, 200, 300, 400, 500)
WORDS = {
    "subject": ["mi hermana", "el vecino", "la profesora", "nuestro equipo", "un amigo de Sevilla", "la empresa"],
    "verb": ["quiere saber", "me preguntó", "necesita entender", "no recuerda", "busca", "pide que le expliquen"],
    "object": [
        "cómo se hace una tortilla de patatas", "por qué llueve tanto en otoño", "qué trámites hacen falta para viajar",
        "cuánto cuesta alquilar un piso en Bilbao", "la diferencia entre los dos contratos", "una receta sin gluten",
        "los horarios de los trenes a Zaragoza", "qué libro regalar a un niño de ocho años",
    ],
    "end": ["¿Me ayudas?", "Gracias.", "Sé breve, por favor.", "¿Qué le digo?", "Escríbelo con ejemplos.", ""],
}  # fmt: skip


def spanish(rng: np.random.Generator, n: int) -> list[str]:
    """Prompts in a language that was hardly seen."""
    return [" ".join(str(rng.choice(own)) for own in WORDS.values()).strip().capitalize() for _ in range(n)]


class World:
    """A bundle, and people and a product that it doesn't know."""

    def __init__(self, corpora: str, product: str, folder: str, seed: int) -> None:
        overrides = [
            "experiment=corpora", f"corpora.dir={corpora}", f"corpora.exclude=[{product}]", "encoder=released",
            "model=small", "model.n_calibration=4000", "corpora.starter_prompts=12000", "tracking.enabled=false",
            f"seed={seed}",
        ]  # fmt: skip
        settings = replace(compose(overrides), bundling=BundlingSettings(folder))
        made, base = bundled(settings), prepare(settings.inputs)
        self.pool, self.cache, self.timing = base.inputs.pool, base.cache, base.inputs.timing
        self.rows = base.inputs.fold.test
        self.evidence = replace(made.model.evidence, part_of=np.full_like(made.model.evidence.part_of, -1))
        self.topic = topics(self.pool, self.cache)
        self.scorer = Scorer(Bundle.load(made.folder))
        self.bundle = self.scorer.bundle
        known = [
            source.name for source in load_pool(replace(settings.corpora, exclude=(), starter=False), seed=0).sources
        ]
        other = replace(settings.corpora, exclude=tuple(set(known) - {product}), starter=False)
        self.product = load_pool(other, seed=0).texts

    @property
    def benign(self) -> BenignProfile:
        assert self.bundle.benign is not None
        return self.bundle.benign

    def fresh(self, seed: int, n: int = N_SESSIONS) -> Composition:
        composer = Composer(self.pool, self.rows, self.topic, self.timing, seed=10_000 + seed)
        drawn = composer.mixed(n, ComposeSettings(harvest_share=0.0))
        order = np.random.default_rng(seed).permutation(n)
        return Composition.joined([drawn.part(i, i + 1) for i in order.tolist()])

    def traffic(self, X: np.ndarray, n_exchanges: np.ndarray) -> Traffic:
        profiles = "".join(self.benign.profiles(X, n_exchanges)).encode()
        codes = np.frombuffer(profiles, np.uint8).reshape(len(X), -1).astype(np.int64) - ord(LETTERS[0])
        p_value = self.bundle.calibration.p_value(self.bundle.classifier.margins(X), n_exchanges)
        columns = [i for i, name in enumerate(self.bundle.manifest["features"]) if name.startswith("area.")]
        return Traffic(codes, n_exchanges, p_value, X[:, columns], float(len(X)))

    def rows_of(self, composition: Composition) -> tuple[np.ndarray, np.ndarray]:
        made = table(composition, self.pool, self.cache, self.evidence)
        return made.X, made.n_exchanges

    def changed(self, change: str, lengths: np.ndarray, seed: int) -> np.ndarray:
        """Feature rows of sessions of these lengths that are of another language, product or length of prompts."""
        rng = np.random.default_rng(seed)
        prompts: list[str] = []
        for n in lengths.tolist():
            if change == "language":
                prompts += spanish(rng, n)
            elif change == "product":
                start = int(rng.integers(max(1, len(self.product) - n)))
                prompts += self.product[start : start + n]
            else:
                rows = rng.choice(self.rows[self.pool.kinds[self.rows] == "person"], size=(n, 40))
                prompts += ["\n".join(self.pool.texts[row] for row in own) for own in rows.tolist()]
        names = tuple(f"s{i}" for i in range(len(lengths)))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        sessions = Sessions(names, names, offsets, tuple(prompts), np.full(len(prompts), np.nan))
        return self.scorer.judge(sessions).features

    def compared(self, traffic: Traffic) -> Drift:
        return drift(traffic, Reference.of_bundle(self.benign, traffic.n_exchanges), self.bundle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", help="folder of corpora")
    parser.add_argument("--product", default="taskmaster4_orders", help="the product that is left out")
    parser.add_argument("--seed", type=int, default=0, help="of the split into people")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world = World(options.corpora, options.product, folder, options.seed)
        quiet = 0
        parts = [world.rows_of(world.fresh(seed)) for seed in range(options.seeds)]
        for seed, (X, n) in enumerate(parts):
            found = world.compared(world.traffic(X, n))
            quiet += not found.alarms
            most = found.features[0]
            print(
                f"fresh {seed:2d}  most {most.name} {most.psi:.3f} of {most.limit:.3f}, "
                f"areas {found.area_mix.psi:.3f}, "
                f"scores {found.scores.psi:.3f}, fpr {found.fpr_flagged:.4f} estimated {found.fpr_estimated:.4f} "
                f"usual {found.fpr_expected:.4f}  {'; '.join(found.alarms[:4])}"
            )
        print(f"no alarm in {quiet} of {options.seeds} seeds of {N_SESSIONS} fresh benign sessions\n")
        for change in ("language", "product", "length"):
            firsts = []
            for seed, (X, n) in enumerate(parts[:5]):
                rng = np.random.default_rng(seed)
                chosen = rng.random(len(X)) < CHANGED
                mixed = X.copy()
                mixed[chosen] = world.changed(change, n[chosen], seed)
                alarms = [k for k in STEPS if world.compared(world.traffic(mixed[:k], n[:k])).alarms]
                firsts.append(alarms[0] if alarms else None)
            found = world.compared(world.traffic(mixed, n))
            moved = ", ".join(f"{moved.name} {moved.psi:.2f}" for moved in found.features[:3])
            area = f"{found.areas[0].name} {found.areas[0].before:.2f} to {found.areas[0].now:.2f}"
            print(f"{change:9s} a fifth changed: alarm after {firsts} sessions; moved most: {moved}; area {area}")


if __name__ == "__main__":
    main()
