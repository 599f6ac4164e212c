from __future__ import annotations

import dataclasses

from serve.jobs.summary import Summary, summary_text

SUMMARY = Summary(
    n_files=2, n_ignored=1, n_rows=1000, n_untimed=0, n_left_out=0, n_exchanges=950, n_sessions=20, n_accounts=10,
    n_flagged=3, n_flagged_accounts=2, n_undecided=5, reasons={"not JSON": 30, "prompt is blank": 20},
    notes={"times in milliseconds": 7}, n_altered=4,
    seconds={"read": 0.5, "encode": 70.0}, clock_seconds=40.0, n_processes=2,
    peak_bytes=5 << 20, written={"out.jsonl": 123_456},
)  # fmt: skip


def test_all_that_was_read_is_accounted_for() -> None:
    assert summary_text(SUMMARY).splitlines() == [
        "read       1,000 rows of 2 files (1 file of other kinds left out)",
        "noted      7 times in milliseconds",
        "scored     950 exchanges, 20 sessions, 10 accounts",
        "altered    4 prompts with hidden characters or look-alikes (by account: altered_prompts)",
        "rejected   50 rows (5.00%)",
        "             30 not JSON",
        "             20 prompt is blank",
        "flagged    3 sessions, 2 accounts",
        "undecided  5 sessions: too short, or of a size that can't be judged",
        "time       40 s on the clock; work of 2 processes: read 0.5 s, encode 1 min 10 s",
        "memory     5 MiB (the peaks of all processes together)",
        "wrote      out.jsonl (123,456 bytes)",
    ]


def test_a_sample_says_what_it_left_out() -> None:
    assert "sample     40 rows of other accounts left out" in summary_text(dataclasses.replace(SUMMARY, n_left_out=40))


def test_rows_without_a_time_are_told() -> None:
    expected = "untimed    40 rows have no time (column at): ordered as they came, cut by no pause"
    assert expected in summary_text(dataclasses.replace(SUMMARY, n_untimed=40)).splitlines()


def test_just_five_percent_is_clean() -> None:
    assert SUMMARY.is_clean
    assert not dataclasses.replace(SUMMARY, reasons={"not JSON": 51}).is_clean
