"""Files that are read back, changed at random: refused with the error of their kind, or read as what they were.

`make fuzz-files` changes more of them, and archives and checkpoints too.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from serve.bundle.bundle import Bundle
from serve.bundle.files import BundleError
from tests.bench.file_changes import change_bundle
from tests.bench.fuzz_files import FINE, Indicators, outcome


def test_changed_indicators_are_refused_or_match_the_same(tmp_path: Path) -> None:
    subject, found = Indicators(tmp_path, tmp_path), Counter[str]()
    whole = subject.judged(subject.source)
    for seed in range(1000, 1060):
        folder = Path(shutil.copytree(subject.source, tmp_path / "changed", dirs_exist_ok=True))
        said = subject.change(folder, random.Random(seed))
        found[outcome(subject, folder, whole, said)] += 1
    assert set(found) <= FINE
    assert found["refused"] > 30


def test_changed_bundles_are_refused_or_read(copied_bundle: Callable[[], Path]) -> None:
    said = []
    for seed in range(1000, 1012):
        folder = copied_bundle()
        change_bundle(folder, random.Random(seed))
        try:
            Bundle.untried(folder)
        except BundleError as fault:
            said.append(str(fault))
    assert len(said) > 4
    assert all(0 < len(text) < 2000 for text in said)
