"""Prompt refit: a prompt scorer that knows a provider's own prompts, and those of campaigns that it has confirmed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serve.adaptation.provider_rows import CrossBundles, account_hashes, is_first_part, is_learned
from serve.bundle.bundle import Bundle
from serve.embedding.encoders import read_unique
from serve.features.prompt_scorer import PromptInputs
from serve.features.prompt_training import HARVEST, ORGANIC, DenseExamples, TrainingSettings, retrain
from serve.scoring.scorer import CHUNK_PROMPTS
from serve.sessions.normalization import canonical_sessions
from serve.sessions.records import Sessions
from serve.sessions.sessionizing import Timeline

OWN_SHARE = 0.5
"""Share of the organic weight that the provider's own prompts have where the scorer is trained."""

CONFIRMED_SHARE = 0.4
"""Share of the harvesting weight that confirmed campaigns' prompts have."""

SETTINGS = TrainingSettings(n_passes=4, max_draws=60_000, n_batch=512, rate=1e-3)
"""How the scorer's layers are trained on."""

_MAX_OF_ACCOUNT = 200  # prompts of one account that are learned from, from all over its life


@dataclass(frozen=True)
class OwnPrompts:
    """A provider's distinct prompts as the hidden layer reads them, by account (hash)."""

    dense: NDArray[np.int8]
    length: NDArray[np.int64]
    account: NDArray[np.uint64]

    def examples(self, chosen: NDArray[np.bool_], kind: int, total: float) -> DenseExamples | None:
        """The chosen ones with a weight of `total` together, each account with the root of its number of prompts."""
        if not chosen.any() or total <= 0.0:
            return None
        _, inverse, counts = np.unique(self.account[chosen], return_inverse=True, return_counts=True)
        weight = 1.0 / np.sqrt(counts[inverse])
        n = int(chosen.sum())
        return DenseExamples(self.dense[chosen], self.length[chosen], np.full(n, kind), weight * (total / weight.sum()))


def own_prompts(timeline: Timeline, bundle: Bundle) -> OwnPrompts:
    """The prompts of some sessions, at most `_MAX_OF_ACCOUNT` of an account and chunk."""
    parts = [_read(part, bundle) for part in timeline.chunks(CHUNK_PROMPTS)]
    return OwnPrompts(*(np.concatenate([part[column] for part in parts]) for column in range(3)))


def _read(sessions: Sessions, bundle: Bundle) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.uint64]]:
    texts = canonical_sessions(sessions.prompts, sessions.offsets)
    account = np.repeat(account_hashes(sessions), sessions.n_exchanges)
    chosen = _spread(account)
    encoded, rows = read_unique(bundle.encoder, [texts[row] for row in chosen.tolist()])
    inputs = PromptInputs.of(encoded)
    return bundle.prompt_scorer.dense(inputs)[rows], inputs.length[rows], account[chosen]


def _spread(account: NDArray[np.uint64]) -> NDArray[np.int64]:
    """At most `_MAX_OF_ACCOUNT` rows of each account, evenly from all over."""
    order = np.argsort(account, kind="stable")
    _, counts = np.unique(account, return_counts=True)
    ends = np.cumsum(counts)
    picks = [
        np.linspace(end - n, end - 1, min(n, _MAX_OF_ACCOUNT)).astype(np.int64)
        for end, n in zip(ends.tolist(), counts.tolist(), strict=True)
    ]
    return np.sort(order[np.concatenate(picks)])


def refit_scorers(benign: Timeline, harvesting: Timeline | None, bundle: Bundle) -> CrossBundles:
    """The bundle with the scorer trained on with the accounts that are learned from, and with either half of them."""
    sample = bundle.prompt_sample()
    own = own_prompts(benign, bundle)
    confirmed = own_prompts(harvesting, bundle) if harvesting is not None else None
    learned, first = is_learned(own.account), is_first_part(own.account)

    def trained(of_own: NDArray[np.bool_], of_confirmed: NDArray[np.bool_] | None) -> Bundle:
        examples = _beside(sample, own, of_own, confirmed, of_confirmed)
        return replace(bundle, prompt_scorer=retrain(bundle.prompt_scorer, examples, SETTINGS, seed=0))

    if confirmed is None:
        return CrossBundles(trained(learned, None), (trained(learned & ~first, None), trained(learned & first, None)))
    part = is_first_part(confirmed.account)
    return CrossBundles(
        trained(learned, np.ones_like(part)), (trained(learned & ~first, ~part), trained(learned & first, part))
    )


def _beside(
    sample: DenseExamples, own: OwnPrompts, of_own: NDArray[np.bool_], confirmed: OwnPrompts | None,
    of_confirmed: NDArray[np.bool_] | None,
) -> DenseExamples:  # fmt: skip
    """The stored sample with the provider's prompts beside it, each with its share of the weight."""
    harvest = sample.kind == HARVEST
    weight = sample.weight.copy()
    total = {True: weight[harvest].sum(), False: weight[~harvest].sum()}
    parts = [own.examples(of_own, ORGANIC, OWN_SHARE * total[False])]
    if parts[0] is not None:
        weight[~harvest] *= 1.0 - OWN_SHARE
    if confirmed is not None and of_confirmed is not None:
        parts.append(confirmed.examples(of_confirmed, HARVEST, CONFIRMED_SHARE * total[True]))
        if parts[-1] is not None:
            weight[harvest] *= 1.0 - CONFIRMED_SHARE
    given = [DenseExamples(sample.dense, sample.length, sample.kind, weight), *(part for part in parts if part)]
    return DenseExamples(
        np.concatenate([part.dense for part in given]), np.concatenate([part.length for part in given]),
        np.concatenate([part.kind for part in given]), np.concatenate([part.weight for part in given]),
    )  # fmt: skip
