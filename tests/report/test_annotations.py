"""Annotations: one workflow command a judgement, whatever the names, read back by the rules of GitHub's runner."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.judge.gates import REFRESH
from pytest_ptq.metrics import ACCURACY_DROP, Direction, Judgement, Limit, Measurement, Metric, Verdict
from pytest_ptq.report.annotations import (
    Annotation,
    Level,
    Place,
    annotate,
    github_command,
    place_of,
    relative_place,
)
from pytest_ptq.report.printable import printable
from pytest_ptq.store.record import QConfigRecord

HOSTILE = [
    "x::error::y",
    "%0A::set-output name=a::b",
    "::warning::x",
    "\n::add-mask::x",
    "\r\n::stop-commands::x",
    "  ::error::x",
    "a,line=9,title=b",
    "##[error]x",
    "\u2028::error::x",
    "\x1b[31m",
    "%",
    "%25",
    "<script>",
    "=cmd|'/c calc'!A1",
    "n" * 300,
    "",
]
texts = st.one_of(
    st.text(), st.sampled_from(HOSTILE), st.text(alphabet=":%,=\n\r 0123456789ADerro#[]\t\u0085\u2028", max_size=40)
)


@dataclass
class Command:
    name: str
    properties: dict[str, str]
    data: str


def obeyed(log: str) -> list[Command]:
    """What GitHub's runner takes from a log: lines split as .NET does, then ActionCommand.TryParseV2 and TryParse."""
    found = []
    for line in re.split(r"\r\n|\r|\n", log):
        text = line.lstrip()
        if text.startswith("::") and "::" in text[2:]:
            head, _, data = text[2:].partition("::")
            name, _, stated = head.partition(" ")
            pairs = [part.split("=", 1) for part in stated.strip().split(",") if part]
            properties = {pair[0]: undone(pair[1], {":": "%3A", ",": "%2C"}) for pair in pairs if len(pair) == 2}
            found.append(Command(name, properties, undone(data, {})))
        elif "##[" in line and "]" in line.partition("##[")[2]:  # the older form, anywhere in a line
            found.append(Command("##", {}, line))
    return found


def undone(text: str, more: dict[str, str]) -> str:
    for character, code in {"\r": "%0D", "\n": "%0A", **more, "%": "%25"}.items():
        text = text.replace(code, character)
    return text


def judgement(verdict: Verdict, reason: str = "why", source: str = "b.json:3", metric: Metric = ACCURACY_DROP):
    return Judgement(verdict, Measurement(metric, 1.0), Limit(metric, 0.5, source), reason)


def record(*judgements: Judgement, errors: tuple[str, ...] = (), suite: str = "net", qconfig: str = "x86"):
    by_key = {str(number): found for number, found in enumerate(judgements)}
    return QConfigRecord(suite, "embedded", qconfig, None, judgements=by_key, errors=errors)


def nowhere(_: Judgement | None) -> None:
    return None


def test_a_failed_gate_is_an_error_at_its_limit() -> None:
    def locate(found: Judgement | None) -> Place:
        assert found is not None
        assert found.limit is not None
        return Place("baselines/net.json", 3)

    (found,) = annotate(record(judgement(Verdict.FAIL, "drop of 3 pp, limit 1")), strict=False, locate=locate)
    assert (
        github_command(found)
        == "::error file=baselines/net.json,line=3,title=accuracy of net[x86]%3A FAIL::drop of 3 pp, limit 1"
    )


@pytest.mark.parametrize(
    ("verdict", "reason", "strict", "level"),
    [
        (Verdict.FAIL, "", False, Level.ERROR),
        (Verdict.NO_BASELINE, "", False, Level.ERROR),
        (Verdict.INCONCLUSIVE, "", False, Level.WARNING),
        (Verdict.INCONCLUSIVE, "", True, Level.ERROR),
        (Verdict.PASS, f"better; {REFRESH}", False, Level.NOTICE),
        (Verdict.PASS, "", True, None),
        (Verdict.XFAIL, "", True, None),
    ],
)
def test_levels(verdict: Verdict, reason: str, strict: bool, level: Level | None) -> None:
    found = annotate(record(judgement(verdict, reason)), strict=strict, locate=nowhere)
    assert [annotation.level for annotation in found] == ([] if level is None else [level])


def test_every_verdict_that_is_no_pass_says_something() -> None:
    for verdict in set(Verdict) - {Verdict.PASS, Verdict.XFAIL}:
        assert annotate(record(judgement(verdict)), strict=False, locate=nowhere), verdict


def test_what_could_not_be_measured_is_an_error() -> None:
    (found,) = annotate(record(errors=("size: no luck",)), strict=False, locate=lambda _: Place("suites/net.py", 1))
    assert github_command(found) == "::error file=suites/net.py,line=1,title=net[x86]%3A not judged::size: no luck"


@given(
    suite=texts, qconfig=texts, reasons=st.lists(texts, max_size=4), errors=st.lists(texts, max_size=3), file=texts,
    line=st.none() | st.integers(min_value=1),
)  # fmt: skip
def test_whatever_the_names_one_command_a_judgement(
    suite: str, qconfig: str, reasons: list[str], errors: list[str], file: str, line: int | None
) -> None:
    metric = Metric(suite, qconfig, suite, Direction.LOWER_IS_BETTER)
    given_record = record(
        *(judgement(Verdict.FAIL, reason, metric=metric) for reason in reasons),
        errors=tuple(errors), suite=suite, qconfig=qconfig,
    )  # fmt: skip
    found = annotate(given_record, strict=False, locate=lambda _: Place(file, line))
    log = "\n".join(map(github_command, found))
    log.encode()
    commands = obeyed(log)
    assert [command.name for command in commands] == ["error"] * (len(reasons) + len(errors))
    for command, text in zip(commands, (*errors, *reasons), strict=True):
        assert set(command.properties) <= {"file", "line", "title"}
        assert command.properties.get("line") == (None if line is None else str(line))
        whole = printable(text).strip()
        assert command.data == whole or command.data.endswith("...")


@given(level=st.sampled_from(Level), title=texts, message=texts, file=texts.filter(lambda text: text == text.strip()))
def test_a_reader_gets_back_what_was_written(level: Level, title: str, message: str, file: str) -> None:
    (command,) = obeyed(github_command(Annotation(level, title, message, Place(file, 7))))
    assert command.name == level.value
    assert command.properties.get("file", "") == file.encode(errors="replace").decode()
    assert command.properties["line"] == "7"
    assert command.properties.get("title", "") == printable(title).strip()[:255] or len(printable(title)) > 255


@given(st.lists(texts, min_size=1, max_size=3))
def test_what_is_printable_is_never_obeyed(parts: list[str]) -> None:
    assert obeyed("\n".join(printable(part) for part in parts)) == []


def test_the_reader_of_this_test_obeys() -> None:
    assert [c.name for c in obeyed("a\n  ::error file=x::y\r##[add-mask]z\n::group::n")] == ["error", "##", "group"]
    assert obeyed("::error file=a%3Ab%2Cc::100%25%0A")[0] == Command("error", {"file": "a:b,c"}, "100%\n")


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("baselines/a.json:12", Place("sub/baselines/a.json", 12)),
        ("../baselines/a.json:12", Place("baselines/a.json", 12)),
        ("/repo/b.json:1", Place("b.json", 1)),
        ("a b,c:d.json:4", Place("sub/a b,c:d.json", 4)),
        ("/elsewhere/b.json:1", None),
        ("../../b.json:1", None),
        ("/repository/b.json:1", None),
        ("baselines/a.json", None),
        ("baselines/a.json:0", None),
        ("baselines/a.json:x", None),
        ("default, to be reviewed", None),
        ("tests/test_a.py::test_b[x86]: @pytest.mark.ptq", None),
        ("", None),
    ],
)
def test_places(source: str, place: Place | None) -> None:
    assert place_of(source, Path("/repo/sub"), Path("/repo")) == place


def test_a_test_has_a_place_too() -> None:
    assert relative_place(Path("/repo/x/../tests/a.py"), Path("/repo"), 3) == Place("tests/a.py", 3)
    assert relative_place(Path("/venv/a.py"), Path("/repo")) is None


def test_a_long_message_is_cut_before_it_is_escaped() -> None:
    (command,) = obeyed(github_command(Annotation(Level.ERROR, "%" * 999, "%" * 9999)))
    assert (len(command.properties["title"]), len(command.data)) == (255, 4096)
