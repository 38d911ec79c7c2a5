"""Progress and tables in a terminal, in a file, and in a narrow window."""

import re
import sys

from segxai.cli import terminal
from segxai.text import significant


def test_progress_in_a_file_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(terminal, "monotonic", lambda: next(clock))
    progress = terminal.TerminalProgress()
    progress.begin("explain", 10)
    for _ in range(10):
        progress.advance(1)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert 2 < len(lines) < 10
    assert all(re.match(r"explain: \d+%, \d+ (s|min) left$", line) for line in lines)


def test_no_time_is_said_before_anything_is_done(capsys, monkeypatch):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(terminal, "monotonic", lambda: next(clock))
    progress = terminal.TerminalProgress()
    progress.begin("explain", 10)
    progress.advance(0)
    assert capsys.readouterr().err == "explain: 0%\n"


def test_progress_of_a_short_job_is_silent(capsys):
    progress = terminal.TerminalProgress()
    progress.begin("explain", 2)
    progress.advance(1)
    progress.begin("explain", 0)
    progress.advance(1)
    progress.close()
    assert capsys.readouterr().err == ""


def test_progress_in_a_terminal_is_a_bar_with_the_time_left(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    progress = terminal.TerminalProgress()
    progress.begin("explain", 4)
    progress.advance(1)
    progress.say("warning: mind the gap")
    progress.close()
    text = capsys.readouterr().err
    assert "25%," in text
    assert " left" in text
    assert "mind the gap" in text


def test_nothing_of_a_wide_table_is_cut_off(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal.print_table([{"a": "x" * 300, "b": 1.0}], {"a": "first", "b": "second"})
    assert "x" * 300 in capsys.readouterr().out


def test_no_number_is_cut_off_in_a_narrow_window(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    row = {"words": "some words to wrap"} | {f"n{i}": 1.25e-7 * i for i in range(1, 9)}
    terminal.print_table([row], {name: name for name in row})
    printed = capsys.readouterr().out
    assert all(significant(row[f"n{i}"]) in printed for i in range(1, 9))
    assert "some words to wrap" not in printed
    assert "wrap" in printed
