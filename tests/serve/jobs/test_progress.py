from __future__ import annotations

import io

import pytest

from serve.jobs.progress import Progress, span


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tell_all(stream: io.StringIO, *, n_before: int = 0) -> str:
    now = [0.0]
    with Progress(stream, clock=lambda: now[0]) as progress:
        progress.begin("judge", n_before)
        for step in range(1, 61):
            now[0] = float(step)
            progress.tell(n_before + step * 100, 12_000, "exchanges", " (5 sessions)")
    return stream.getvalue()


def test_plain_lines_come_every_ten_seconds() -> None:
    lines = tell_all(io.StringIO()).splitlines()
    assert len(lines) == 6
    assert lines[0] == "judge 1,000 of 12,000 exchanges (5 sessions), 100/s, 1 min 50 s left"


def test_what_an_earlier_run_did_has_no_part_in_the_rate() -> None:
    assert "100/s, 50 s left" in tell_all(io.StringIO(), n_before=6_000).splitlines()[0]


def test_a_terminal_has_one_line_that_is_clean_in_the_end() -> None:
    text = tell_all(Terminal())
    assert "\n" not in text
    assert text.endswith("\r\x1b[K")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (9.9, "9.9 s"), (59.0, "59 s"), (61.0, "1 min 1 s"), (7260.0, "2 h 1 min")]
)
def test_spans_are_as_people_say_them(seconds: float, said: str) -> None:
    assert span(seconds) == said
