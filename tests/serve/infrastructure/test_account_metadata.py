from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.infrastructure.account_metadata import KINDS, MAX_VALUES, AccountMetadata, read_metadata

KEY = b"sixteen bytes and more"


def values(found: AccountMetadata, account: str, kind: str) -> set[int]:
    own = (found.owner == found.account_ids.index(account)) & (found.kind == KINDS.index(kind))
    return set(found.value[own].tolist())


def test_jsonl_csv_and_parquet_say_the_same(tmp_path: Path):
    rows = [
        {"account_id": "a", "ip": "192.0.2.1", "country": "DE", "prompt": "x"},
        {"account_id": "b", "ip": "192.0.2.1", "country": None, "prompt": "y"},
        {"account_id": "a", "ip": "192.0.2.1", "country": "de", "prompt": "z"},
    ]
    lines, table, text = tmp_path / "x.jsonl", tmp_path / "x.parquet", tmp_path / "x.csv"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), table)
    text.write_text("account_id,Client IP,country\na,192.0.2.1,DE\nb,192.0.2.1,\n")
    found = [read_metadata([path], KEY) for path in (lines, table, text)]
    for own in found:
        assert own.account_ids == ("a", "b")
        assert len(own) == 3
        assert values(own, "a", "ip") == values(own, "b", "ip") == values(found[0], "a", "ip")
        assert own.n_accounts(["a", "b", "c"]) == {"ip": 2, "country": 1}


def test_files_without_such_columns_say_nothing(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('{"account_id": "a", "prompt": "x"}\n')
    (tmp_path / "y.jsonl").write_text('{"user": "a", "ip": "192.0.2.1"}\n')
    (tmp_path / "z.jsonl").write_text("")
    assert len(read_metadata(sorted(tmp_path.iterdir()), KEY)) == 0


@pytest.mark.parametrize(
    ("kind", "one", "other", "same"),
    [
        ("ip", "2001:db8:0:1::5", "2001:DB8:0:1:ffff::1", True),
        ("ip", "2001:db8:0:1::5", "2001:db8:0:2::5", False),
        ("ip", "::ffff:192.0.2.1", "192.0.2.1", True),
        ("asn", "AS64500", 64500, True),
        ("payment", "-", "-", None),
        ("user_agent", " Curl/8 ", "curl/8", True),
    ],
)
def test_values_are_compared_in_one_spelling(tmp_path: Path, kind: str, one: object, other: object, same: bool | None):
    rows = [{"account_id": "a", kind: one, "x": {}}, {"account_id": "b", kind: other}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_metadata([tmp_path / "x.jsonl"], KEY)
    if same is None:
        assert len(found) == 0
    else:
        assert (values(found, "a", kind) == values(found, "b", kind)) is same


def test_hashes_depend_on_the_key_and_the_kind(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('{"account_id": "a", "payment": "p", "signup": "p"}\n')
    one, other = (read_metadata([tmp_path / "x.jsonl"], key) for key in (KEY, KEY * 2))
    assert len(set(one.value.tolist()) | set(other.value.tolist())) == 4
    with pytest.raises(ValueError, match="the key has 3 bytes, expected 16 to 64"):
        read_metadata([], b"abc")


def test_of_many_values_accounts_keep_the_same_few():
    pairs = {name: {(0, value) for value in range(start, 1000)} for name, start in (("a", 0), ("b", 10))}
    found = AccountMetadata.of_pairs(pairs)
    assert values(found, "a", "ip") == set(range(MAX_VALUES))
    assert values(found, "b", "ip") == set(range(10, 10 + MAX_VALUES))
    again = AccountMetadata.joined([found, AccountMetadata.nothing(), found])
    assert np.array_equal(again.value, found.value)
    assert again.account_ids == found.account_ids
