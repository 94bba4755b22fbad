"""What the page is worked out from: the Pareto front, quantiles of pairs, layers, data for scripts, specifications."""

from __future__ import annotations

import dataclasses
import json
import statistics

import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq import metrics as m
from pytest_ptq.report.page.latency import Spot, pareto, spread
from pytest_ptq.report.page.layers import layers_of
from pytest_ptq.report.page.payload import as_script
from pytest_ptq.report.page.runs import RowKey, row_key, shown
from pytest_ptq.report.page.specs import SPECS
from tests.report.made_history import layers, result, run_of

ROW = RowKey("net", "embedded", "x86", "key")
numbers = st.integers(1, 6).map(float)


@given(st.lists(st.tuples(numbers, numbers), max_size=8))
def test_pareto_front_is_what_nothing_beats(models):
    for spot in pareto([Spot(ROW, "int8", ms, top1) for ms, top1 in models]):
        as_good = [(x, y) for x, y in models if x <= spot.ms and y >= spot.top1 and (x, y) != (spot.ms, spot.top1)]
        if not as_good and models.count((spot.ms, spot.top1)) == 1:
            assert spot.front
        elif as_good:
            assert not spot.front


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_one_of_several_equals_is_on_the_front(models):
    marked = pareto([Spot(ROW, "int8", ms, top1) for ms, top1 in models])
    fastest = min(ms for ms, _ in models)
    assert sum(spot.front for spot in marked if spot.ms == fastest) == 1


def test_spread_of_all_pairs_and_of_each_process():
    found = spread([[0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9], [1.0]])
    assert [(x.name, x.pairs) for x in found] == [("all", 8), ("1", 3), ("2", 4)]
    assert found[0].middle == pytest.approx(statistics.median([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]))
    assert found[2].low < found[2].quarter < found[2].middle < found[2].three_quarters < found[2].high
    assert spread([]) == spread([[0.5]]) == []


def made(count, fell_from):
    return [run_of(i, [result(worst_layers=layers(i, i >= fell_from))]) for i in range(count)]


def test_layers_are_held_against_the_run_before():
    found = layers_of(made(4, fell_from=3), {})[0]
    assert [layer.name for layer in found.fallen] == ["layer11.conv", "layer12.conv"]
    assert found.fallen[0].moved == pytest.approx(-15)
    assert found.before.run_id == f"{2:012x}"


def test_layers_are_held_against_the_last_run_before_the_change():
    records = made(6, fell_from=2)
    assert layers_of(records, {})[0].fallen == []
    row = row_key(records[0], records[0].results[0])
    found = layers_of(records, {row: records[2].run_id})[0]
    assert (found.before.run_id, len(found.fallen)) == (records[1].run_id, 2)


def test_alone_is_never_held_against_what_was_lost_before():
    records = made(2, fell_from=9)
    bare = tuple(dataclasses.replace(x, alone_db=None) for x in layers(0, False))
    records[0] = run_of(0, [result(worst_layers=bare)])
    found = layers_of(records, {})[0]
    assert not found.alone
    assert found.fallen == []
    assert [x.db for x in found.layers] == [x.sqnr_db for x in layers(0, False)]


def test_bars_are_the_worst_and_the_fallen_in_graph_order():
    found = layers_of(made(2, fell_from=1), {})[0]
    names = [layer.name for layer in found.drawn]
    assert {"layer11.conv", "layer12.conv", "layer29.conv"} <= set(names)
    assert names == [layer.name for layer in found.layers if layer.name in names]
    assert len(names) < len(found.layers)


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_data_for_a_script_is_the_same_data_and_never_ends_the_script(data):
    text = as_script(data)
    assert json.loads(text) == data
    assert not set("<>&") & set(text)
    assert text.isascii()


def test_values_are_shown_in_units_that_people_read():
    assert shown(m.SIZE_INT8, 22.5 * 2**20) == "22.50 MiB"
    assert shown(m.SIZE_INT8, 900.0) == "900 B"
    assert shown(m.LATENCY_RATIO, 0.3314) == "0.331"


@pytest.mark.parametrize("kind", SPECS)
def test_specifications_are_vega_lite(kind):
    """Compiled by Vega-Lite itself; it warns of what it does not know by leaving it out, so the marks are counted."""
    spec = {**SPECS[kind], "width": 400, "datasets": {name: [] for name in names_in(SPECS[kind])}}
    compiled = vl_convert.vegalite_to_vega(spec)
    assert len(compiled["marks"]) >= len(SPECS[kind]["layer"])


def names_in(spec):
    layers = [spec, *spec["layer"]]
    return {layer["data"]["name"] for layer in layers if "data" in layer}
