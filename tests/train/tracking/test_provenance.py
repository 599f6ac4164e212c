"""Provenance: digests change with what they are of, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from train.corpora.pool import Pool
from train.encoders.package_versions import versions
from train.tracking.provenance import code_digest, data_digests, provenance


def test_a_digest_is_a_sources_own(pool: Pool) -> None:
    before = data_digests(pool)
    assert list(before) == [source.name for source in pool.sources]
    changed = data_digests(replace(pool, texts=("other", *pool.texts[1:])))
    assert {name for name in before if before[name] != changed[name]} == {"katas"}


def test_the_code_has_one_digest() -> None:
    assert code_digest() == code_digest()
    assert len(code_digest()) == 16


@pytest.mark.parametrize(
    "name", ["serve/cli.py", "serve/io/formats/new.py", "train/corpora/deep/er.yaml", "conf/a.yaml"]
)
def test_code_at_any_depth_is_part_of_the_digest(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.tracking.provenance.ROOT", tmp_path)
    before = code_digest()
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("x = 1\n")
    added = code_digest()
    (tmp_path / name).write_text("x = 2\n")
    assert len({before, added, code_digest()}) == 3


def test_versions_leave_out_what_is_not_installed() -> None:
    assert set(versions(("numpy", "no-such-package"))) == {"numpy"}


def test_provenance_is_plain_and_says_where_it_was_made() -> None:
    found = provenance()
    assert {"python", "packages", "code", "machine"} == set(found)
    assert found["machine"]["cores"] >= 1
