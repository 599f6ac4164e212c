from __future__ import annotations

import io

import pytest

from serve.jobs import stages
from serve.jobs.stages import Stages, begin


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_says_the_stage_and_about_what_is_left() -> None:
    now = [0.0]
    with Stages(io.StringIO(), {"read": 0.1, "learn": 0.6, "write": 0.3}, clock=lambda: now[0]) as shown:
        begin("read")
        now[0] = 4.0
        assert shown.line() == "1 of 3: read, 4.0 s"
        now[0] = 10.0
        begin("learn")
        assert shown.line() == "2 of 3: learn, 0.0 s, about 1 min 30 s left"
        now[0] = 40.0
        assert shown.line() == "2 of 3: learn, 30 s, about 1 min 0 s left"
        now[0] = 200.0
        assert shown.line().endswith("about 30 s left")  # at least what comes after
        begin("other")
        assert shown.line() == "other, 0.0 s"


def test_nothing_is_said_in_a_pipe_and_nobody_has_to_listen() -> None:
    pipe = io.StringIO()
    begin("unheard")
    with Stages(pipe, {}):
        begin("read")
    assert pipe.getvalue() == ""


def test_a_terminal_is_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_REDRAW_S", 0.01)
    terminal = Terminal()
    with Stages(terminal, {"read": 1.0}) as shown:
        begin("read")
        while "read" not in terminal.getvalue():
            assert shown._thread is not None
            shown._ended.wait(0.01)
    assert terminal.getvalue().endswith("\r\x1b[K")
