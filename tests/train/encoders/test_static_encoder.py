"""Static: the encoder a run asks for, distilled once for the same texts and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from serve.bundle.files import STATIC, BundleError
from train.encoders import static_encoder as static
from train.encoders.settings import DistillSettings, EncoderSettings, EncoderSource
from train.encoders.static_encoder import static_folder

TEXTS = ("write a poem", "sort a list", "bake a cake")


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that were distilled into, by a distiller that only leaves a file."""
    made: list[Path] = []

    def distilled(texts: Sequence[str], settings: DistillSettings, folder: Path, *, seed: int) -> None:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(f"{len(texts)} {seed}", encoding="utf-8")
        made.append(folder)

    monkeypatch.setattr("train.encoders.distillation.distilled", distilled)
    return made


def settings(folder: Path) -> EncoderSettings:
    return EncoderSettings(EncoderSource.distil, distill=DistillSettings(n_texts=2), cache_dir=str(folder / "cache"))


def test_the_same_texts_in_any_order_are_distilled_once(tmp_path: Path, taught: list[Path]) -> None:
    first = static_folder(settings(tmp_path), TEXTS, seed=0)
    assert static_folder(settings(tmp_path), TEXTS[::-1], seed=0) == first
    assert len(taught) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.name]
    assert (first / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "change",
    [
        lambda own: (own, TEXTS, 1),
        lambda own: (own, ("another", *TEXTS[1:]), 0),
        lambda own: (replace(own, distill=DistillSettings(n_texts=2, n_epochs=3)), TEXTS, 0),
    ],
    ids=["seed", "texts", "settings"],
)
def test_other_texts_settings_or_seeds_are_another_encoder(change, tmp_path: Path, taught: list[Path]) -> None:
    own, texts, seed = change(settings(tmp_path))
    folders = {static_folder(settings(tmp_path), TEXTS, seed=0), static_folder(own, texts, seed=seed)}
    assert len(folders) == len(taught) == 2


def test_what_another_process_distilled_meanwhile_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taught: list[Path]
) -> None:
    winner = static_folder(settings(tmp_path), TEXTS, seed=0)
    (winner / "model.safetensors").write_text("the winner's", encoding="utf-8")
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: path != winner and is_dir(path))
    assert static_folder(settings(tmp_path), TEXTS, seed=0) == winner
    assert (winner / "model.safetensors").read_text(encoding="utf-8") == "the winner's"


def test_a_folder_is_taken_as_it_is_but_must_be_named(tmp_path: Path) -> None:
    assert static_folder(EncoderSettings(EncoderSource.folder, str(tmp_path)), TEXTS, seed=0) == tmp_path
    with pytest.raises(ValueError, match=r"encoder\.source is folder, but encoder\.folder is not set"):
        static_folder(EncoderSettings(EncoderSource.folder), TEXTS, seed=0)


def test_minilm_has_no_folder() -> None:
    assert static_folder(EncoderSettings(EncoderSource.minilm), TEXTS, seed=0) is None


def test_the_released_encoder_is_verified_first(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "RELEASED", bundle_folder)
    assert static_folder(EncoderSettings(EncoderSource.released), TEXTS, seed=0) == bundle_folder / STATIC
    monkeypatch.setattr(static, "RELEASED", tmp_path)
    with pytest.raises(BundleError, match=r"manifest.json"):
        static_folder(EncoderSettings(EncoderSource.released), TEXTS, seed=0)
