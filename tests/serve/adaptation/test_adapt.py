"""A provider's traffic becomes a bundle that keeps its rate on people it never saw; other traffic is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.adaptation import classifier_refit, community_threshold, prompt_refit
from serve.adaptation.adapt import Adaptation, adapt, adaptation_text
from serve.adaptation.label_files import Label, json_lines
from serve.adaptation.provider_rows import DILUTIONS, are_learned
from serve.bundle.bundle import Bundle
from serve.bundle.files import COMMUNITIES, FEATURES, MANIFEST, PROMPT_SAMPLE, BundleError
from serve.bundle.manifest import verify, write_manifest
from serve.campaigns.community_features import Community
from serve.campaigns.detector import Candidates
from serve.campaigns.mixture import Mixture
from serve.cli import main
from serve.io.discovery import InputError
from serve.model.community_model import BUILT_IN, CommunityFeatures
from serve.scoring.scorer import Scorer
from serve.sessions.records import Exchange, Session, Sessions
from serve.sessions.size_classes import SIZE_EDGES
from tests.conftest import draw_sessions

FPR = 0.05


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny bundle needs few trees, and its prompt scorer longer steps; its accounts ask alike, all in one way."""
    for module, changes in ((classifier_refit, {"n_rounds": 40, "n_threads": 1}), (prompt_refit, {"rate": 1e-2})):
        monkeypatch.setattr(module, "SETTINGS", dataclasses.replace(module.SETTINGS, **changes))
    alike = Community(0, np.zeros(0, np.int64), np.zeros(0, np.int64))
    found = ((alike, CommunityFeatures(*[9.0] * len(dataclasses.fields(CommunityFeatures)))),)
    monkeypatch.setattr(
        community_threshold, "candidates", lambda sketches: Candidates(sketches, Mixture.empty(), found, ())
    )


@pytest.fixture
def parent(copied_bundle: Callable[[], Path]) -> Path:
    """The tiny bundle with labelled rows, as training writes them."""
    folder = copied_bundle()
    bundle = Bundle.load(folder)
    columns = Sessions.of(draw_sessions(240, seed=7))
    rows, names = Scorer(bundle).judge(columns).features, bundle.manifest["features"]
    y = (np.arange(len(rows)) % 3 == 0).astype(np.int8)
    table = pa.table({
        **{name: pa.array(column.astype(np.float32)) for name, column in zip(names, rows.T, strict=True)},
        "y": y, "weight": np.ones(len(y)), "kind": ["person"] * len(y),
        "campaign": [f"c{index % 6}" for index in range(len(y))], "n_exchanges": columns.n_exchanges.astype(np.int32),
        "dilution": np.zeros(len(y), np.float32), "margin_left_out": np.zeros(len(y)),
    })  # fmt: skip
    pq.write_table(table, folder / FEATURES, store_schema=False)
    manifest = json.loads((folder / MANIFEST).read_text())
    write_manifest(folder, {key: manifest[key] for key in ("encoder", "features", "fpr", "data", "metrics")})
    return folder


def traffic(path: Path, sessions: tuple[Session, ...]) -> Path:
    """Sessions as a file of exchanges."""
    rows = [
        {"account_id": session.account_id, "session_id": session.session_id, "prompt": exchange.prompt}
        for session in sessions
        for exchange in session.exchanges
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def benign(n_sessions: int, seed: int) -> tuple[Session, ...]:
    """Sessions of the kind that the tiny bundle learned as organic, two an account."""
    drawn = draw_sessions(n_sessions, seed=seed, sizes=(5, 8, 13, 21))
    return tuple(session for index, session in enumerate(drawn) if index % 3)


def test_the_new_bundle_says_what_it_comes_from_and_judges(parent: Path, tmp_path: Path) -> None:
    source, out = traffic(tmp_path / "own.jsonl", benign(300, 11)), tmp_path / "own"
    done = adapt(Adaptation((source,), out, parent, FPR))
    manifest = verify(out)
    assert manifest["bundle_id"] == done.bundle_id != done.parent
    assert manifest["adapted_from"]["bundle"] == verify(parent)["bundle_id"]
    assert manifest["fpr"] == FPR
    bundle = Bundle.load(out)
    n_learned = manifest["adapted_from"]["n_learned"]
    assert bundle.training_rows().num_rows == 240 + n_learned
    weight, y = (bundle.training_rows()[name].to_numpy() for name in ("weight", "y"))
    assert weight[240:].sum() == pytest.approx(weight[y == 0].sum() / 2)
    assert (done.n_learned, done.n_calibrated) == pytest.approx((100, 100), abs=25)
    new = Scorer(bundle).judge(Sessions.of(benign(600, 12)))
    assert (new.p_value <= FPR).mean() <= FPR + 3 * np.sqrt(FPR * (1 - FPR) / 100)


def test_nobody_is_both_learned_from_and_calibrated_on(parent: Path, tmp_path: Path) -> None:
    everyone = benign(300, 11)
    adapt(Adaptation((traffic(tmp_path / "own.jsonl", everyone),), tmp_path / "own", parent, FPR))
    bundle = Bundle.load(tmp_path / "own")
    names = list(bundle.manifest["features"])
    # Evidence of what is learned from is by another scorer than the one that judges; all else is the same.
    same = [column for column, name in enumerate(names) if not name.startswith(("evidence.", "subset."))]
    stored = np.stack([bundle.training_rows()[names[column]].to_numpy()[240:] for column in same], axis=1)
    learned = {row.tobytes() for row in stored.astype(np.float32)}
    rows = Scorer(Bundle.load(parent)).judge(Sessions.of(everyone))
    sides: dict[str, set[bool]] = {}
    for account, row in zip(rows.account_ids, rows.features, strict=True):
        sides.setdefault(account, set()).add(row[same].astype(np.float32).tobytes() in learned)
    assert all(len(own) == 1 for own in sides.values())
    assert {account: True in own for account, own in sides.items()} == dict(
        zip(sides, are_learned(list(sides)).tolist(), strict=True)
    )


def test_the_same_traffic_in_another_order_makes_the_same_bundle(parent: Path, tmp_path: Path) -> None:
    own = benign(300, 11)
    shuffled = tuple(own[index] for index in np.random.default_rng(0).permutation(len(own)))
    ids = [
        adapt(Adaptation((traffic(tmp_path / f"{name}.jsonl", rows),), tmp_path / name, parent, FPR)).bundle_id
        for name, rows in (("one", own), ("other", shuffled))
    ]
    assert ids[0] == ids[1]


def test_the_provider_s_prompts_are_evidence_of_innocence_afterwards(parent: Path, tmp_path: Path) -> None:
    adapt(Adaptation((traffic(tmp_path / "own.jsonl", benign(300, 11)),), tmp_path / "own", parent, FPR))
    fresh = Sessions.of(benign(200, 12))
    before, after = (Scorer(Bundle.load(folder)).judge(fresh) for folder in (parent, tmp_path / "own"))
    names = list(Bundle.load(parent).manifest["features"])
    harvest = names.index("evidence.harvest_mean")
    assert after.features[:, harvest].mean() < before.features[:, harvest].mean()
    evidence = [column for column, name in enumerate(names) if name.startswith(("evidence.", "subset."))]
    others = np.setdiff1d(np.arange(len(names)), evidence)
    assert np.array_equal(after.features[:, others], before.features[:, others])


def test_a_bundle_without_a_prompt_sample_is_refused(parent: Path, tmp_path: Path) -> None:
    manifest = json.loads((parent / MANIFEST).read_text())
    (parent / PROMPT_SAMPLE).unlink()
    write_manifest(parent, {key: manifest[key] for key in ("encoder", "features", "fpr", "data", "metrics")})
    own = traffic(tmp_path / "own.jsonl", benign(300, 11))
    with pytest.raises(BundleError, match=r"holds no prompt_sample\.safetensors"):
        adapt(Adaptation((own,), tmp_path / "out", parent, FPR))


def test_what_was_adapted_can_be_adapted_again(parent: Path, tmp_path: Path) -> None:
    first = adapt(Adaptation((traffic(tmp_path / "a.jsonl", benign(300, 11)),), tmp_path / "a", parent, FPR))
    second = adapt(Adaptation((traffic(tmp_path / "b.jsonl", benign(300, 13)),), tmp_path / "b", tmp_path / "a", FPR))
    assert second.parent == first.bundle_id


def test_traffic_that_is_too_small_is_refused_with_numbers(parent: Path, tmp_path: Path) -> None:
    few = traffic(tmp_path / "few.jsonl", benign(30, 11))
    with pytest.raises(ValueError, match=r"of 15 accounts, expected at least 40"):
        adapt(Adaptation((few,), tmp_path / "out", parent, FPR))
    more = traffic(tmp_path / "more.jsonl", benign(150, 11))
    with pytest.raises(ValueError, match=r"too small: \d+ sessions .* expected 100, since no p-value"):
        adapt(Adaptation((more,), tmp_path / "out", parent, 0.01))
    assert not (tmp_path / "out").exists()


def test_traffic_that_looks_like_harvesting_is_refused(parent: Path, tmp_path: Path) -> None:
    drawn = draw_sessions(600, seed=11, sizes=(8, 13, 21))
    campaign = tuple(session for index, session in enumerate(drawn) if index % 3 == 0)
    with pytest.raises(ValueError, match=r"finds \d+% of the accounts likelier harvesting than not"):
        adapt(Adaptation((traffic(tmp_path / "own.jsonl", campaign),), tmp_path / "out", parent, FPR))


def test_a_bundle_without_labelled_rows_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    own = traffic(tmp_path / "own.jsonl", benign(300, 11))
    with pytest.raises(BundleError, match="has no y, weight"):
        adapt(Adaptation((own,), tmp_path / "out", bundle_folder, FPR))


# Confirmed campaigns

PANTRY = ("soup", "leek", "bread", "lemon", "cake", "bake", "thicken", "recipe")


def campaign(n_accounts: int, seed: int, *, size: int = 12, name: str = "h") -> tuple[Session, ...]:
    """Two sessions an account of random words of one cupboard: what the tiny bundle has only seen as organic."""
    rng = np.random.default_rng([seed, 99])
    return tuple(
        Session(
            f"{name}{index}-{turn}", f"{name}{seed}-{index}",
            tuple(Exchange(" ".join(rng.choice(PANTRY, size=int(rng.integers(3, 9))))) for _ in range(size)),
        )
        for index in range(n_accounts)
        for turn in range(2)
    )  # fmt: skip


@pytest.fixture
def adapted(parent: Path, tmp_path: Path) -> Callable[..., Path]:
    """The bundle that has learned benign traffic and these sessions as campaigns."""

    def make(*confirmed: tuple[Session, ...], name: str = "own") -> Path:
        own = traffic(tmp_path / f"{name}.jsonl", benign(300, 11))
        files = tuple(traffic(tmp_path / f"{name}-{index}.jsonl", given) for index, given in enumerate(confirmed))
        adapt(Adaptation((own,), tmp_path / name, parent, FPR, files))
        return tmp_path / name

    return make


def test_a_confirmed_campaign_is_found_at_other_accounts(adapted: Callable[..., Path]) -> None:
    plain, knowing = Scorer(Bundle.load(adapted())), Scorer(Bundle.load(adapted(campaign(20, 1), name="knowing")))
    others, fresh = Sessions.of(campaign(40, 2)), Sessions.of(benign(600, 12))
    found = [(scorer.judge(others).p_value <= FPR).mean() for scorer in (plain, knowing)]
    assert found[1] > 0.9
    assert found[1] >= found[0]
    harvest = knowing.bundle.manifest["features"].index("evidence.harvest_mean")
    before, after = (scorer.judge(others).features[:, harvest].mean() for scorer in (plain, knowing))
    assert after > before + 0.5
    assert (knowing.judge(fresh).p_value <= FPR).mean() <= FPR + 3 * np.sqrt(FPR * (1 - FPR) / 100)


def test_a_confirmed_campaign_is_learned_plain_and_hidden_in_benign_traffic(adapted: Callable[..., Path]) -> None:
    folder = adapted(campaign(20, 1))
    bundle, adapted_from = Bundle.load(folder), verify(folder)["adapted_from"]
    rows = bundle.training_rows().to_pydict()
    assert adapted_from["n_confirmed_accounts"] == 20
    own = np.flatnonzero(np.array(rows["kind"]) == "confirmed")
    assert len(rows["kind"]) == 240 + adapted_from["n_learned"] + len(own)
    dilution, counts = np.unique(np.array(rows["dilution"])[own].round(4), return_counts=True)
    assert dilution.tolist() == pytest.approx([0.0, *DILUTIONS])
    assert counts.tolist() == [40] * 4
    y, weight = np.array(rows["y"]), np.array(rows["weight"])
    assert (y[own] == 1).all()
    assert weight[own].sum() == pytest.approx(weight[y == 1].sum() / 2)
    assert set(np.array(rows["n_exchanges"])[own].tolist()) == {12}


def test_the_same_campaign_in_one_file_or_two_makes_the_same_bundle(adapted: Callable[..., Path]) -> None:
    own = campaign(12, 1)
    ids = [
        Bundle.load(adapted(*parts, name=name)).bundle_id
        for name, parts in (("one", (own,)), ("two", (own[10:], own[:10])))
    ]
    assert ids[0] == ids[1]


def renamed(sessions: tuple[Session, ...], prefix: str) -> tuple[Session, ...]:
    return tuple(dataclasses.replace(session, account_id=f"{prefix}{session.account_id}") for session in sessions)


@pytest.mark.parametrize(
    ("confirmed", "message"),
    [
        (campaign(1, 1, size=60), "is of 1 account and 120 exchanges, expected at least 2 and 50"),
        (campaign(2, 1, size=12), "is of 2 accounts and 48 exchanges, expected at least 2 and 50"),
        (
            (*campaign(20, 1), *renamed(benign(300, 11)[:2], "")),
            r"^2 accounts in both the benign and the harvesting traffic, expected none",
        ),
        (renamed(benign(300, 17), "other "), r"looks like the benign traffic \(AUROC 0\.[3-6]\d on accounts left out"),
    ],
)
def test_what_cannot_be_learned_as_a_campaign_is_refused_with_a_sentence(
    adapted: Callable[..., Path], tmp_path: Path, confirmed: tuple[Session, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        adapted(confirmed)
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("content", ["", "\n\n", '{"account_id": "a"}\n'])
def test_a_file_of_campaigns_without_a_usable_row_is_refused(parent: Path, tmp_path: Path, content: str) -> None:
    own, empty = traffic(tmp_path / "own.jsonl", benign(300, 11)), tmp_path / "empty.jsonl"
    empty.write_text(content)
    with pytest.raises(InputError, match=r"empty\.jsonl"):
        adapt(Adaptation((own,), tmp_path / "out", parent, FPR, (empty,)))
    assert not (tmp_path / "out").exists()


def test_it_says_what_it_does_next_and_what_it_did(parent: Path, tmp_path: Path) -> None:
    own, confirmed = traffic(tmp_path / "own.jsonl", benign(300, 11)), traffic(tmp_path / "c.jsonl", campaign(20, 1))
    heard: list[str] = []
    done = adapt(Adaptation((own,), tmp_path / "out", parent, FPR, (confirmed,)), heard.append)
    assert heard == [
        "reading", "judging with the bundle as it is", "training the prompt scorer", "scoring sessions",
        "fitting the classifier", "linking benign accounts", "writing",
    ]  # fmt: skip
    assert done.n_confirmed == 20
    said = adaptation_text(done, FPR)
    assert "confirmed   20 accounts of campaigns" in said.splitlines()
    decidable = Bundle.load(tmp_path / "out").calibration.is_decidable(np.array(SIZE_EDGES), FPR)
    assert done.is_decidable == tuple(decidable.tolist())
    assert ("undecided" in said) == (not decidable.all())


def test_campaigns_are_called_so_above_every_community_of_benign_accounts(parent: Path, tmp_path: Path) -> None:
    out = tmp_path / "own"
    done = adapt(Adaptation((traffic(tmp_path / "own.jsonl", benign(300, 11)),), out, parent, FPR))
    highest = BUILT_IN.log_odds(CommunityFeatures(*[9.0] * len(dataclasses.fields(CommunityFeatures))))
    model = Bundle.load(out).communities
    assert model == dataclasses.replace(BUILT_IN, threshold=pytest.approx(highest, abs=1e-3))
    assert COMMUNITIES in verify(out)["files"]
    assert verify(out)["adapted_from"]["n_communities"] == 1
    expected = (
        f"campaigns   called so above log-odds {model.threshold:g}, where none of 1 community of benign accounts lies"
    )
    assert expected in adaptation_text(done, FPR).splitlines()


def test_the_command_refuses_a_folder_that_is_there_and_tells_what_it_did(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    confirmed, others = campaign(20, 1), benign(300, 11)
    own, labels = traffic(tmp_path / "own.jsonl", (*confirmed, *others)), tmp_path / "labels.jsonl"
    decided = [Label(session.account_id, session.session_id, "confirmed") for session in confirmed]
    decided.append(Label(others[0].account_id, others[0].session_id, "escalated"))
    labels.write_text("".join(json_lines(decided)))
    wanted = ["adapt", str(own), "--out", str(tmp_path / "new"), "--bundle", str(parent), "--fpr", str(FPR)]
    wanted += ["--labels", str(labels)]
    assert main(wanted) == 0
    said = capsys.readouterr()
    assert "confirmed   20 accounts of campaigns" in said.out
    assert f"{len({own.account_id for own in others}) - 1:,} accounts" in said.out
    assert "leaving out 1 account," in said.err
    assert main(wanted) == 2
    assert "is there already" in capsys.readouterr().err


def test_an_fpr_that_is_no_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fpr is 1\.5"):
        dataclasses.replace(Adaptation((tmp_path,), tmp_path / "out"), fpr=1.5)
