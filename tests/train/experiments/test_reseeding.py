"""The band is the binomial's, and runs outside it are counted as such."""

from __future__ import annotations

import pytest

from train.experiments.reseeding import Reseeded, band, main, reseeding_text


def test_band_holds_the_central_95_percent() -> None:
    assert band(1000, 0.01) == (4, 17)
    assert band(1000, 0.001) == (0, 3)


def test_runs_outside_the_band_are_counted() -> None:
    text = reseeding_text([Reseeded(0, 1000, (10, 0), 0.02), Reseeded(1, 1000, (18, 4), 0.04)])
    assert "1.0% asked: 1.400% realised over all; 1 of 2 runs inside the band" in text
    assert "0.1% asked: 0.200% realised over all; 1 of 2 runs inside the band" in text
    assert "ECE: mean 0.030" in text


def test_a_bundle_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", "1", "experiment=demo"]) == 2
    assert "expected exam" in capsys.readouterr().err
