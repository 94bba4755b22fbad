"""Markdown for pull requests: short whatever the run, and rendered by GitHub's own parser as what was meant."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pytest_ptq import metrics as m
from pytest_ptq.judge.gates import REFRESH
from pytest_ptq.metrics import Direction, Judgement, LayerError, Limit, Measurement, Metric, Verdict
from pytest_ptq.report.markdown import LONGEST, markdown_report
from pytest_ptq.report.markdown_text import LONGEST_NAME, code, safe
from pytest_ptq.report.printable import printable
from pytest_ptq.store.record import QConfigRecord, RunRecord

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MACHINE = {"key": "avx512_vnni/onednn/2t/torch2.15", "cpu": "AMD EPYC"}
HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=y>", "a|b|c", "`tick`", "``", "```\nfence", "@torvalds", "x@y.org",
    "#1", "o/r#12", "GH-12", "gh-1", "[a](http://evil.example)", "![a](b)", "http://evil.example", "www.evil.example",
    "WWW.evil.example", "ftp://e.example", "mailto:x@y.org", "</details>", "<!--", "-->", "a\nb", "a\r\n\n# head",
    "*b*", "_c_", "__d__", "~~e~~", "\\", "\\|", "|\\", "&lt;", "&#64;x", "$x$", "^", "\u202e", "\u2028", "\x1b[31m",
    "\ud800", "- a", "1. a", "    code", "> q", "---", "| --- |", "::error::x", "n" * 500, "", " ", "::", "xmpp:a@b.c",
    "[x]: http://e", "[x][y]", "a]", "(b)", "[^1]", "[ ] t",
]  # fmt: skip
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=30),
    st.text(alphabet="<>|`@#*_[]()!&;\\/:.-~\n gGhH1wx", max_size=40),
    st.lists(st.sampled_from(HOSTILE), max_size=4).map("".join),
)
OURS = {"h2", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "details", "summary", "code"}


class Rendered(HTMLParser):
    """What GitHub makes of Markdown: its elements, its cells by row, and its text."""

    def __init__(self, markdown: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.comments: set[str] = set()
        self.shown: list[str] = []
        self.table: list[list[str]] = []
        self._open: list[str] = []
        html = cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE)
        self.feed(html.encode("utf-8", "replace").decode())
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs
        self._open.append(tag)
        if tag == "tr":
            self.table.append([])
        if tag in ("td", "th"):
            self.table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.comments.add(data)
        self.shown.append("<>")  # where GitHub's filters see two texts

    def handle_data(self, data: str) -> None:
        if "code" not in self._open:  # where GitHub looks for no mentions
            self.shown.append(data)
        if "td" in self._open or "th" in self._open:
            self.table[-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(self.shown)


def check(markdown: str) -> Rendered:
    """What holds of every report."""
    assert len(markdown.splitlines()) <= LONGEST
    assert len(markdown) <= 65_536
    found = Rendered(markdown)
    assert set(found.tags) <= OURS
    assert found.attributes == []
    assert found.comments <= {" "}
    assert not re.search(r"@\w|#\d|gh-\d", found.text, re.IGNORECASE)
    return found


def run(*results: QConfigRecord, day: int = 0, commit: str | None = None, **more: object) -> RunRecord:
    when = NOON + timedelta(days=day)
    return RunRecord(MACHINE, {"torch": "2.15.0"}, results, commit or f"{day:040x}", when, f"run{day}", **more)  # type: ignore[arg-type]


@given(texts)
def test_a_text_is_shown_as_it_is(text: str) -> None:
    for written in (safe(text, 10**6), code(text, 10**6)):
        found = Rendered(f"| x |\n| --- |\n| {written} |\n")
        assert set(found.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
        assert not re.search(r"@\w|#\d|gh-\d", found.text, re.IGNORECASE)
        shown = found.table[1][0]
        assert re.sub(r"\s+", " ", shown) == re.sub(r"\s+", " ", printable(text).strip())


@given(texts, st.integers(1, 40))
def test_what_is_cut_is_no_longer_than_it_may_be(text: str, longest: int) -> None:
    written = safe(text, longest)
    assert len(written) <= longest
    assert written == safe(text, 10**6) or written.endswith("…")
    Rendered(written)


def test_the_characters_of_a_report_are_bounded_by_those_of_its_names() -> None:
    assert len(code("@" * 500)) <= LONGEST_NAME + len("<code></code>")
    assert len(code("a" * 500)) <= LONGEST_NAME + len("<code></code>")


numbers = st.floats(-1e12, 1e12) | st.sampled_from([0.0, -0.0, 1e300, 5e-324])
metrics = st.sampled_from([m.ACCURACY_DROP, m.LATENCY_RATIO, m.SQNR, m.SIZE_REDUCTION]) | st.builds(
    Metric, st.text("ab", min_size=1), texts, texts, st.sampled_from(Direction), st.integers(0, 5)
)
measurements = st.builds(Measurement, metrics, numbers, st.none() | numbers, st.none() | numbers)


@st.composite
def judgements(draw: st.DrawFn) -> Judgement:
    measured = draw(measurements)
    limit = draw(st.none() | st.builds(Limit, st.just(measured.metric), numbers, texts))
    recorded = draw(st.none() | st.just(measured))
    reason = draw(texts | st.just(f"better: {REFRESH}"))
    return Judgement(draw(st.sampled_from(Verdict)), measured, limit, reason, recorded)


@st.composite
def results(draw: st.DrawFn) -> QConfigRecord:
    judged = {found.measurement.metric.key: found for found in draw(st.lists(judgements(), max_size=5))}
    measured = {key: found.measurement for key, found in judged.items()}
    layers = draw(
        st.lists(st.builds(LayerError, texts, texts, numbers, numbers, numbers, numbers, numbers), max_size=7)
    )
    errors = draw(st.lists(texts, max_size=3))
    name = draw(texts), draw(texts), draw(texts)
    return QConfigRecord(*name, None, measured, judged, (), tuple(layers), tuple(errors))


@settings(max_examples=60, phases=[Phase.explicit, Phase.generate])  # shrinking a whole run takes a minute
@given(st.data())
def test_any_run_makes_a_short_and_harmless_report(data: st.DataObject) -> None:
    found = data.draw(st.lists(results(), max_size=4)) * data.draw(st.sampled_from([1, 1, 9]))
    named = {"commit": data.draw(st.none() | texts), "commit_subject": data.draw(st.none() | texts)}
    record = dataclasses.replace(run(*found, branch=data.draw(st.none() | texts)), **named)
    machine = {data.draw(texts): data.draw(texts), "key": data.draw(texts), "cpu": data.draw(texts)}
    record = dataclasses.replace(record, machine=machine, versions={data.draw(texts): data.draw(texts)})
    older = [dataclasses.replace(record, time=NOON - timedelta(days=1 + i), run_id=f"o{i}") for i in range(2)]
    check(markdown_report(record, older, data.draw(st.lists(texts, max_size=9))))


def test_the_longest_report_has_sixty_lines(row) -> None:  # type: ignore[no-untyped-def]
    layers = tuple(LayerError(f"l{i}", "conv2d", alone_db=9.0 + i, weight_db=9.0) for i in range(9))
    failing = [row(f"q{i}", drop=9.0, ratio=0.9, worst_layers=layers) for i in range(20)]
    markdown = markdown_report(run(*failing), problems=["it broke"] * 9)
    assert len(markdown.splitlines()) == LONGEST
    assert "and 30 more numbers" in check(markdown).text


def test_the_verdict_comes_first(row) -> None:  # type: ignore[no-untyped-def]
    for record, said in [
        (run(row()), "pass"),
        (run(row(), row("q2", drop=9.0)), "FAIL"),
        (run(row("q2", ratio=0.6), row()), "inconclusive"),
        (run(row(errors=("no images",)), row("q2", drop=9.0)), "ERROR"),
        (run(), "nothing was judged"),
    ]:
        first = markdown_report(record).splitlines()[0]
        assert first == f"## pytest-ptq: {said}"
    assert markdown_report(run(row()), problems=["x"]).startswith("## pytest-ptq: ERROR\n")


def opened(markdown: str) -> str:
    """What is not folded."""
    return re.sub(r"<details>.*?</details>", "", markdown, flags=re.DOTALL)


def test_a_pass_is_folded_and_a_failure_is_not(row) -> None:  # type: ignore[no-untyped-def]
    markdown = markdown_report(run(row("good"), row("bad", drop=1.5)))
    open_part = opened(markdown)
    assert "good" not in open_part
    assert "| `resnet50[bad]` | accuracy drop | **FAIL** | 1.50 pp [1.30, 1.70] | at most 1.00 pp" in open_part
    assert "size reduction" not in open_part
    assert "`resnet50[good]`" in markdown
    assert "nothing moved" not in markdown
    check(markdown)


def test_a_calm_run_says_so(row) -> None:  # type: ignore[no-untyped-def]
    assert "There is no earlier run" in opened(markdown_report(run(row())))
    calm = opened(markdown_report(run(row(), day=1), [run(row())]))
    assert "Nothing failed, and nothing moved since the run before." in calm
    assert "nothing" not in opened(markdown_report(run(row(errors=("no images",))))).lower()
    assert "- `resnet50[x86]`: no images" in markdown_report(run(row(errors=("no images",))))


def test_what_moved_is_shown_though_it_passes(row) -> None:  # type: ignore[no-untyped-def]
    markdown = markdown_report(run(row(drop=0.7), day=1), [run(row(drop=0.1))])
    assert "| accuracy drop | pass | 0.70 pp" in opened(markdown)
    assert f"was 0.10 pp at `{'0' * 12}`" in opened(markdown)
    assert "accuracy drop" not in opened(markdown_report(run(row(drop=0.3), day=1), [run(row(drop=0.1))]))


def test_a_latency_moves_only_when_intervals_lie_apart(row) -> None:  # type: ignore[no-untyped-def]
    before = run(row(ratio=0.30))
    assert "latency" not in opened(markdown_report(run(row(ratio=0.335), day=1), [before]))
    assert "int8/fp32 latency | pass | 0.350" in opened(markdown_report(run(row(ratio=0.35), day=1), [before]))


def test_a_fall_of_sqnr_is_shown_without_a_limit(row) -> None:  # type: ignore[no-untyped-def]
    fallen = row()
    fallen.measurements[m.SQNR.key] = Measurement(m.SQNR, 20.0)
    assert "| logit SQNR | - | 20.0 dB |" in opened(markdown_report(run(fallen, day=1), [run(row())]))


def history(row, drops, **more):  # type: ignore[no-untyped-def]
    return [run(row(drop=drop, **more), day=i, commit=f"{i:02d}" + "c" * 38) for i, drop in enumerate(drops)]


def since(markdown: str) -> str:
    (line,) = [line for line in opened(markdown).splitlines() if "accuracy drop" in line]
    return line.rpartition(" | ")[2].removesuffix(" |")


def test_it_says_since_when_it_fails(row) -> None:  # type: ignore[no-untyped-def]
    *older, last = history(row, [0.1, 0.1, 0.1, 2.0])
    assert since(markdown_report(last, older)) == ("fails since this run; was 0.10 pp at `02cccccccccc`")
    *older, last = history(row, [0.1, 2.0, 2.0, 2.0])
    assert since(markdown_report(last, older)) == "fails since `01cccccccccc`, 3 runs ago; passed at `00cccccccccc`"
    *older, last = history(row, [2.0, 2.0])
    assert since(markdown_report(last, older)) == "fails in all 2 runs"
    assert since(markdown_report(last)) == "no earlier run"


def test_a_change_point_is_told_with_its_commit(row) -> None:  # type: ignore[no-untyped-def]
    wobble = [0.0, 0.01, 0.02, 0.01]
    *older, last = history(row, [0.1 + wobble[i % 4] for i in range(12)] + [2.0 + wobble[i % 4] for i in range(8)])
    told = since(markdown_report(last, older))
    assert told.startswith("fails since `12cccccccccc`, 8 runs ago; passed at `11cccccccccc`; ")
    assert told.endswith("0.11 pp → 2.01 pp at `12cccccccccc` of 2026-02-12")


def test_what_this_run_moved_is_not_taken_for_an_older_change(row) -> None:  # type: ignore[no-untyped-def]
    *older, last = history(row, [0.3] * 10 + [0.1] * 10 + [0.8])
    assert since(markdown_report(last, older)) == "was 0.10 pp at `19cccccccccc`"


def test_other_machines_data_and_later_runs_say_nothing(row) -> None:  # type: ignore[no-untyped-def]
    *older, last = history(row, [0.1, 0.1, 2.0])
    elsewhere = [dataclasses.replace(run, machine={"key": "avx2"}) for run in older]
    assert since(markdown_report(last, elsewhere)) == "no earlier run"
    later = [dataclasses.replace(run, time=run.time + timedelta(days=9)) for run in older]
    assert since(markdown_report(last, later)) == "no earlier run"
    on_photographs = dataclasses.replace(older[0].results[0], data="imagenet")
    assert since(markdown_report(last, [run(on_photographs)])) == "no earlier run"
    assert since(markdown_report(last, [last])) == "no earlier run"


def test_expected_failures_are_folded_and_open_questions_are_not(row) -> None:  # type: ignore[no-untyped-def]
    expected = row(drop=1.5)
    judged = dict(expected.judgements)
    judged[m.ACCURACY_DROP.key] = dataclasses.replace(judged[m.ACCURACY_DROP.key], verdict=Verdict.XFAIL)
    record = run(dataclasses.replace(expected, judgements=judged))
    assert "accuracy drop" not in opened(markdown_report(record))
    markdown = markdown_report(run(row(ratio=0.6)))
    assert "**inconclusive**" in opened(markdown)
    assert "leaves open whether it keeps the limit" in opened(markdown)


def test_the_worst_layer_is_named(row) -> None:  # type: ignore[no-untyped-def]
    layers = (LayerError("b", "linear", alone_db=30.0), LayerError("a.0", "conv2d", alone_db=9.0, weight_db=9.6))
    markdown = markdown_report(run(row(drop=1.5, worst_layers=layers)))
    assert "layer `a.0` loses most: its weights lose most (9.6 dB)" in opened(markdown)
    assert "Layers that lose most" in markdown
    assert "loses most" not in markdown_report(run(row(worst_layers=layers)))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stand_in_their_cells(row, name: str) -> None:  # type: ignore[no-untyped-def]
    found = check(markdown_report(run(row(name, drop=1.5, suite=name))))
    assert all(len(cells) in (7, 9) for cells in found.table)
