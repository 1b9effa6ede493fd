"""Bars on a terminal, plain lines in a pipe, and brackets that are text in both."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
import warnings

import pytest
from rich.console import Console

from toolkit import console as module
from toolkit.console import (
    Event,
    echo,
    listening,
    printable,
    progress,
    quiet_libraries,
    show_error,
    show_table,
    silent_unless_listening,
)

STEPS = """
from toolkit.console import progress
with progress('stage a', 3) as steps:
    [steps.advance(loss=0.5) for _ in range(3)]
"""


def test_a_pipe_gets_plain_lines_without_control_characters() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    assert done.stdout == "stage a: 3/3 loss 0.5 elapsed 0:00:00 left 0:00:00\n"
    assert done.stderr == ""


def test_a_terminal_gets_a_moving_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=shown, force_terminal=True, width=120, markup=False))
    with progress("stage a", 3) as steps:
        for _ in range(3):
            steps.advance(loss=0.51234, speed="410 rows/s")
    assert "\x1b[" in shown.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue())
    assert "stage a" in plain
    assert "3/3 loss 0.5123 410 rows/s" in plain


def test_plain_lines_come_at_intervals_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(float(second) for second in range(100))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("rows", 40) as steps:  # one second a step, a line every ten
        for _ in range(40):
            steps.advance()
    lines = capsys.readouterr().out.splitlines()
    assert 3 <= len(lines) <= 5
    assert lines[-1].startswith("rows: 40/40")
    assert re.search(r"left 0:00:00$", lines[-1])


def test_time_left_follows_from_time_spent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 30.0, 30.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("rows", 100) as steps:
        steps.advance(25)
    assert capsys.readouterr().out.strip() == "rows: 25/100  elapsed 0:00:30 left 0:01:30"


def test_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    echo("labels [bold] and [/x] in [red]runs/[a][/red]")
    show_table("a [title]", ["label", "[n]"], [["[neg]", "[/1]"]])
    out = capsys.readouterr().out
    assert "labels [bold] and [/x] in [red]runs/[a][/red]" in out
    assert all(word in out for word in ("a [title]", "[n]", "[neg]", "[/1]"))


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    echo("word " * 100)
    assert capsys.readouterr().out.count("\n") == 1


def test_a_table_keeps_every_cell_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    row = ["runs/demo/a-rather-long-name-of-a-student", "0.8320", "57.41 MB", "9.43x [9.21, 9.66]", "PASS", "8.23 ms"]
    show_table("bench", ["bundle", "accuracy", "size", "speed-up", "verdict", "latency"], [row])
    out = capsys.readouterr().out
    assert all(cell in out for cell in row)


def test_no_cell_is_cut_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, row = ["", "threshold", "ms a text"], ["teacher alone", "0.8758", "5.89…"]
    shown = {}
    for width in (60, 26):
        out = io.StringIO()
        terminal = Console(file=out, force_terminal=True, width=width, soft_wrap=True, highlight=False)
        monkeypatch.setattr(module, "console", terminal)
        show_table("", columns, [row, row])
        shown[width] = out.getvalue()
    assert "┃" in shown[60]
    record = "teacher alone\nthreshold: 0.8758\nms a text: 5.89…\n"
    assert shown[26] == f"{record}\n{record}"


def test_time_left_counts_only_the_steps_of_this_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(float(second) for second in range(100))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("rows", 100, done=70) as steps:  # one second a step
        for _ in range(20):
            steps.advance()
    assert "rows: 80/100  elapsed 0:00:10 left 0:00:20" in capsys.readouterr().out


def test_libraries_are_quiet_inside_and_heard_outside(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    library = logging.getLogger("some.library")

    def talk(place: str) -> None:
        sys.stdout.write(f"printed {place}\n")
        warnings.warn(f"warned {place}", DeprecationWarning, stacklevel=1)
        library.warning("logged %s", place)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        talk("before")
        with quiet_libraries():
            talk("inside")
            library.error("an error is heard")
        with pytest.raises(ValueError, match="passes"), quiet_libraries():
            raise ValueError("passes")
        talk("after")
    assert capsys.readouterr().out == "printed before\nprinted after\n"
    assert [str(warning.message) for warning in caught] == ["warned before", "warned after"]
    assert caplog.messages == ["logged before", "an error is heard", "logged after"]


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("caf\u00e9 \x1b[2J\u202e\ud800\n") == r"caf\u00e9 \x1b[2J\u202e\ud800\n".replace(
        r"\u00e9", "\u00e9"
    )
    show_error("first\nsecond\r\x1b]0;title\x07")
    assert capsys.readouterr().err == "first\nsecond\\r\\x1b]0;title\\x07\n"
    show_table("", ("a",), [("\x1b[31mred\nnext",)])
    assert r"\x1b[31mred\nnext" in capsys.readouterr().out


def say_everything() -> None:
    echo("reading")
    with progress("stage a", 3, done=1) as steps:
        steps.advance(loss=0.5)
        steps.advance(speed="9 rows/s")
    show_table("scores", ("label", "n"), [("[a]", "1")])


def test_a_callback_gets_every_event_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    events: list[Event] = []
    with listening(events.append):
        say_everything()
    assert capsys.readouterr() == ("", "")
    message, first, second, table = events
    assert message == Event("reading")
    assert (first.name, first.done, first.total, dict(first.figures)) == ("stage a", 2, 3, {"loss": 0.5})
    assert (second.done, dict(second.figures)) == (3, {"speed": "9 rows/s"})
    assert str(second).startswith("stage a: 3/3 9 rows/s elapsed 0:00:00")
    assert table.text.splitlines()[-2].replace("│", " ").split() == ["[a]", "1"]
    say_everything()
    assert "reading" in capsys.readouterr().out, "after the callback has gone"


def test_silence_ends_where_a_caller_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with silent_unless_listening():
        say_everything()
    assert capsys.readouterr().out == ""
    with listening(), silent_unless_listening():
        say_everything()
    printed = capsys.readouterr().out
    say_everything()
    assert capsys.readouterr().out == printed, "as the command line prints"
    assert "stage a: 3/3" in printed
    assert "stage a: 2/3" not in printed, "a line every ten seconds, and the last"


def test_an_exception_of_the_callback_ends_the_work() -> None:
    def stop(event: Event) -> None:
        raise KeyboardInterrupt(event.text)

    with pytest.raises(KeyboardInterrupt, match="stage a: 2/3"), listening(lambda e: e.total and stop(e)):
        say_everything()
