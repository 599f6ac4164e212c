"""The round trip: a verdict that an analyst clears becomes a label that training reads and learns from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from serve.adaptation.label_files import Label, json_lines
from serve.cli import main
from train.config.settings import Settings
from train.corpora.loading import load_pool
from train.experiments.run import bundled
from train.learning.bundling import BundlingSettings


def exchange(account: str, turn: int, words: str) -> str:
    row = {"account_id": account, "session_id": "s", "prompt": f"{words} {account} {turn}", "at": 1_767_225_600 + turn}
    return json.dumps(row) + "\n"


def test_decided_sessions_are_learned_from(tiny_settings: Settings, tmp_path: Path) -> None:
    store, source, out = tmp_path / "labels.jsonl", tmp_path / "in.jsonl", tmp_path / "labels"
    accounts = [f"account-{index}" for index in range(8)]
    source.write_text("".join(exchange(a, turn, "reverse the lemon list") for a in accounts for turn in range(12)))
    states = ("cleared", "confirmed")
    store.write_text("".join(json_lines(Label(own, "s", states[i % 2]) for i, own in enumerate(accounts))))
    assert main(["labels", str(source), "--labels", str(store), "--out", str(out)]) == 0
    described = tuple(str(out / f"feedback_{label}.yaml") for label in ("harvesting", "organic"))
    corpora = replace(tiny_settings.corpora, described=described, cache_dir=str(tmp_path / "cache"))
    pool = load_pool(corpora, seed=0)
    labels = {source.name: source.label for source in pool.sources if source.name.startswith("feedback_")}
    assert labels == {"feedback_harvesting": "harvesting", "feedback_organic": "organic"}
    names = np.array([source.name for source in pool.sources])[pool.source]
    assert {text for text, name in zip(pool.texts, names, strict=True) if name == "feedback_organic"} == {
        f"reverse the lemon list {account} {turn}" for account in accounts[::2] for turn in range(12)
    }
    settings = replace(tiny_settings, corpora=corpora, bundling=BundlingSettings(str(tmp_path / "bundles")))
    made = bundled(settings)
    learned = {source["name"]: source["n_prompts"] for source in made.data["sources"]}
    assert learned["feedback_harvesting"] > 0
    assert learned["feedback_organic"] > 0
    assert "feedback_harvesting" in {part for name in made.model.table.campaign.tolist() for part in name.split("+")}
