"""Release: only a whole bundle that may ship takes the place of the released one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve.bundle.files import CLASSIFIER, MANIFEST, BundleError
from serve.bundle.manifest import verify, write_manifest
from train.learning.bundling import BundlingSettings
from train.tracking import release as releases
from train.tracking.release import main, release


def with_sources(folder: Path, sources: list[dict[str, Any]]) -> Path:
    """The bundle with these sources in its data card."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    entries = {key: manifest[key] for key in ("encoder", "features", "fpr", "metrics")}
    write_manifest(folder, {**entries, "data": {"sources": sources}})
    return folder


@pytest.fixture
def bundle(copied_bundle: Callable[[], Path]) -> Path:
    return with_sources(copied_bundle(), [{"name": "katas", "may_ship": True}])


def test_a_bundle_takes_the_place_of_the_one_before(bundle: Path, copied_bundle: Callable[[], Path]) -> None:
    target = copied_bundle()
    (target / "left over").write_text("of the last release", encoding="utf-8")
    assert release(bundle, target) == verify(bundle)["bundle_id"] == verify(target)["bundle_id"]
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in bundle.iterdir())
    assert not target.with_name(f".{target.name}.new").exists()


def test_what_may_not_ship_is_refused(copied_bundle: Callable[[], Path], tmp_path: Path) -> None:
    sources = [{"name": "katas", "may_ship": True}, {"name": "nq", "may_ship": False}]
    with pytest.raises(ValueError, match="learned from nq, which may not ship"):
        release(with_sources(copied_bundle(), sources), tmp_path / "released")
    with pytest.raises(ValueError, match="doesn't say what it learned from"):
        release(with_sources(copied_bundle(), []), tmp_path / "released")
    assert not (tmp_path / "released").exists()


def test_a_damaged_bundle_leaves_the_released_one_alone(bundle: Path, copied_bundle: Callable[[], Path]) -> None:
    target = copied_bundle()
    before = verify(target)["bundle_id"]
    with (bundle / CLASSIFIER).open("a", encoding="utf-8") as file:
        file.write("x")
    with pytest.raises(BundleError, match=r"classifier\.txt has"):
        release(bundle, target)
    assert verify(target)["bundle_id"] == before


def test_a_bundle_that_is_too_large_is_refused(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="expected fewer than 10"):
        release(bundle, tmp_path / "released")


def test_the_command_releases_a_given_bundle_or_says_why_not(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(releases, "RELEASED", tmp_path / "released")
    monkeypatch.setattr(releases, "BundlingSettings", lambda: BundlingSettings(str(tmp_path / "none")))
    assert main(["--bundle", str(bundle)]) == 0
    assert "released " in capsys.readouterr().out
    assert main(["--bundle", str(tmp_path)]) == 2
    assert main(["--latest"]) == 2
    complaints = capsys.readouterr().err.splitlines()
    assert len(complaints) == 2
    assert all(line.startswith("release: ") for line in complaints)


def test_without_a_champion_it_is_the_bundle_trained_last(store: Path, bundle: Path) -> None:
    Path("mlruns/bundles").mkdir(parents=True)
    bundle.rename(store / "mlruns" / "bundles" / "only")
    assert releases.champion() == Path("mlruns/bundles/only")
