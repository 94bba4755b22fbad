"""The page as a text: what it says, what it shows first, and that it holds all it needs."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import sys

import pytest

from pytest_ptq import metrics as m
from pytest_ptq.errors import InstallationError, StoreError
from pytest_ptq.metrics import Verdict
from pytest_ptq.report.html import html_report
from pytest_ptq.report.page import library, runs
from tests.report.made_history import AVX2, LAYERS, commit, history, layers, result, run_of
from tests.report.page_reader import data_of, read

HOSTILE = [
    "</script><script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", '"><b>', "' onclick='x",
    "{{ 7 * 7 }}", "{% raw %}", "\x1b[31mred", "\u202eabc", "<!--<script>", "]]>", "\ud800", "a\nb", "\u2028",
    "n" * 300, "שלום", "&lt;", "\x00",
]  # fmt: skip


@pytest.fixture(scope="module")
def page():
    return read(html_report(history()))


def hostile_history(name):
    """Everything that a stranger can name is called `name`."""
    one = result("resnet50", "x86", drop=2.0)
    layer = dataclasses.replace(layers(0, False)[0], name=name, kind=name)
    found = dataclasses.replace(
        one,
        worst_layers=(layer,),
        suite=name,
        data=name,
        errors=(name,),
        judgements={k: dataclasses.replace(j, reason=name) for k, j in one.judgements.items()},
    )
    more = {"branch": name, "commit_subject": name, "commit": name}
    return [run_of(i, [found], name, **more) for i in range(4)]


def test_one_file_with_nothing_from_outside(page):
    for element in page.all():
        assert not element.attributes.get("src")
        assert element.attributes.get("href", "#").startswith(("#", "data:"))
        assert not any(name.startswith("on") or name == "style" for name in element.attributes)


def test_policy_lets_its_own_scripts_and_style_run_and_no_others(page):
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    allowed = {directive.split()[0]: set(directive.split()[1:]) for directive in policy.split("; ")}
    scripts = [s for s in page.all("script") if "type" not in s.attributes]
    for kind, elements in (("script-src", scripts), ("style-src", page.all("style"))):
        digests = {hashlib.sha256(element.text.encode()).digest() for element in elements}
        assert allowed[kind] == {f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests}


def test_every_chart_has_a_name_and_a_text_that_stands_for_it(page):
    plots = page.all("div", class_="plot")
    ids = {element.attributes["id"] for element in page.all() if "id" in element.attributes}
    assert len(plots) > 8
    for plot in plots:
        assert plot.attributes["role"] == "img"
        assert plot.attributes["aria-label"]
        assert plot.attributes["aria-describedby"] in ids
    assert {plot.attributes["data-chart"] for plot in plots} == set(data_of(page)["charts"])


def test_tables_tell_what_their_heads_are_for(page):
    for table in page.all("table"):
        assert table.one("caption").words
        assert all(head.attributes.get("scope") for head in table.all("th"))


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(page):
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    assert {a.attributes["href"][1:] for a in page.all("a")} <= set(ids)


def test_verdict_first_in_words_and_sign(page):
    assert page.one("h1").words == "✕1 gate fails"
    assert page.one("ul", class_="counts").words.split() == ["✕1", "fail", "✓11", "pass"]


def test_failing_rows_and_cells_come_first_and_old_machines_last(page):
    matrix = page.one("table", class_="matrix")
    rows = matrix.all("tr", class_="row")
    assert [row.attributes["data-suite"] + row.attributes["data-qconfig"] for row in rows[:1]] == ["resnet50x86"]
    assert [row.attributes["data-machine"] == AVX2 for row in rows] == [False] * 4 + [True] * 4
    failing = matrix.all("td", class_="v-FAIL")
    assert [cell.attributes["data-metric"] for cell in failing] == [m.ACCURACY_DROP.key]
    assert re.search(r"✕1\.\d\d pp fail .* limit ≤ 1 pp \+1\.\d\d to record", failing[0].words)


def test_a_planted_regression_is_told_by_commit_name_and_layer(page):
    first = page.all("article")[0]
    assert first.attributes["aria-label"] == "resnet50[x86]"
    assert f"fail since {commit(14)[:10]} Change number 14" in first.words
    assert f"pass at {commit(13)[:10]}" in first.words
    change = next(dd for dd in first.all("dd") if "logit SQNR" in dd.words)
    assert change.words.startswith(f"{commit(14)[:10]} Change number 14, 2026-01-09, 10 runs ago")
    assert "accuracy drop worse: 0.1" in change.words
    assert "layer11.conv conv2d: 43.8 → 28.8 dB" in first.words
    assert "layer10.conv" not in first.words


def test_machines_are_never_compared_with_one_another(page):
    """Every run elsewhere is slower by a third: no change point says so."""
    assert "latency" not in page.one("section", id="moved").words.replace("int8/fp32 latency of", "")
    for chart in data_of(page)["charts"].values():
        for series in chart.get("series", ()):
            machines = data_of(page)["runs"]["machines"]
            assert {machines[run] for run in data_of(page)["shared"][series["runs"]]} == {series["machine"]}


def test_how_models_ran_stands_among_the_facts_of_the_machine():
    """Once where it holds of all, else with whom it holds of; in escaped text."""

    def ran(qconfig, int8, **details):
        one = result("net", qconfig)
        ratio = one.measurements[m.LATENCY_RATIO.key]
        told = {"int8_kernels": int8, "fp32_kernels": "native program", "probe_us": 80.0, "exchange_us": 4.3, **details}
        measured = {**one.measurements, ratio.metric.key: dataclasses.replace(ratio, details=told)}
        return dataclasses.replace(one, measurements=measured)

    rows = [ran("a", "native program"), ran("b", "packed torchscript", int8_not_native="<b>GELU")]
    facts = html_report([run_of(0, rows)]).partition('id="environment"')[2]
    assert '<th scope="row">fp32 kernels</th><td>native program</td>' in facts
    assert (
        '<th scope="row">int8 kernels</th><td>net[a]: native program; '
        "net[b]: packed torchscript, no compiled kernels: &lt;b&gt;GELU</td>"
    ) in facts
    assert '<th scope="row">speed</th><td>plain Python 80 us, core to core 4.3 us</td>' in facts


def test_history_holds_limits_records_and_changes(page):
    charts = data_of(page)["charts"].values()
    drop = next(c for c in charts if c["kind"] == "history" and c["title"] == "accuracy drop")
    mine = next(s for s in drop["series"] if s["qconfig"] == "x86" and s["machine"] != AVX2)
    assert (mine["bound"], mine["recorded"], mine["verdicts"]) == (1, 0.1, "P" * 10 + "F" * 10)
    assert [change[0] for change in mine["changes"]] == [10]
    assert len(mine["value"]) == len(data_of(page)["shared"][mine["runs"]]) == 20


def test_layers_are_all_in_the_table(page):
    figure = page.one("section", id="layers").all("figure")[0]
    assert len(figure.one("tbody").all("tr")) == LAYERS
    assert [r.one("th").words for r in figure.one("tbody").all("tr", class_="worse")] == [
        "layer11.conv",
        "layer12.conv",
    ]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_shown_and_harmless(name):
    text = html_report(hostile_history(name), title=name)
    text.encode("utf-8")
    page = read(text)
    shown = runs.printable(name)
    # The HTML parser makes nothing of a blank line and the like: what is shown is on one line.
    assert " ".join(shown.split()) in page.one("p", class_="title").words
    assert page.one("table", class_="matrix").one("tr", class_="row").attributes["data-suite"] == shown
    assert data_of(page)["runs"]["subject"] == [shown] * 4
    assert len(page.all("script")) == 4
    assert not page.all("img")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\u2028]", text.replace("\n", ""))


@pytest.mark.parametrize(
    ("drop", "ratio", "more", "said"),
    [
        (0.1, 0.3, {}, "✓Every gate passes"),
        (2.0, 0.3, {}, "✕1 gate fails"),
        (2.0, 0.9, {}, "✕2 gates fail"),
        (0.1, 0.6, {}, "?Nothing fails, 1 gate left open"),
        (0.1, 0.3, {"errors": ("no images",)}, "✕1 could not be measured"),
        (2.0, 0.3, {"errors": ("no images",)}, "✕1 gate fails and 1 could not be measured"),
    ],
)
def test_headline(drop, ratio, more, said):
    found = read(html_report([run_of(0, [result(drop=drop, ratio=ratio, **more)])]))
    assert found.one("h1").words == said
    assert found.one("title").words.startswith(said[1:])


def test_xfail_and_missing_limits_are_told():
    one = result(drop=2.0)
    key = m.ACCURACY_DROP.key
    for verdict, said in ((Verdict.XFAIL, "✓Everything passes but"), (Verdict.NO_BASELINE, "!1 gate without a limit")):
        judged = dataclasses.replace(one.judgements[key], verdict=verdict, limit=None, reason="because")
        found = dataclasses.replace(one, judgements={**one.judgements, key: judged})
        page = read(html_report([run_of(0, [found])]))
        assert page.one("h1").words.startswith(said)
        assert "because" in page.one("section", id="moved").words


def test_one_run_says_that_there_is_nothing_to_compare():
    page = read(html_report([run_of(0, [dataclasses.replace(result(), pairs=())])]))
    said = {name: page.one("section", id=name).all("p", class_="empty")[0].words for name in ("history", "ratios")}
    assert said["history"].startswith("One run so far")
    assert said["ratios"].startswith("No latency")
    assert page.one("section", id="layers").one("p", class_="empty").words.startswith("No run looked at layers")


def test_without_latency_there_is_no_scatter():
    one = result()
    kept = {key: x for key, x in one.measurements.items() if not key.startswith("latency")}
    judged = {key: x for key, x in one.judgements.items() if not key.startswith("latency")}
    page = read(html_report([run_of(0, [dataclasses.replace(one, measurements=kept, judgements=judged, pairs=())])]))
    assert page.one("section", id="pareto").one("p", class_="empty").words.startswith("Nothing to draw")


def test_a_run_of_few_gates_keeps_what_was_judged_before_and_says_so():
    one = result(drop=2.0)
    size = m.SIZE_REDUCTION.key
    part = dataclasses.replace(
        one, measurements={size: one.measurements[size]}, judgements={size: one.judgements[size]}
    )
    page = read(html_report([run_of(0, [one]), run_of(1, [part])]))
    assert page.one("h1").words == "✓The gate passes"
    cell = page.one("table", class_="matrix").one("td", data_metric=m.ACCURACY_DROP.key)
    assert cell.words.endswith(f"from {commit(0)[:10]}, 2026-01-05")


def test_runs_of_one_commit_are_one_state():
    page = read(html_report([run_of(0, [result("a")], commit="c"), run_of(1, [result("b", drop=2.0)], commit="c")]))
    assert page.one("ul", class_="counts").words == "✕1 fail ✓5 pass"
    assert not page.all("tbody", class_="older")


def test_order_and_repetition_of_records_do_not_matter():
    made = history(8)
    assert html_report([*reversed(made), made[3]]) == html_report(made)


def test_only_the_newest_runs_are_drawn(monkeypatch):
    monkeypatch.setattr(runs, "MOST_RUNS", 5)
    page = read(html_report(history(8)))
    assert len(data_of(page)["runs"]["time"]) == 5
    assert "5 runs, the newest of 8." in page.one("footer").words


def test_no_records_are_an_error():
    with pytest.raises(StoreError, match="no run to report on"):
        html_report([])


@pytest.mark.parametrize("package", ["vl_convert", "jinja2"])
def test_a_missing_package_is_one_sentence_with_the_command(monkeypatch, package):
    for cached in (library.chart_library, library.environment):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    try:
        with pytest.raises(InstallationError) as told:
            html_report(history(1))
    finally:
        for cached in (library.chart_library, library.environment):
            cached.cache_clear()
    assert "pip install 'pytest-ptq[report]'" in str(told.value)
    assert "\n" not in str(told.value)
