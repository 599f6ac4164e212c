"""The audit of areas: overlapping, thin and unreached skills are named, a sound file has nothing to mend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from serve.embedding.encoders import Encoder
from train.taxonomy.areas import Taxonomy, read_taxonomy
from train.taxonomy.audit import MIN_EXAMPLES, audit_text
from train.taxonomy.check import check, main

WORDS = {
    "coding/bugs": "fix broken loop crash trace",
    "coding/katas": "sort reverse array stack tree",
    "cooking/cakes": "lemon sponge icing bake oven",
    "cooking/soups": "broth leek simmer ladle stock",
}


def examples(words: str, n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words.split(), size=4)) + f" x{seed}y{index}" for index in range(n)]


def taxonomy_of(tmp_path: Path, own: dict[str, list[str]]) -> Taxonomy:
    areas: dict[str, dict[str, object]] = {}
    for name, texts in own.items():
        area, skill = name.split("/")
        areas.setdefault(area, {"title": area, "skills": {}})["skills"][skill] = {"title": skill, "examples": texts}  # type: ignore[index]
    path = tmp_path / "areas.yaml"
    path.write_text(yaml.safe_dump(areas))
    return read_taxonomy(path)


def sound(n: int = MIN_EXAMPLES + 2) -> dict[str, list[str]]:
    return {name: examples(words, n, seed) for seed, (name, words) in enumerate(WORDS.items())}


def test_skills_apart_from_each_other_have_nothing_to_mend(tmp_path: Path, encoder: Encoder) -> None:
    found = check(taxonomy_of(tmp_path, sound()), encoder)
    assert found.is_clean, audit_text(found)
    assert found.kept > 0.95
    assert "nothing to mend" in audit_text(found)


def test_skills_that_ask_the_same_overlap_and_are_named(tmp_path: Path, encoder: Encoder) -> None:
    own = sound()
    own["cooking/cakes"] = examples(WORDS["coding/bugs"], 14, 7)
    overlaps = {(overlap.skill, overlap.other) for overlap in check(taxonomy_of(tmp_path, own), encoder).overlaps}
    assert overlaps & {("coding/bugs", "cooking/cakes"), ("cooking/cakes", "coding/bugs")}
    assert all({"coding/bugs", "cooking/cakes"} == set(pair) for pair in overlaps)


def test_few_or_repeated_examples_are_thin(tmp_path: Path, encoder: Encoder) -> None:
    own = sound()
    own["coding/katas"] = own["coding/katas"][:5]
    own["cooking/soups"] = [f"{own['cooking/soups'][0].capitalize()}{'!' * index}" for index in range(14)]
    thin = {found.skill: (found.n, found.n_different) for found in check(taxonomy_of(tmp_path, own), encoder).thin}
    assert thin["coding/katas"] == (5, 5)
    assert thin["cooking/soups"][0] == 14
    assert thin["cooking/soups"][1] < MIN_EXAMPLES
    assert len(thin) == 2


def test_skills_that_traffic_never_reaches_are_named(tmp_path: Path, encoder: Encoder) -> None:
    traffic = [
        text for name in ("coding/bugs", "coding/katas", "cooking/cakes") for text in examples(WORDS[name], 30, 9)
    ]
    found = check(taxonomy_of(tmp_path, sound()), encoder, traffic)
    assert found.unreached == ("cooking/soups",)
    assert "unreached  cooking/soups" in audit_text(found)
    assert not found.is_clean


def test_the_command_says_what_it_found_by_its_exit_code(
    tmp_path: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taxonomy_of(tmp_path, {**sound(), "coding/katas": ["sort a list"]})
    (tmp_path / "in.jsonl").write_text(json.dumps({"account_id": "a", "prompt": "fix broken loop"}) + "\n")
    common = ["check", "--file", str(tmp_path / "areas.yaml"), "--bundle", str(bundle_folder)]
    assert main([*common, "--traffic", str(tmp_path / "in.jsonl")]) == 1
    assert "thin     coding/katas: 1 different of 1 examples" in capsys.readouterr().out
    assert main(["check", "--file", str(tmp_path / "none.yaml"), "--bundle", str(bundle_folder)]) == 2
    assert "none.yaml is not there" in capsys.readouterr().err


def test_areas_runs_as_a_module(tmp_path: Path, bundle_folder: Path) -> None:
    command = [sys.executable, "-m", "train.areas", "check", "--file", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
