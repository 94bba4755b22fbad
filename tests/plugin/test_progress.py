"""Progress: a bar on a terminal, lines elsewhere, and nothing of either in pytest's own output."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from plugin.project import NO_LATENCY, Project
from pytest_ptq.plugin.progress import ProgressDisplay


class FakeTerminal:
    """Writes where a terminal reporter would, and notes that it was asked for a fresh line."""

    def __init__(self, isatty: bool) -> None:
        self.isatty = isatty
        self.lines: list[str] = []
        self.fresh = 0

    def ensure_newline(self) -> None:
        self.fresh += 1

    def write_line(self, line: str) -> None:
        self.lines.append(line)


class Clock:
    """Each look at it takes `step` seconds."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def screen(raw: str) -> list[str]:
    """What a terminal shows after `raw`: later text covers earlier text wherever the cursor has been moved to."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[\d*[AC]|.|\n|\r", raw):
        if token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif token == "\r":
            column = 0
        elif token.endswith("A") and len(token) > 1:
            row -= int(token[2:-1] or 1)
        elif token.endswith("C") and len(token) > 1:
            column += int(token[2:-1] or 1)
        else:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + token + line[column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_a_line_every_ten_seconds() -> None:
    terminal = FakeTerminal(isatty=False)
    display = ProgressDisplay(terminal, clock=Clock(4.0))
    assert list(display(range(9), "calibrating")) == list(range(9))
    assert terminal.lines == [
        "ptq: calibrating: 3 of 9 (33 %), 12 s",
        "ptq: calibrating: 6 of 9 (67 %), 24 s",
        "ptq: calibrating: 9 of 9 (100 %), 36 s",
    ]
    assert terminal.fresh == 3


def test_without_a_total_only_the_count_is_shown() -> None:
    terminal = FakeTerminal(isatty=False)
    list(ProgressDisplay(terminal, clock=Clock(10.0))(iter("ab"), "evaluating"))
    assert terminal.lines == ["ptq: evaluating: 1, 10 s", "ptq: evaluating: 2, 20 s"]


def test_what_is_quick_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    quiet, bar = FakeTerminal(isatty=False), FakeTerminal(isatty=True)
    list(ProgressDisplay(quiet, clock=Clock(0.1))(range(5), "t"))
    list(ProgressDisplay(bar, delay=1000.0)(range(5), "t"))
    assert (quiet.lines, quiet.fresh, bar.fresh) == ([], 0, 0)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_is_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(ProgressDisplay(None)(range(3), "t", 3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_drawn_on_its_own_line_and_wiped(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = FakeTerminal(isatty=True)
    entered: list[bool] = []

    @contextmanager
    def uncaptured() -> Iterator[None]:
        entered.append(True)
        yield

    display = ProgressDisplay(terminal, uncaptured, delay=0, interval=0, width=60)
    assert list(display(range(4), "calibrating", 4)) == [0, 1, 2, 3]
    out, err = capsys.readouterr()
    assert "ptq: calibrating:  50%" in out
    assert err == ""
    assert screen(out) == [""]
    assert max(map(len, out.split("\r"))) <= 60
    assert terminal.fresh == 1
    assert entered


def test_the_cursor_goes_back_to_pytests_line(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = FakeTerminal(isatty=True)
    sys.stdout.write("suites/tiny.py ")
    display = ProgressDisplay(terminal, delay=0, interval=0, width=60, column=lambda: 15)
    list(display(range(4), "calibrating"))
    sys.stdout.write(".")
    out = capsys.readouterr().out
    assert "ptq: calibrating" in out
    assert screen(out) == ["suites/tiny.py .", ""]
    assert terminal.fresh == 0


def test_a_loop_that_is_left_early_wipes_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    steps = ProgressDisplay(FakeTerminal(isatty=True), delay=0, interval=0)(range(4), "t")
    next(steps)
    next(steps)
    steps.close()
    assert screen(capsys.readouterr().out) == [""]


def test_lines_in_a_run_that_is_captured(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_ptq.plugin.progress.LINE_INTERVAL_S", 0.0)
    result = project.gates("-rA")
    result.assert_outcomes(passed=3)
    found = [line for line in result.stdout.lines if line.startswith("ptq: calibrating")]
    assert found
    assert any(line.startswith("ptq: evaluating") for line in result.stdout.lines)
    # Not in what the tests printed, which -rA shows.
    assert "Captured stdout" not in result.stdout.str()
    assert "Captured stderr" not in result.stdout.str()


def in_a_pty(command: list[str]) -> str:
    """Everything that `command` writes to a terminal of 100 columns."""
    master, slave = pty.openpty()
    env = {**os.environ, "COLUMNS": "100", "TERM": "xterm", "PY_COLORS": "0"}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    chunks = []
    try:
        while chunk := os.read(master, 65536):
            chunks.append(chunk)
    except OSError:  # Linux: the other side is closed
        pass
    finally:
        os.close(master)
        process.wait()
    return b"".join(chunks).decode()


@pytest.mark.parametrize("verbose", [[], ["-v"], ["-s"]], ids=["plain", "verbose", "no-capture"])
def test_bars_on_a_real_terminal(project: Project, verbose: list[str]) -> None:
    (project.path / "eager.py").write_text(
        "from pytest_ptq.plugin import progress\nprogress.BAR_DELAY_S = progress.BAR_INTERVAL_S = 0.0\n",
        encoding="utf-8",
    )
    options = ["--ptq-suite=tiny", "--ptq-qconfig=x86", f"--ptq-metrics={NO_LATENCY}", "--color=no", *verbose]
    raw = in_a_pty([sys.executable, "-m", "pytest", "-p", "eager", *options])
    assert "ptq: calibrating" in raw
    assert "ptq: evaluating x86: 100%" in raw
    shown = screen(raw)
    assert not any("%|" in line for line in shown), "a bar was left behind"
    assert any("3 passed" in line for line in shown)
    first = next(i for i, line in enumerate(shown) if line.endswith("collected 3 items")) + 2
    if verbose == ["-v"]:
        assert [line.split()[:2] for line in shown[first : first + 3]] == [
            ["suites/tiny.py::test_accuracy[x86]", "PASSED"],
            ["suites/tiny.py::test_size[x86]", "PASSED"],
            ["suites/tiny.py::test_int8_coverage[x86]", "PASSED"],
        ]
    elif not verbose:
        assert shown[first].split() == ["suites/tiny.py", "...", "[100%]"]
