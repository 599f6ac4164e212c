from __future__ import annotations

import numpy as np
import pytest

from serve.model.community_model import BUILT_IN, FEATURES, CommunityModel
from train.experiments.communities import main, model_text, told
from train.learning.communities import CommunityTable
from train.learning.community_model import FittedCommunities


def test_a_model_is_printed_as_python_reads_it():
    assert eval(model_text(BUILT_IN), {"CommunityModel": CommunityModel}) == BUILT_IN


def test_what_passes_is_counted_by_kind():
    table = CommunityTable(
        np.zeros((5, len(FEATURES))), np.array([1.0, 1.0, 0.0, 0.0, 0.5]), np.array([10, 20, 30, 40, 50]),
        np.zeros(5, np.int64), np.zeros(5, np.bool_),
    )  # fmt: skip
    above = BUILT_IN.threshold + 1.0
    said = told(FittedCommunities(BUILT_IN, np.array([above, -9.0, above, -9.0, -9.0])), table).splitlines()
    counts = {line.split()[0]: line.split()[1:] for line in said if "communities pass" in line}
    assert counts["campaigns"][:4] == ["1", "of", "2", "communities"]
    assert counts["benign"][:4] == ["1", "of", "2", "communities"]
    assert counts["benign"][-2:] == ["30", "accounts"]
    assert counts["mixed"][:3] == ["0", "of", "1"]


def test_a_folder_without_corpora_ends_it_with_one_line(tmp_path, capsys: pytest.CaptureFixture[str]):
    assert main(["--corpora", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("communities: ")
