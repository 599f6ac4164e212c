from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serve.bundle.bundle import Bundle
from serve.bundle.files import COMMUNITIES, BundleError
from serve.bundle.manifest import verify
from serve.model.community_model import BUILT_IN, FEATURES
from train.experiments.communities import main, put_into
from train.learning.community_table import CommunityTable


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A table of campaigns and benign communities that one sign tells apart."""
    rng = np.random.default_rng(0)
    n, share = 80, np.arange(80) % 2.0
    signs = rng.normal(size=(n, len(FEATURES)))
    signs[:, 0] += 4.0 * share
    table = CommunityTable(
        signs, share, share, np.full(n, 10), np.array([f"s{index}" for index in range(n)]), np.full(n, 0.5),
        np.arange(n) // 2 % 4, np.zeros(n, np.bool_),
    )  # fmt: skip
    table.save(tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


def test_a_stored_table_is_fitted_and_written_into_a_bundle(
    stored: Path, copied_bundle: Callable[[], Path], capsys: pytest.CaptureFixture[str]
):
    folder = copied_bundle()
    before = verify(folder)
    assert main(["--table", str(stored), "--into", str(folder)]) == 0
    after = verify(folder)
    said = capsys.readouterr().out
    assert f"bundle     {after['bundle_id']}" in said
    assert after["bundle_id"] != before["bundle_id"]
    assert set(after["files"]) - set(before["files"]) == {COMMUNITIES}
    assert all(after["files"][name] == listed for name, listed in before["files"].items())
    model = Bundle.load(folder).communities
    assert model != BUILT_IN
    assert f"threshold  {model.threshold}" in said


def test_the_same_model_makes_the_same_bundle(copied_bundle: Callable[[], Path]):
    folder = copied_bundle()
    assert put_into(folder, BUILT_IN) == put_into(folder, BUILT_IN)
    assert Bundle.load(folder).communities == BUILT_IN


def test_a_bundle_that_cannot_be_trusted_is_left_as_it_is(copied_bundle: Callable[[], Path]):
    folder = copied_bundle()
    (folder / "more.txt").write_text("more")
    with pytest.raises(BundleError, match=r"holds more\.txt"):
        put_into(folder, BUILT_IN)
    assert (folder / "more.txt").is_file()


@pytest.mark.parametrize("given", [["--corpora", "DIR"], []], ids=["corpora", "table"])
def test_what_is_not_there_ends_it_with_one_line(given: list[str], tmp_path, capsys: pytest.CaptureFixture[str]):
    given = [str(tmp_path) if word == "DIR" else word for word in given]
    assert main([*given, "--table", str(tmp_path / "none.parquet")]) == 2
    assert capsys.readouterr().err.startswith("communities: ")
