"""What logs are imported to is private, is used again only as it was written, and is nobody else's folder."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.io.discovery import InputError
from serve.io.import_folder import make_folder
from serve.io.importing import Choice
from serve.io.inputs import Inputs, prepared


def log(path: Path, text: str) -> Path:
    body = {"user": "ann", "messages": [{"role": "user", "content": text}]}
    path.write_text(json.dumps(body) + "\n")
    return path


def interrupted(source: Path, folder: Path, *, resume: bool | None) -> Inputs:
    """What was imported by a command that Ctrl-C stopped."""
    with contextlib.suppress(KeyboardInterrupt), prepared([source], folder, Choice(), resume=resume) as inputs:
        raise KeyboardInterrupt
    return inputs


def test_only_the_owner_reads_imported_prompts(tmp_path: Path) -> None:
    folder = tmp_path / "_out.import"
    folder.mkdir(mode=0o777)
    before = os.umask(0)
    try:
        with prepared([log(tmp_path / "a.jsonl", "sort a list")], folder, Choice()) as inputs:
            assert inputs.paths[0].parent == folder
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert not folder.exists()


def test_prompts_stay_only_where_a_command_can_be_resumed(tmp_path: Path) -> None:
    source, folder = log(tmp_path / "a.jsonl", "sort a list"), tmp_path / "_out.import"
    interrupted(source, folder, resume=None)
    assert not folder.exists()
    interrupted(source, folder, resume=False)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "change",
    [
        lambda path: None,
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.unlink(),
        lambda path: path.with_name("imported-more.parquet").write_bytes(path.read_bytes()),
        lambda path: path.with_name("imported.json").write_text("["),
        lambda path: path.with_name("imported.json").write_text("[]"),
        lambda path: path.with_name("imported.json").unlink(),
        lambda path: path.with_name("rejects.jsonl").write_text("{}\n"),
    ],
)
def test_changed_files_are_imported_again(tmp_path: Path, change: Callable[[Path], object]) -> None:
    source, folder = log(tmp_path / "a.jsonl", "sort a list"), tmp_path / "_out.import"
    (path,) = interrupted(source, folder, resume=False).paths
    whole = path.read_bytes()
    change(path)
    with prepared([source], folder, Choice(), resume=True) as inputs:
        assert inputs.paths == (path,)
        assert path.read_bytes() == whole
        assert [reading.n_prompts for reading in inputs.readings] == [1]
        assert inputs.rejects.read_text() == ""


def test_a_folder_of_something_else_is_refused_and_stays(tmp_path: Path) -> None:
    source, folder = log(tmp_path / "a.jsonl", "sort a list"), tmp_path / "_out.import"
    folder.mkdir()
    (folder / "mine").write_text("x")
    with pytest.raises(InputError, match="is in the way"), prepared([source], folder, Choice()):
        pass
    assert (folder / "mine").read_text() == "x"
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").write_text("x")
    for name in ("link", "file"):
        with pytest.raises(InputError, match="is in the way: it is no folder"):
            make_folder(tmp_path / name)


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_out.import").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(InputError, match="belongs to another user"):
        make_folder(tmp_path / "_out.import")


@pytest.mark.parametrize("resume", [None, False, True])
def test_a_second_job_leaves_the_first_one_its_imported_logs(tmp_path: Path, resume: bool | None) -> None:
    source, folder = log(tmp_path / "a.jsonl", "sort a list"), tmp_path / "_out.import"
    with prepared([source], folder, Choice(), resume=resume) as inputs:
        before = inputs.paths[0].read_bytes()
        with pytest.raises(ValueError, match="another job is at work there"):
            contextlib.ExitStack().enter_context(prepared([source], folder, Choice(), resume=resume))
        assert inputs.paths[0].read_bytes() == before
    with prepared([source], folder, Choice(), resume=resume) as again:
        assert again.paths[0].read_bytes() == before
