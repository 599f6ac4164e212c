from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.infrastructure.account_metadata import AccountMetadata
from serve.infrastructure.metadata_files import SCHEMA, KeyedMetadata, key_id, read_key, read_stored, write_stored


def test_what_is_stored_is_read_back(tmp_path: Path):
    metadata = AccountMetadata.of_pairs({"b": {(0, 2**64 - 1), (3, 7)}, "a": {(0, 5)}})
    write_stored(tmp_path / "x.parquet", KeyedMetadata(metadata, "k"))
    again = read_stored(tmp_path / "x.parquet", "k")
    assert again.key_id == "k"
    for name in ("owner", "kind", "value"):
        assert getattr(again.metadata, name).tolist() == getattr(metadata, name).tolist()
    assert again.metadata.account_ids == ("a", "b")


def test_files_of_something_else_are_refused(tmp_path: Path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"account_id": ["a"]}), path)
    with pytest.raises(ValueError, match="has other columns than account_id, kind and value"):
        read_stored(path, "k")
    pq.write_table(pa.table([["a"], ["shoe size"], [1]], SCHEMA), path)
    with pytest.raises(ValueError, match="has the kind 'shoe size', expected one of ip,"):
        read_stored(path, "k")


def test_a_key_is_long_enough_and_known_by_its_id(tmp_path: Path):
    path = tmp_path / "key"
    path.write_text("short\n")
    with pytest.raises(ValueError, match="holds 5 bytes, expected a key of at least 16"):
        read_key(path)
    path.write_text("a secret of some length\n")
    key = read_key(path)
    path.write_text("a secret of some length")
    assert read_key(path) == key
    assert key_id(key) == key_id(read_key(path)) != key_id(key[::-1])
    assert key.hex() not in key_id(key)
