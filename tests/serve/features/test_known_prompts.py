from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from serve.cli import main
from serve.features.known_prompts import MIN_CHARS, KnownPrompts
from serve.sessions.records import Exchange, Session, Sessions
from train.corpora.known_sets import main as seeds

NAMES = [hashlib.blake2b(str(index).encode(), digest_size=8).hexdigest() for index in range(2000)]
PUBLIC = [f"{name[:6]}, explain the theorem of {name[6:]}." for name in NAMES]
OTHERS = [f"What is on shelf {index} of the storage room?" for index in range(20_000)]


@pytest.fixture(scope="module")
def known() -> KnownPrompts:
    return KnownPrompts.of("public", [*PUBLIC, PUBLIC[0].upper(), "hello"], 0.01)


def session(*prompts: str) -> Session:
    return Session("s", "a", tuple(map(Exchange, prompts)))


def test_a_public_prompt_is_known_however_it_is_typed_and_another_is_not(known: KnownPrompts) -> None:
    assert known.n_prompts == len(PUBLIC)
    typed = [
        PUBLIC[3].lower(),
        f"  {PUBLIC[4]}\n",
        PUBLIC[5].replace(" ", "  ").rstrip(".") + "!!",
        PUBLIC[6] + "\u200b",
    ]
    sessions = Sessions.of([session(*typed, OTHERS[0]), session(OTHERS[1]), session("hello", "hello")])
    assert known.counts(sessions).tolist() == [4, 0, 0]
    assert len("hello") < MIN_CHARS


def test_the_wrapper_of_a_session_hides_nothing(known: KnownPrompts) -> None:
    wrapped = [f"You are a helpful assistant of our shop. {text}" for text in PUBLIC[:8]]
    assert known.counts(Sessions.of([session(*wrapped), session(*PUBLIC[:8])])).tolist() == [8, 8]


def test_few_others_pass_for_known_and_none_is_missed(known: KnownPrompts) -> None:
    wrong = sum(known.counts(Sessions.of([session(text) for text in OTHERS])).tolist())
    assert 0.004 * len(OTHERS) < wrong < 0.02 * len(OTHERS)
    assert known.counts(Sessions.of([session(*PUBLIC)])).tolist() == [len(PUBLIC)]


def test_a_filter_is_compact_and_read_as_it_was_written(known: KnownPrompts, tmp_path: Path) -> None:
    path = tmp_path / "public.filter"
    known.write(path)
    assert path.stat().st_size < len(PUBLIC) * 10 / 8 + 400
    again = KnownPrompts.read(path)
    assert (again.name, again.n_prompts, again.fpr) == ("public", len(PUBLIC), 0.01)
    sessions = Sessions.of([session(*PUBLIC[:9], *OTHERS[:9])])
    assert again.counts(sessions).tolist() == known.counts(sessions).tolist()


def forged(bits: bytes, **about: object) -> bytes:
    header = {"name": "n", "n_prompts": 1, "fpr": 0.1, "sha256": hashlib.sha256(bits).hexdigest()} | about
    return b"stillwatch known prompts 1\n" + json.dumps(header).encode() + b"\n" + bits


@pytest.mark.parametrize(
    "data",
    [
        b"", b"canary", b"stillwatch known prompts 1\n", b"stillwatch known prompts 1\n[]\n", forged(b""),
        forged(b"\xff" * 99), forged(bytes(99)), forged(b"\1" + bytes(7)), forged(b"\1" + bytes(99), sha256="0"),
        forged(b"\1" + bytes(99), fpr=2.0), forged(b"\1" + bytes(99), name=7),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=str(path)) as fault:
        KnownPrompts.read(path)
    assert "canary" not in str(fault.value)


def test_seeds_are_read_from_any_layout_and_score_and_explain_tell_of_them(
    tmp_path: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, chats = tmp_path / "texts.jsonl", tmp_path / "chats.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in PUBLIC[:50]))
    rows = [{"id": str(n), "conversations": [{"from": "human", "value": PUBLIC[50 + n]}, {"from": "gpt", "value": "x"}]}
            for n in range(50)]  # fmt: skip
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    public = tmp_path / "public.filter"
    assert seeds([str(texts), str(chats), "--out", str(public)]) == 0
    assert capsys.readouterr().out.startswith("100 prompts in ")
    log, out = tmp_path / "log.jsonl", tmp_path / "v.jsonl"
    prompts = {"a": [*PUBLIC[:3], OTHERS[0]], "b": OTHERS[:4], "c": [*OTHERS[:3], PUBLIC[99]]}
    rows = [{"account_id": name, "session_id": name, "prompt": text} for name in prompts for text in prompts[name]]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--bundle", str(bundle_folder), "--known-prompts", str(public)]
    assert main(["score", str(log), "--out", str(out), *given]) == 0
    assert "2 of 3 sessions have public prompts; of 1 they are half or more" in capsys.readouterr().out
    found = [json.loads(line) for line in (tmp_path / "v.jsonl.known.jsonl").read_text().splitlines()]
    assert sorted((row["session_id"], row["n_known"], row["known_share"]) for row in found) == [
        ("a", 3, 0.75), ("c", 1, 0.25),
    ]  # fmt: skip
    assert main(["explain", str(log), "--session", "a", *given]) == 0
    assert "3 prompts of 4 in public sets (texts, chats); not judged by" in capsys.readouterr().out
    assert main(["explain", str(log), "--session", "a", "--json", *given]) == 0
    assert json.loads(capsys.readouterr().out)["n_known_prompts"] == 3
    assert main(["score", str(log), "--out", str(out), *given[:3], str(log)]) == 2
    assert "holds no filter of known prompts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.jsonl"], "none.jsonl doesn't exist"),
        (["--fpr", "0", "."], "fpr is 0"),
        (["rows.jsonl", "--column", "nope"], "rows.jsonl: no column nope with texts; its columns: question, level"),
        (["list.txt", "--column", "nope"], "list.txt: no column nope with texts; its columns: none"),
        (["rows.jsonl"], "rows.jsonl: no column text and no known format"),
        (["empty.txt"], "1 file without a prompt, expected public sets"),
    ],
)
def test_seeds_says_what_is_wrong(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"question": "my canary sings", "level": 3}\n' * 3)
    Path("list.txt").write_text("my canary sings, loud and clear\nyes, it does\n")
    Path("empty.txt").write_text("\n\n")
    assert seeds([*arguments, "--out", str(tmp_path / "f")]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert "canary" not in told


def test_seeds_are_read_from_a_text_line_by_line_and_from_json_in_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = tmp_path / "sets"
    sets.mkdir()
    (sets / "list.txt").write_text("\n\n".join(PUBLIC[:20]))
    (sets / "rows.json").write_text(json.dumps([{"question": "x", "text": text} for text in PUBLIC[20:50]]))
    (sets / "README.md").write_text("What these are")
    assert seeds([str(sets), "--out", str(tmp_path / "f")]) == 0
    assert capsys.readouterr().out.startswith("50 prompts in ")
