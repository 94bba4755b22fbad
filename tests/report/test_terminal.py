import subprocess
import sys

import pytest

from pytest_ptq.judge.gates import judge
from pytest_ptq.metrics import ACCURACY_DROP, INT8_MACS, LATENCY_RATIO, Judgement, Limit, Measurement, Verdict
from pytest_ptq.report.terminal import SuiteRow, header, notes, table


def order(text, *names):
    lines = text.splitlines()
    return sorted(names, key=lambda name: next(i for i, line in enumerate(lines) if line.startswith(name)))


def widest(text):
    return max(map(len, text.splitlines()))


def test_the_header_says_what_is_judged_on_what():
    line = header(suite="resnet50", data="embedded", isa="avx512_vnni", threads=2, baseline="baselines/resnet50.json")
    assert line == (
        "ptq: suite=resnet50 data=embedded engine=x86/onednn isa=avx512_vnni threads=2 baseline=baselines/resnet50.json"
    )


def test_a_row_shows_every_figure_with_its_limit(row):
    text = table([row(recorded={"accuracy_drop_pp": 0.10, "latency_ratio": 0.32})])
    for cell in ("91.23 -> 91.10", "0.13 / 1 ", " 1.23 ", " 28.3 ", "90.0 -> 22.5 (4.00x)", "19.51 / 6.42",
                 "0.330 [0.310, 0.350] / 0.6", "drop +0.03", "ratio +3 %", "pass"):  # fmt: skip
        assert cell in text


def test_columns_stand_in_their_order():
    first = " ".join(table([]).splitlines()[:2])
    names = ["qconfig", "top-1", "drop", "flips", "SQNR", "MiB", "ms", "int8/fp32", "vs", "verdict"]
    places = [first.index(name) for name in names]
    assert places == sorted(places)


def test_failing_rows_come_first_and_say_which_gate(row):
    unlimited = SuiteRow("resnet50", "embedded", "open", None, {}, {"x": judge(Measurement(INT8_MACS, 99.0), None)})
    rows = [
        row("fine"),
        row("unsure", ratio=0.6),
        SuiteRow("resnet50", "embedded", "nothing", None),
        unlimited,
        row("worse", drop=2.0, ratio=0.9),
        SuiteRow("resnet50", "embedded", "broken", None, errors=("latency: boom",)),
    ]
    text = table(rows)
    wanted = ["broken", "worse", "open", "unsure", "fine", "nothing"]
    assert order(text, *wanted) == wanted
    worse = text[text.index("worse") : text.index("open")]
    assert "FAIL" in worse
    assert "accuracy" in worse
    assert "latency" in worse
    assert "no baseline" in text
    assert "inconclusive" in text


def test_gates_that_did_not_run_show_a_dash():
    only = Measurement(LATENCY_RATIO, 0.33, 0.31, 0.35, 30)
    text = table([SuiteRow("net", "embedded", "x86", None, {only.metric.key: only})])
    cells = text.splitlines()[-1].split("  ")
    assert [c.strip() for c in cells if c.strip()] == ["x86", *["-"] * 6, "0.330 [0.310, 0.350] / -", "-", "-"]


def test_a_limit_is_shown_as_written_and_not_rounded():
    measured = Measurement(ACCURACY_DROP, 0.1)
    judged = judge(measured, Limit(ACCURACY_DROP, 0.125, "x"))
    key = ACCURACY_DROP.key
    assert "0.10 / 0.125" in table([SuiteRow("net", "embedded", "x86", None, {key: measured}, {key: judged})])


def test_without_a_record_it_says_so(row):
    assert "no record" in table([row()])
    assert "not judged" in table([row()])


def test_the_usual_table_fits_and_the_narrow_one_is_narrower(row):
    recorded = {"accuracy_drop_pp": 0.10, "latency_ratio": 0.30, "size_reduction_x": 4.0}
    rows = [row("x86", recorded=recorded), row("minmax", drop=12.5, recorded=recorded)]
    assert widest(table(rows)) <= 150
    assert widest(table(rows, width=100)) <= 118
    several = [*rows, row("minmax", suite="mobilenet_v3_small", recorded=recorded)]
    assert "mobilenet_v3_small\n" in "\n".join(line.split(" ")[0] for line in table(several).splitlines()) + "\n"
    assert widest(table(several)) <= 156


def test_several_suites_are_told_apart(row):
    lines = [line.split(" ")[0] for line in table([row(), row(suite="other")]).splitlines()]
    assert {"resnet50", "other", "[x86]"} <= set(lines)


def test_names_cannot_move_the_cursor(row):
    text = table([row("\x1b[2J\x1b]0;title\x07"), row("a\nb", suite="s\rt")])
    assert "\x1b" not in text
    assert "\r" not in text
    assert "\\x1b[2J" in text


def test_notes_tell_what_the_table_is_too_small_for(row):
    better = row("better", drop=-2.0, recorded={"accuracy_drop_pp": 0.5})
    broken = SuiteRow("resnet50", "embedded", "broken", None, errors=("latency: \x1b[31mboom",))
    found = notes([row("fine"), better, row("unsure", ratio=0.6), broken])
    assert found[0] == "resnet50[broken]: latency: \\x1b[31mboom"
    assert "leaves open whether it keeps the limit" in found[1]
    assert "refresh the baseline" in found[2]
    assert len(found) == 3


def test_a_latency_that_was_only_reported_has_no_limit():
    measured = Measurement(LATENCY_RATIO, 0.33, 0.31, 0.35, 30)
    judged = Judgement(Verdict.PASS, measured, None, "measured, not judged")
    key = measured.metric.key
    assert "0.330 [0.310, 0.350] / -" in table([SuiteRow("n", "e", "x86", None, {key: measured}, {key: judged})])


@pytest.mark.parametrize(
    "package", ["judge.gates", "store.baselines", "store.history", "report.terminal", "report.failure"]
)
def test_none_of_this_imports_torch(package):
    code = f"import sys, pytest_ptq.{package}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
