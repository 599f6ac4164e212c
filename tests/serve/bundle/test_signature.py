"""A bundle is used only where the key that is required signed its manifest, which lists every file."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from serve.bundle.bundle import Bundle
from serve.bundle.files import MANIFEST, SIGNATURE, BundleError
from serve.bundle.manifest import verify
from serve.bundle.signature import REQUIRED_BY, SignerKey, requiring
from serve.cli import main

MADE_BY_MINISIGN = "RWSdM8Nh4stohAvUsmQAAwHBHgE1nzD+ZNQi3R74gdN4jiFs2nQsDANE"
SIGNED_BY_MINISIGN = """untrusted comment: signature from minisign secret key
RUSdM8Nh4stohMkD3Bi6hGEdnCIhR7aVtgQOuUDEdeFEsNREgtdgn2AgrVLqvdYELxFOtL9dgcW7cPQD07NnQ1GzDBReiBzvuAc=
trusted comment: timestamp:1796050333	file:manifest.json	hashed
0NK4l45ajPOksadAOHbNB5kzOXsv4+RoAXX19s2BBaU1DLXK0Vc208ein6MwvId6HOlmlklpB/dpdsGA+r4YCQ==
"""


class Signer:
    """Signs as minisign does."""

    def __init__(self, number: int) -> None:
        self.own = Ed25519PrivateKey.from_private_bytes(bytes([number] * 32))
        self.key_id = bytes([number] * 8)

    @property
    def key(self) -> str:
        public = self.own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(b"Ed" + self.key_id + public).decode()

    def sign(self, folder: Path, comment: str = "timestamp:1") -> None:
        signature = self.own.sign(hashlib.blake2b((folder / MANIFEST).read_bytes()).digest())
        whole = self.own.sign(signature + comment.encode())
        lines = (
            "untrusted comment: anything",
            base64.b64encode(b"ED" + self.key_id + signature).decode(),
            f"trusted comment: {comment}",
            base64.b64encode(whole).decode(),
        )
        (folder / SIGNATURE).write_text("".join(f"{line}\n" for line in lines))


OWN, OTHER = Signer(1), Signer(2)


def test_a_signature_that_minisign_made_is_good(tmp_path: Path) -> None:
    signer, path = SignerKey.of(MADE_BY_MINISIGN), tmp_path / SIGNATURE
    path.write_text(SIGNED_BY_MINISIGN)
    signer.check(b'{"a": 1}\n', path)
    assert signer.name == "8468CBE261C3339D"
    assert str(signer) == MADE_BY_MINISIGN
    with pytest.raises(BundleError, match="is not of the manifest beside it, expected a signature of its manifest by"):
        signer.check(b'{"a": 2}\n', path)
    path.write_text(path.read_text().replace("hashed", "HASHED"))
    with pytest.raises(BundleError, match="is not of the manifest beside it"):
        signer.check(b'{"a": 1}\n', path)


def line(number: int, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = (folder / SIGNATURE).read_text().split("\n")
        lines[number] = text
        (folder / SIGNATURE).write_text("\n".join(lines))

    return change


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no signature": (lambda folder: (folder / SIGNATURE).unlink(), f"holds no {SIGNATURE}, expected a signature"),
    "of another key": (OTHER.sign, "is by another key, expected a signature of its manifest by key 0101010101010101"),
    "of another manifest": (lambda folder: append(folder / MANIFEST), "is not of the manifest beside it"),
    "nothing": (lambda folder: (folder / SIGNATURE).write_bytes(b"") and None, "is no signature of a digest"),
    "garbage": (lambda folder: (folder / SIGNATURE).write_bytes(b"\xff" * 99999) and None, "is no signature"),
    "no base64": (line(1, "RUS*"), "is no signature of a digest by minisign"),
    "a short one": (line(3, "RUSd"), "is no signature of a digest by minisign"),
    "another comment": (line(2, "trusted comment: timestamp:2"), "is not of the manifest beside it"),
    "no comment": (line(2, "timestamp:1"), "is no signature of a digest by minisign"),
}  # fmt: skip


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize("kind", FORGED)
def test_a_bundle_without_a_good_signature_is_refused(copied_bundle: Callable[[], Path], kind: str) -> None:
    forge, said = FORGED[kind]
    folder = copied_bundle()
    OWN.sign(folder)
    with requiring(OWN.key):
        assert verify(folder)
        forge(folder)
        with pytest.raises(BundleError, match=said):
            verify(folder)


def test_a_signature_that_nobody_requires_changes_nothing(copied_bundle: Callable[[], Path]) -> None:
    folder = copied_bundle()
    before = verify(folder)
    OTHER.sign(folder)
    assert verify(folder) == before


def test_a_changed_file_is_refused_though_the_manifest_is_signed(copied_bundle: Callable[[], Path]) -> None:
    folder = copied_bundle()
    OWN.sign(folder)
    append(folder / "classifier.txt")
    with requiring(OWN.key), pytest.raises(BundleError, match=r"classifier\.txt has \d+ bytes, expected"):
        verify(folder)


@pytest.mark.parametrize("given", ["", "RWS", "no/such/file", MADE_BY_MINISIGN[:-4], "\0", "é"])
def test_what_is_no_key_is_refused_and_not_quoted(given: str) -> None:
    with pytest.raises(ValueError, match=r"^the key that signatures are required of is neither"), requiring(given):
        raise AssertionError("not reached")


def test_commands_take_a_key_or_its_file_and_forget_it(
    copied_bundle: Callable[[], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv(REQUIRED_BY, raising=False)
    folder, public = copied_bundle(), tmp_path / "signer.pub"
    public.write_text(f"untrusted comment: minisign public key\n{OWN.key}\n")
    source = tmp_path / "in.jsonl"
    source.write_text('{"account_id": "a", "prompt": "sort a list"}\n')
    score = ["score", str(source), "--out", str(tmp_path / "out.jsonl"), "--bundle", str(folder), "--workers", "1"]
    assert main([*score, "--require-signed", str(public)]) == 2
    assert capsys.readouterr().err.endswith("expected a signature of its manifest by key 0101010101010101\n")
    assert not (tmp_path / "out.jsonl").exists()
    OWN.sign(folder)
    for key in (str(public), OWN.key):
        assert main(["bundle", "show", str(folder), "--require-signed", key]) == 0
        assert REQUIRED_BY not in os.environ
    assert main(["bundle", "show", str(folder), "--require-signed", OTHER.key]) == 2
    assert "is by another key" in capsys.readouterr().err


def test_the_variable_requires_it_of_every_door(
    copied_bundle: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied_bundle()
    monkeypatch.setenv(REQUIRED_BY, OWN.key)
    with pytest.raises(BundleError, match=f"holds no {SIGNATURE}"):
        Bundle.untried(folder)
    OWN.sign(folder)
    assert Bundle.load(folder).folder == folder
