from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.features import whole_accounts as module
from serve.features.session_features import Evidenced, feature_rows, observe
from serve.features.whole_accounts import WholeAccounts
from serve.scoring.scorer import Scorer
from serve.sessions.records import Exchange, Session, Sessions

SIZES = ((7,), (3, 12), (1, 1, 1), (20,), (9, 9, 9))
OWNER = np.repeat(np.arange(len(SIZES)), [len(own) for own in SIZES])


@pytest.fixture(scope="module")
def bundle(tiny_scorer: Scorer) -> Bundle:
    return tiny_scorer.bundle


@pytest.fixture(scope="module")
def observed(bundle: Bundle) -> Evidenced:
    rng = np.random.default_rng(0)
    words = np.array(["sort", "list", "reverse", "bake", "bread", "lemon", "why", "how", "compute", "sum"])
    sessions = [
        Session(f"s{index}", "a", tuple(Exchange(" ".join(rng.choice(words, 6))) for _ in range(size)))
        for index, size in enumerate(size for own in SIZES for size in own)
    ]
    return observe(Sessions.of(sessions), bundle.encoder, bundle.capabilities, bundle.prompt_scorer)


def gathered(observed: Evidenced, bundle: Bundle, cuts: Sequence[int], *, own_rows: bool = True) -> NDArray[np.float64]:
    """Rows of accounts whose sessions come in parts that end at `cuts`."""
    whole = WholeAccounts(OWNER, np.diff(observed.offsets), bundle.capabilities)
    for start, stop in zip((0, *cuts[:-1]), cuts, strict=True):
        low, high = observed.offsets[start], observed.offsets[stop]
        part = observed.taken(np.arange(low, high), observed.offsets[start : stop + 1] - low)
        whole.add(part, feature_rows(part, bundle.capabilities) if own_rows else None)
    return whole.rows()


def expected(observed: Evidenced, bundle: Bundle, step: int = 1) -> NDArray[np.float64]:
    bounds = np.concatenate([[0], np.cumsum([sum(own) for own in SIZES])])
    rows = [np.arange(low, high)[::step] for low, high in itertools.pairwise(bounds)]
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in rows])])
    return feature_rows(observed.taken(np.concatenate(rows), offsets), bundle.capabilities)


@pytest.mark.parametrize("cuts", [(10,), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10), (2, 10), (5, 8, 10)])
@pytest.mark.parametrize("own_rows", [True, False])
def test_an_account_s_row_is_that_of_one_session_of_all_its_prompts_however_they_come(
    observed: Evidenced, bundle: Bundle, cuts: tuple[int, ...], own_rows: bool
) -> None:
    assert np.array_equal(gathered(observed, bundle, cuts, own_rows=own_rows), expected(observed, bundle))


def test_every_second_prompt_of_an_account_over_the_limit_is_looked_at(
    observed: Evidenced, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ACCOUNT_PROMPTS", 14)
    found = gathered(observed, bundle, (4, 10))
    plain, thinned = expected(observed, bundle), expected(observed, bundle, 2)
    assert np.array_equal(found[[0, 2]], plain[[0, 2]])
    assert np.array_equal(found[[1, 3, 4]], thinned[[1, 3, 4]])


def test_no_account_has_no_row(bundle: Bundle) -> None:
    nothing = np.zeros(0, np.int64)
    assert len(WholeAccounts(nothing, nothing, bundle.capabilities).rows()) == 0
