"""The page in a real browser: what a person clicks, types, sees and prints."""

from __future__ import annotations

import dataclasses
import re

from playwright.sync_api import expect

from pytest_ptq import metrics as m
from pytest_ptq.report.html import html_report
from tests.report.made_history import AVX2, layers, result, run_of

COLOUR = "element => getComputedStyle(element).{}"


def background(page):
    return page.locator("body").evaluate(COLOUR.format("backgroundColor"))


def shown_rows(page):
    return page.locator(".matrix tr.row:visible").count()


def shown_histories(page):
    return page.locator("figure.history:visible").count()


def test_every_chart_in_sight_is_drawn(page):
    plots = page.locator(".plot:visible")
    assert plots.count() > 6
    assert page.locator(".plot:visible svg").count() == plots.count()
    for section in ("history", "pareto", "ratios", "layers"):
        assert page.locator(f"#{section} svg path").count() > 5
    # A reader is told of one picture with a name and a description, not of its thousand pieces.
    name = "Line chart: accuracy drop of resnet50 by run"
    expect(page.get_by_role("img", name=name)).to_have_accessible_description(re.compile("x86 1.*pp.*fail"))


def test_filters_narrow_rows_charts_and_findings(page, settled):
    rows, histories = shown_rows(page), shown_histories(page)
    page.get_by_label("suite").select_option("mobilenet_v2")
    assert shown_rows(page) == rows / 2
    assert 0 < shown_histories(page) < histories
    assert page.locator(".finding:visible", has_text="resnet50").count() == 0
    expect(page.get_by_role("status")).to_have_text("4 rows, 4 histories shown")
    page.get_by_label("machine").select_option(AVX2)
    assert shown_rows(page) == 2
    page.get_by_role("button", name="Clear").click()
    settled(page)
    assert (shown_rows(page), shown_histories(page)) == (rows, histories)
    expect(page.get_by_role("status")).to_have_text("")


def test_a_filter_of_qconfigs_takes_lines_out_of_charts(page, settled):
    chart = page.locator("figure.history:visible").first
    before = chart.locator(".plot path").count()
    page.get_by_label("qconfig").select_option("x86")
    settled(page)
    assert 0 < chart.locator(".plot path").count() < before
    assert chart.locator(".legend li:visible").count() < chart.locator(".legend li").count()


def test_metrics_that_nobody_judges_are_shown_when_asked_for(page, settled):
    fp32 = page.locator(f'figure[data-metric="{m.LATENCY_INT8.key}"]').first
    expect(fp32).to_be_hidden()
    page.get_by_label("metric").select_option("*")
    settled(page)
    expect(fp32.locator("svg")).to_be_visible()


def test_a_value_leads_to_its_history_also_when_that_is_folded_away(page, settled):
    page.locator(f'.matrix td[data-metric="{m.SIZE_REDUCTION.key}"] a').first.click()
    settled(page)
    figure = page.locator("figure:focus")
    expect(figure).to_be_in_viewport()
    assert figure.get_attribute("data-metric") == m.SIZE_REDUCTION.key
    expect(figure.locator("svg")).to_be_visible()


def test_every_run_as_a_table_on_demand(page):
    figure = page.locator("figure.history:visible").first
    figure.get_by_text("Every run as a table").click()
    table = figure.get_by_role("table")
    expect(table.get_by_role("row")).to_have_count(1 + 40)
    assert table.locator("th[scope=col]").count() == 9
    assert "fail" in table.get_by_role("row").nth(1).inner_text() + table.get_by_role("row").nth(2).inner_text()
    page.get_by_label("qconfig").select_option("minmax")
    expect(figure.get_by_role("table").get_by_role("row")).to_have_count(1 + 20)


def test_pointing_at_a_failed_run_tells_of_it(page):
    figure = page.locator(f'figure.history[data-suite=resnet50][data-metric="{m.ACCURACY_DROP.key}"]')
    figure.scroll_into_view_if_needed()
    figure.locator('path[fill="var(--bad)"]').last.hover()
    tip = page.locator("#tip")
    expect(tip).to_be_visible()
    assert "fail" in tip.inner_text()
    assert "Change number 19" in tip.inner_text()


def test_the_keyboard_reaches_everything_in_the_order_of_the_page(window, report):
    page = window.open(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdicts"
    expect(page.locator(":focus")).to_be_in_viewport()
    order = []
    for _ in range(14):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.name || document.activeElement.textContent"))
    assert order[0] == "theme"
    assert order[1:8] == [
        "Verdicts", "What moved", "History", "Accuracy and latency", "Paired ratios", "Layers", "Environment"
    ]  # fmt: skip
    assert order[8:12] == ["suite", "qconfig", "metric", "machine"]
    outline = page.locator(":focus").evaluate(COLOUR.format("outlineStyle"))
    assert outline == "solid"
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "verdicts"


def test_themes_follow_the_system_and_the_switch(window, report):
    page = window.open(report, color_scheme="dark")
    dark = background(page)
    text = page.locator("figure.history svg text").first
    ink = text.evaluate(COLOUR.format("fill"))
    page.get_by_role("group", name="Colours").get_by_text("Light").click()
    assert background(page) == "rgb(255, 255, 255)" != dark
    assert text.evaluate(COLOUR.format("fill")) != ink
    page.get_by_role("group", name="Colours").get_by_text("Dark").click()
    assert background(page) == dark
    page.emulate_media(color_scheme="light")
    assert background(page) == dark
    page.get_by_role("group", name="Colours").get_by_text("Auto").click()
    assert background(page) == "rgb(255, 255, 255)"


CONTRAST = """names => {
  const probe = document.body.appendChild(document.createElement('span'));
  const light = (name) => {
    probe.style.color = `var(--${name})`;
    const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255);
    const [r, g, b] = parts.map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return names.map(([ink, paper]) => {
    const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  });
}"""


def test_text_and_lines_stand_out_in_both_themes(page):
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for what a chart is read by (1.4.11)."""
    text = [(ink, "bg") for ink in ("ink", "muted", "accent", "good", "bad", "warn")]
    text += [("bad", "bad-bg"), ("muted", "bad-bg"), ("warn", "warn-bg"), ("muted", "warn-bg"), ("muted", "panel")]
    lines = [(f"s{rank}", "bg") for rank in range(8)]
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        found = dict(zip(text + lines, page.evaluate(CONTRAST, text + lines), strict=True))
        assert {pair: ratio for pair, ratio in found.items() if ratio < (4.5 if pair in text else 3)} == {}


def test_a_phone_scrolls_one_way_only(window, report):
    page = window.open(report, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    matrix = page.get_by_role("region", name="Verdicts").last
    matrix.focus()
    page.keyboard.press("End")
    assert page.locator(".matrix th").first.is_visible()


def test_paper_is_white_and_without_controls(page):
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.emulate_media(media="print")
    assert background(page) == "rgb(255, 255, 255)"
    for control in (".filters", ".theme", "nav", "#tip"):
        expect(page.locator(control)).to_be_hidden()
    expect(page.locator(".matrix")).to_be_visible()
    assert page.locator("figure.history").first.evaluate(COLOUR.format("breakInside")) == "avoid"
    assert len(page.pdf(format="A4", print_background=True)) > 10_000


OVERLAPS = """plot => {
  const boxes = [...plot.querySelectorAll('svg text')].map((text) => text.getBoundingClientRect());
  const frame = plot.getBoundingClientRect();
  const clipped = boxes.filter((box) => box.left < frame.left - 1 || box.right > frame.right + 1).length;
  const covers = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
  return clipped + boxes.filter((a, i) => boxes.slice(i + 1).some((b) => a.width && b.width && covers(a, b))).length;
}"""


def test_names_in_charts_stand_clear_of_one_another(window, tmp_path):
    """Four qconfigs that change one run after the other, the first at the third run, and models far apart."""
    found = []
    for run in range(24):
        drops = {f"q{i}": 0.1 if run < 2 + 2 * i else 0.6 for i in range(4)}
        found.append(
            run_of(run, [result("garments_of_all_kinds", name, run, drop=drop) for name, drop in drops.items()])
        )
    path = tmp_path / "names.html"
    path.write_text(html_report(found), encoding="utf-8")
    page = window.open(path)
    figure = page.locator(f'figure.history[data-metric="{m.ACCURACY_DROP.key}"]')
    for run in (2, 4, 6, 8):
        assert figure.locator("svg text", has_text=found[run].commit[:10]).count() == 1
    for name, side in (("[q0]", "start"), (" fp32", "end")):  # the fastest and the slowest model
        assert page.locator("#pareto svg text", has_text=name).get_attribute("text-anchor") == side
    for plot in (figure.locator(".plot"), page.locator("#pareto .plot").first):
        assert plot.evaluate(OVERLAPS) == 0


HOSTILE = (
    "</script><script>document.title='hacked'</script>"
    "<img src=x onerror=\"document.title='hacked'\">{{7*7}}\x1b[31m\u202e'\""
)


def test_hostile_names_are_shown_and_do_nothing(window, tmp_path, settled):
    name = HOSTILE + "n" * 200
    found = []
    for run in range(4):
        one = result("net", "x86", run, drop=2.0)
        layer = dataclasses.replace(layers(0, False)[0], name=name)
        one = dataclasses.replace(one, suite=name, worst_layers=(layer,), errors=(name,))
        found.append(run_of(run, [one], name, commit=name, commit_subject=name, branch=name))
    path = tmp_path / "hostile.html"
    path.write_text(html_report(found, title=name), encoding="utf-8")
    page = window.open(path, viewport={"width": 500, "height": 900})
    page.locator("figure.history").first.get_by_text("Every run as a table").click()
    page.get_by_label("suite").select_option(index=1)
    settled(page)
    page.locator("figure.history").first.locator('path[fill="var(--bad)"]').first.hover()
    expect(page.locator("#tip")).to_contain_text("</script>")
    assert "hacked" not in page.title().split("\u2013")[0]
    assert shown_rows(page) == 1
    assert page.locator(".matrix .suite").inner_text().startswith("</script><script>")
    assert page.locator("#layers svg text", has_text="</script>").count() == 1
    assert page.locator("main img, main script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 500
