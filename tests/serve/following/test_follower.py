from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.batch.job import Job, run
from serve.following.follower import Follower, Following
from serve.following.state import State
from serve.jobs.progress import Progress
from serve.scoring.scorer import Scorer

CANARY = "canary-5d1e"


@dataclass
class Watch:
    """A clock that tests move."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """A folder with a followed input and what is written of it."""

    folder: Path
    scorer: Scorer
    watch: Watch = field(default_factory=Watch)
    warnings: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out.jsonl"

    @contextmanager
    def follower(self, *inputs: Path, **more: Any) -> Iterator[Follower]:
        names = tuple(map(str, inputs))
        following = Following(names, self.out, self.folder / "rejects.jsonl", **more)
        with State.opened(following.state, (following.out, following.rejects)) as state:
            yield Follower(following, self.scorer, state, self.warnings.append, clock=self.watch)

    def verdicts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()] if self.out.exists() else []

    def names(self) -> list[str]:
        return [row["session_id"] for row in self.verdicts()]


@pytest.fixture
def desk(tmp_path: Path, tiny_scorer: Scorer) -> Desk:
    return Desk(tmp_path, tiny_scorer)


def row(account: str, prompt: str, at: float, session: str | None = None) -> dict[str, Any]:
    return {"account_id": account, "prompt": prompt, "at": at} | ({"session_id": session} if session else {})


def traffic(n_rows: int = 200) -> list[dict[str, Any]]:
    """Rows of a few accounts: with ids, without, with pauses, and more than fill a session."""
    words = ("sort a list", "bake a cake", "hello how are you", "fix the bug", "soup with leeks", "reverse a list")
    rows = []
    for index in range(n_rows):
        account = f"a{index % 4}"
        at = 1_700_000_000.0 + 10.0 * index + (7200.0 if index > n_rows // 2 else 0.0)
        rows.append(row(account, f"{words[index % 6]} {index}", at, f"s{index % 8}" if index % 4 == 3 else None))
    rows += [row("busy", f"write code {index}", 1_700_000_000.0 + index) for index in range(450)]
    return sorted(rows, key=lambda own: own["at"])


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(own) + "\n" for own in rows)


def by_name(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda own: (own["account_id"], own["session_id"]))


def batch(rows: Sequence[dict[str, Any]], desk: Desk, bundle: Path) -> list[dict[str, Any]]:
    folder = desk.folder / "batch"
    folder.mkdir()
    append(folder / "all.jsonl", rows)
    out = desk.folder / "batch.jsonl"
    job = Job((folder,), out, desk.folder / "batch-rejects.jsonl", bundle=bundle, n_workers=1)
    run(job, Progress(open(os.devnull, "w")))  # noqa: SIM115
    return by_name([json.loads(line) for line in out.read_text().splitlines()])


@pytest.mark.parametrize("n_steps", [1, 5])
def test_verdicts_are_those_of_a_batch_however_the_file_grows_and_the_follower_restarts(
    desk: Desk, bundle_folder: Path, n_steps: int
) -> None:
    rows, log = traffic(), desk.folder / "log.jsonl"
    log.touch()
    for step in range(n_steps):
        append(log, rows[step * len(rows) // n_steps : (step + 1) * len(rows) // n_steps])
        with desk.follower(log) as follower:
            follower.poll()
            follower.poll()
    assert 0 < len(desk.verdicts()) < 6  # the full sessions of the busy account
    desk.watch.now += 1801
    with desk.follower(log) as follower:
        follower.poll()
        assert follower.counts.n_waiting == 0
    assert by_name(desk.verdicts()) == batch(rows, desk, bundle_folder)
    before = desk.out.read_bytes()
    desk.watch.now += 1801
    with desk.follower(log) as follower:
        follower.poll()
    assert desk.out.read_bytes() == before


def test_a_line_counts_once_it_is_whole_and_a_session_once_it_is_over(desk: Desk) -> None:
    log = desk.folder / "log.jsonl"
    line = json.dumps(row("a", "sort a list", 1.0, "s")) + "\n"
    log.write_text(line + line[:20])
    with desk.follower(log, idle_s=60) as follower:
        follower.poll()
        assert (follower.counts.n_rows, follower.counts.n_waiting) == (1, 1)
        with log.open("a") as file:
            file.write(line[20:])
        desk.watch.now += 59
        follower.poll()
        assert (follower.counts.n_rows, follower.counts.n_waiting, desk.names()) == (2, 2, [])
        desk.watch.now += 59
        follower.poll()
        assert desk.names() == []
        desk.watch.now += 1
        follower.poll()
        assert [(own["session_id"], own["n_exchanges"]) for own in desk.verdicts()] == [("s", 2)]


def test_a_session_that_goes_on_after_its_verdict_has_another_name(desk: Desk) -> None:
    log = desk.folder / "log.jsonl"
    for nth in range(3):
        append(log, [row("a", f"sort a list {nth}", nth, "s"), row("b", f"bake a cake {nth}", nth, "s")])
        with desk.follower(log) as follower:
            follower.poll()
            desk.watch.now += 1800
            follower.poll()
    assert sorted(desk.names()) == ["s", "s", "s-2", "s-2", "s-3", "s-3"]


def move(log: Path, name: str) -> None:
    log.rename(log.with_name(name))


@pytest.mark.parametrize("name", ["log.jsonl.1", "log-1.jsonl"], ids=["unknown", "known"])
@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_a_file_that_is_rotated_is_read_to_its_end(desk: Desk, name: str, is_folder: bool) -> None:
    folder = desk.folder / "logs"
    folder.mkdir()
    log = folder / "log.jsonl"
    rows = [row("a", f"sort a list {index}", index, "s") for index in range(8)]
    append(log, rows[:2])
    with desk.follower(folder if is_folder else log) as follower:
        follower.poll()
    append(log, rows[2:4])
    move(log, name)
    with desk.follower(folder if is_folder else log) as follower:
        follower.poll()
        append(folder / name, rows[4:6])  # its writer hasn't opened the new file yet
        append(log, rows[6:])
        follower.poll()
        assert follower.counts.n_rows == 6
        move(folder / name, "log.jsonl.2")
        follower.poll()
        desk.watch.now += 1800
        follower.poll()
        assert follower.counts.n_rows == 6
    assert [own["n_exchanges"] for own in desk.verdicts()] == [8]
    assert desk.warnings == []


def test_a_file_that_is_cut_is_read_anew_with_a_sentence(desk: Desk) -> None:
    log = desk.folder / "log.jsonl"
    append(log, [row("a", f"sort a list {index}", index, "s") for index in range(3)])
    with desk.follower(log) as follower:
        follower.poll()
        log.write_text("")
        append(log, [row("a", "bake a cake", 9.0, "s")])
        follower.poll()
        follower.poll()
        assert follower.counts.n_rows == 4
    assert [text.partition(":")[0].rpartition("/")[2] for text in desk.warnings] == ["log.jsonl was cut"]


def parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist([{"session_id": None} | own for own in rows]), path)


def test_new_parts_of_a_folder_are_read_once_when_they_are_whole(desk: Desk, bundle_folder: Path) -> None:
    rows, folder = traffic(80), desk.folder / "table"
    folder.mkdir()
    with desk.follower(folder) as follower:
        follower.poll()
        parquet(folder / "a.parquet", rows[:200])
        whole = (folder / "a.parquet").read_bytes()
        (folder / "b.parquet").write_bytes(whole[: len(whole) // 2])
        follower.poll()
        follower.poll()
        assert follower.counts.n_rows == 200
        assert len(desk.warnings) == 1
        assert desk.warnings[0].endswith("it is tried again")
        parquet(folder / "b.parquet", rows[200:300])
        (folder / "c.jsonl.gz").write_bytes(
            gzip.compress("".join(json.dumps(own) + "\n" for own in rows[300:]).encode())
        )
        follower.poll()
        (folder / "b.parquet").rename(folder / "d.parquet")
        follower.poll()
    with desk.follower(folder) as follower:
        desk.watch.now += 1800
        follower.poll()
        assert follower.counts.n_rows == 0
        parquet(folder / "a.parquet", rows[:10])
        follower.poll()
        assert follower.counts.n_rows == 0
    assert desk.warnings[1:] == [f"{folder / 'a.parquet'} has changed since it was read: it is not read again"]
    assert by_name(desk.verdicts()) == batch(rows, desk, bundle_folder)


def test_a_compressed_copy_of_what_was_read_is_left_out(desk: Desk) -> None:
    folder = desk.folder / "logs"
    folder.mkdir()
    append(folder / "log.jsonl", [row("a", f"sort a list {index}", index) for index in range(40)])
    with desk.follower(folder) as follower:
        follower.poll()
        (folder / "log.1.jsonl.gz").write_bytes(gzip.compress((folder / "log.jsonl").read_bytes()))
        (folder / "log.jsonl").unlink()
        follower.poll()
        follower.poll()
        assert follower.counts.n_rows == 40
    assert len(desk.warnings) == 1


def test_what_waits_is_bounded(desk: Desk) -> None:
    log = desk.folder / "log.jsonl"
    append(log, [row(f"a{index:03}", f"sort a list {turn}", turn, "s") for index in range(50) for turn in range(4)])
    with desk.follower(log, max_waiting=100) as follower:
        follower.poll()
        assert follower.counts.n_waiting == 72
    assert sorted(own["account_id"] for own in desk.verdicts()) == [f"a{index:03}" for index in range(32)]


def test_rejects_are_appended_with_their_lines_and_never_quoted(desk: Desk) -> None:
    log = desk.folder / "log.jsonl"
    for _ in range(2):
        append(log, [row("a", "sort a list", 1.0), {"prompt": CANARY}])
        with log.open("a") as file:
            file.write(f"{CANARY}\n\n")
        with desk.follower(log) as follower:
            follower.poll()
            assert (follower.counts.n_rows, follower.counts.reasons.total()) == (3, 2)
            assert not follower.counts.is_clean
    text = (desk.folder / "rejects.jsonl").read_text()
    assert CANARY not in text
    assert [json.loads(line)["line"] for line in text.splitlines()] == [2, 3, 6, 7]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("place", ["before", "half", "after"])
def test_an_end_at_any_moment_loses_and_repeats_nothing(
    desk: Desk, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    rows, log = traffic(40), desk.folder / "log.jsonl"
    append(log, rows)
    with desk.follower(log) as follower:
        follower.poll()
    desk.watch.now += 1800

    def ending(path: Path, n_before: int, data: bytes) -> None:
        if place != "before":
            with path.open("ab") as file:
                file.write(data if place == "after" else data[: len(data) // 2])
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed), desk.follower(log) as follower:  # noqa: PT012
        patch.setattr("serve.following.state.append_once", ending)
        follower.poll()
    with desk.follower(log) as follower:
        follower.poll()
    assert by_name(desk.verdicts()) == batch(rows, desk, bundle_folder)


def test_an_output_may_be_taken_away_but_not_changed(desk: Desk) -> None:
    log = desk.folder / "log.jsonl"

    def judged(nth: int) -> None:
        append(log, [row("a", f"sort a list {nth}", nth, f"s{nth}")])
        with desk.follower(log) as follower:
            follower.poll()
            desk.watch.now += 1800
            follower.poll()

    judged(0)
    judged(1)
    desk.out.rename(desk.folder / "taken.jsonl")
    judged(2)
    assert desk.names() == ["s2"]
    append(desk.out, [{"session_id": "other"}])
    judged(3)
    assert desk.names() == ["s2", "other", "s3"]


def begun(desk: Desk) -> Path:
    log = desk.folder / "log.jsonl"
    append(log, [row("a", "sort a list", 1.0)])
    with desk.follower(log) as follower:
        follower.poll()
    return log


def spoilt(desk: Desk) -> None:
    begun(desk)
    (desk.folder / "_out.jsonl.follow").write_bytes(b"no database" * 100)


def strange(desk: Desk) -> None:
    append(desk.out, [{"session_id": "other"}])


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [(spoilt, "is no state of a follower"), (strange, "no state of a follower beside it")],
    ids=["spoilt", "strange"],
)
def test_what_can_not_be_gone_on_with_is_refused(desk: Desk, prepare: Callable[[Desk], None], sentence: str) -> None:
    prepare(desk)
    with pytest.raises(ValueError, match=sentence), desk.follower(desk.folder / "log.jsonl"):
        pass


def test_two_followers_never_write_one_output(desk: Desk) -> None:
    log = begun(desk)
    with desk.follower(log), pytest.raises(ValueError, match="another job is at work"), desk.follower(log):
        pass


def test_the_state_is_its_owners_alone(desk: Desk) -> None:
    begun(desk)
    assert (desk.folder / "_out.jsonl.follow").stat().st_mode & 0o777 == 0o600
