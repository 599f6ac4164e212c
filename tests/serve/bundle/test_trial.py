"""A bundle of somebody else: what its files hold is looked at, and it judges in another process first."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from serve.bundle import trial
from serve.bundle.bundle import Bundle, examine
from serve.bundle.files import MANIFEST, RELEASED, BundleError
from serve.bundle.manifest import manifest_digest, verify, write_manifest
from serve.scoring import trial_verdict

Change = Callable[[Path], None]
Arrays = dict[str, NDArray[Any]]


def sealed(folder: Path, **changes: Any) -> None:
    """Make the manifest fit whatever the files now are."""
    manifest = json.loads((folder / MANIFEST).read_text())
    write_manifest(folder, {key: manifest[key] for key in ("encoder", "features", "fpr", "data", "metrics")} | changes)


def array(name: str, key: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Change:
    def apply(folder: Path) -> None:
        arrays: Arrays = load_file(folder / name)
        save_file(arrays | {key: np.ascontiguousarray(change(arrays[key]))}, folder / name)

    return apply


def text(name: str, pattern: str, replacement: str) -> Change:
    def apply(folder: Path) -> None:
        content = (folder / name).read_text()
        changed = re.sub(pattern, lambda _: replacement, content, count=1, flags=re.M)
        assert changed != content
        (folder / name).write_text(changed)

    return apply


def entry(**changes: object) -> Change:
    return lambda folder: sealed(folder, **changes)


CHANGES: dict[str, tuple[Change, str]] = {
    "calibration of NaN": (array("calibration.safetensors", "margins", lambda a: a * np.nan), "not finite"),
    "a falling calibration": (array("calibration.safetensors", "logistic", lambda a: -a), "expected both to rise"),
    "calibration of three": (array("calibration.safetensors", "logistic", lambda _: np.zeros(3)), "too many values"),
    "classes that overlap": (
        array("calibration.safetensors", "offsets", lambda a: np.append(-a[:-1] - 5, a[-1:])), "overlap",
    ),
    "infinite experts": (array("experts.safetensors", "weights", lambda a: a + np.inf), "not finite"),
    "anchors in a row": (array("capabilities.safetensors", "anchors", lambda a: a.ravel()), "expected 2 dimensions"),
    "no anchors": (array("capabilities.safetensors", "anchors", lambda a: a[:0]), "expected 2 dimensions"),
    "an unknown skill": (array("capabilities.safetensors", "anchor_skills", lambda a: a * 0 - 7), "skill"),
    "quantiles of nothing": (array("reference.safetensors", "benign_quantiles", lambda a: a[:0]), "benign quantiles"),
    "few token vectors": (array("static/model.safetensors", "embeddings", lambda a: a[:2]), "token id"),
    "token vectors of NaN": (array("static/model.safetensors", "embeddings", lambda a: a * np.nan), "not finite"),
    "trees in a cycle": (text("classifier.txt", r"^left_child=-?\d+", "left_child=0"), "children that aren't"),
    "a pattern that hangs": (text("static/tokenizer.json", r"^\{", '{"x": {"Regex": "(a+)+$"},'), "holds the pattern"),
    "a tokenizer of odd parts": (
        text("static/tokenizer.json", r'"post_processor":\s*null', '"post_processor":{"type":"Odd"}'),
        "static can't be read",
    ),
    "a map of nothing": (text("capabilities.json", r"(?s)^.*$", "[]"), "has no areas, expected an object"),
    "a deep map": (text("capabilities.json", r"(?s)^.*$", "[" * 100_000), "is not JSON"),
    "a share of NaN": (entry(fpr=float("nan")), "NaN"),
    "a share of 5": (entry(fpr=5), "fpr 5, expected a share between 0 and 1"),
    "features of none": (entry(features=None), "aren't a list of names"),
    "an encoder of list": (entry(encoder=[]), "encoder of type list"),
    "a pickle": (lambda folder: (folder / "static" / "model.bin").touch() or None, "none of the files"),
    "rows of garbage": (lambda folder: (folder / "features.parquet").write_bytes(b"PAR1") and None, "no Parquet file"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_bundle_with_a_right_manifest_and_wrong_content_is_refused(
    copied_bundle: Callable[[], Path], name: str
) -> None:
    change, message = CHANGES[name]
    folder = copied_bundle()
    change(folder)
    if not name.startswith(("a share", "features of", "an encoder")):
        sealed(folder)
    with pytest.raises(BundleError, match=message) as fault:
        Bundle.untried(folder).training_rows()
    assert len(str(fault.value)) < 500


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Trials that are asked for; what a trial does in its process is for other tests."""
    found: list[Path] = []
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "is_proved", IS_PROVED)
    monkeypatch.setattr(trial, "try_out", found.append)
    return found


IS_PROVED = trial.is_proved


def test_a_bundle_is_tried_once_and_again_when_it_changed(copied_bundle: Callable[[], Path], tried: list[Path]) -> None:
    folder = copied_bundle()
    for _ in range(2):
        Bundle.load(folder)
    assert tried == [folder]
    sealed(folder, fpr=0.06)
    Bundle.load(folder)
    assert tried == [folder, folder]
    (marker,) = {path.parent for path in (folder.parent / "cache").rglob("*") if path.is_file()}
    marker.chmod(0o777)  # where others may write, a note proves nothing
    Bundle.load(folder)
    assert len(tried) == 3


def test_a_bundle_that_ends_its_process_is_refused_and_this_one_lives(
    copied_bundle: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied_bundle()
    monkeypatch.setattr(trial, "_CODE", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(BundleError, match=f"ended its process with signal {signal.SIGSEGV:d}"):
        examine(folder)
    monkeypatch.setattr(trial, "_CODE", "print('x' * 10_000)")
    with pytest.raises(BundleError, match="ended its process with code 0"):
        examine(folder)
    monkeypatch.setattr(trial, "_CODE", "import time; time.sleep(60)")
    monkeypatch.setattr(trial, "TIMEOUT_S", 0.5)
    with pytest.raises(BundleError, match=r"no verdict in a trial of 0\.5 s"):
        examine(folder)


def test_the_command_says_what_the_other_process_found(copied_bundle: Callable[[], Path]) -> None:
    folder = copied_bundle()
    array("experts.safetensors", "weights", lambda a: a * np.nan)(folder)
    sealed(folder)
    command = (sys.executable, "-m", "serve.cli", "bundle", "verify", str(folder))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds weights with" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_released_bundle_passes_its_trial() -> None:
    assert examine(RELEASED) == verify(RELEASED)


@pytest.mark.parametrize(("hard", "own"), [(resource.RLIM_INFINITY, 100), (70, 70), (400, 100)])
def test_a_trial_stays_below_the_limits_of_whoever_starts_it(
    monkeypatch: pytest.MonkeyPatch, hard: int, own: int
) -> None:
    changed: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (hard, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda *given: changed.append(given))
    trial_verdict.lower(resource.RLIMIT_AS, 100)
    assert changed == [(resource.RLIMIT_AS, (own, own))]


@pytest.mark.parametrize("key", ["sha256", "size"])
def test_a_long_value_of_the_manifest_is_not_quoted_whole(copied_bundle: Callable[[], Path], key: str) -> None:
    folder = copied_bundle()
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["classifier.txt"][key] = "x" * 9999
    manifest["manifest_sha256"] = manifest_digest(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"expected x{20}") as fault:
        verify(folder)
    assert len(str(fault.value)) < 500
