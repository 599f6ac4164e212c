"""Summary: what a batch job did, as a record and as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from serve.jobs.progress import span
from serve.sessions.wording import counted

MAX_REJECTED_SHARE = 0.05
"""Share of rows above which a job that wrote everything still says that something is wrong."""


@dataclass(frozen=True, slots=True)
class ClearAccount:
    """One of the clearest accounts: its label, p-value (0-1) and exchanges."""

    account_id: str
    label: str
    p_value: float
    n_exchanges: int


@dataclass(frozen=True)
class Summary:
    """What a job did: rows read (`n_untimed` of them usable, but without a time; `notes` counts what was made of usable
    rows), exchanges scored (`n_altered` as `canonical_text.is_altered` finds them), rejects by reason, verdicts
    flagged, seconds by stage (added over workers), seconds on the clock and the sum of the most memory that each
    process held.
    """

    n_files: int
    n_ignored: int
    n_rows: int
    n_untimed: int
    n_left_out: int
    n_exchanges: int
    n_sessions: int
    n_accounts: int
    n_flagged: int
    n_flagged_accounts: int
    n_undecided: int
    reasons: Mapping[str, int]
    notes: Mapping[str, int]
    n_altered: int
    seconds: Mapping[str, float]
    clock_seconds: float
    n_processes: int
    peak_bytes: int
    written: Mapping[str, int]
    clearest: tuple[ClearAccount, ...] = ()

    @property
    def n_rejected(self) -> int:
        """Rows that couldn't be used."""
        return sum(self.reasons.values())

    @property
    def is_clean(self) -> bool:
        """Whether no more than `MAX_REJECTED_SHARE` of the rows were rejected."""
        return self.n_rejected <= MAX_REJECTED_SHARE * self.n_rows


def summary_record(summary: Summary) -> dict[str, Any]:
    """The summary as plain values for JSON: its fields by name, and `n_rejected` and `is_clean`; seconds, and bytes."""
    found = {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(summary).items()}
    clearest = [asdict(account) for account in summary.clearest]
    return found | {"clearest": clearest, "n_rejected": summary.n_rejected, "is_clean": summary.is_clean}


def summary_text(summary: Summary) -> str:
    """The summary as lines."""
    width = 10
    return "\n".join(f"{name:<{width}} {text}" for name, text in _lines(summary))


def _lines(summary: Summary) -> Iterator[tuple[str, str]]:
    ignored = f" ({counted(summary.n_ignored, 'file')} of other kinds left out)" if summary.n_ignored else ""
    yield "read", f"{counted(summary.n_rows, 'row')} of {counted(summary.n_files, 'file')}{ignored}"
    if summary.n_untimed:
        yield "untimed", f"{_without_time(summary.n_untimed)} (column at): ordered as they came, cut by no pause"
    for note, count in summary.notes.items():
        yield "noted", f"{count:,} {note}"
    if summary.n_left_out:
        yield "sample", f"{counted(summary.n_left_out, 'row')} of other accounts left out"
    own = counted(summary.n_exchanges, "exchange"), counted(summary.n_sessions, "session")
    yield "scored", f"{', '.join(own)}, {counted(summary.n_accounts, 'account')}"
    if summary.n_altered:
        altered = counted(summary.n_altered, "prompt")
        yield "altered", f"{altered} with hidden characters or look-alikes (by account: altered_prompts)"
    yield "rejected", f"{counted(summary.n_rejected, 'row')} ({summary.n_rejected / max(summary.n_rows, 1):.2%})"
    for reason, count in summary.reasons.items():
        yield "", f"  {count:,} {reason}"
    yield "flagged", f"{counted(summary.n_flagged, 'session')}, {counted(summary.n_flagged_accounts, 'account')}"
    if summary.n_undecided:
        yield "undecided", f"{counted(summary.n_undecided, 'session')}: too short, or of a size that can't be judged"
    stages = ", ".join(f"{stage} {span(seconds)}" for stage, seconds in summary.seconds.items())
    processes = counted(summary.n_processes, "process", "processes")
    yield "time", f"{span(summary.clock_seconds)} on the clock; work of {processes}: {stages}"
    yield "memory", f"{summary.peak_bytes / 2**20:,.0f} MiB (the peaks of all processes together)"
    for path, size in summary.written.items():
        yield "wrote", f"{path} ({size:,} bytes)"


def _without_time(n_rows: int) -> str:
    return f"{counted(n_rows, 'row')} {'has' if n_rows == 1 else 'have'} no time"
