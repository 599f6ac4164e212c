"""Row sums: a loop and a sparse product give the same."""

from __future__ import annotations

import numpy as np
import pytest

from serve.embedding import row_sums as module
from serve.embedding.row_sums import row_sums

TABLE = np.array([[1, 10], [2, 20], [4, 40]])


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
@pytest.mark.parametrize("few", [0, 1024])
def test_rows_are_summed_text_by_text(kind: type[np.generic], few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW", few)
    rows, bounds = np.array([0, 2, 2, 1], np.int32), np.array([0, 3, 3, 4])
    found = row_sums(TABLE.astype(kind), rows, bounds)
    assert found.tolist() == [[9, 90], [0, 0], [2, 20]]
    assert found.dtype == kind


@pytest.mark.parametrize("few", [0, 1024])
def test_no_texts_have_no_sums(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW", few)
    assert row_sums(TABLE, np.zeros(0, np.int32), np.array([0])).shape == (0, 2)
