"""The table of a profile: columns, order, and rows that add up."""

from __future__ import annotations

import re

import pytest

from pytest_ptq.metrics import LayerTime, Profile
from pytest_ptq.report.profile import profile_text

LAYERS = (
    LayerTime("conv1", "onednn.qconv_pointwise", (1, 8, 4, 4), 2.0, 400_000_000),
    LayerTime("pool", "max_pool2d_with_indices", (1, 8, 2, 2), 1.0, 0),
    LayerTime("fc\x1b[31m", "", (1, 10), 5.0, 100_000_000),
)


def made(**changed: object) -> Profile:
    plain: dict[str, object] = {
        "suite": "tiny", "qconfig": "x86", "shape": (1, 3, 8, 8), "threads": 2, "repeats": 50, "layers": LAYERS,
        "whole_ms": 10.0, "walk_ms": 12.0, "limit_gmacs_per_s": 400.0, "limit_layer": "linear",
        "limit_kernel": "native product", "form": "graph", "not_native": "",
    }  # fmt: skip
    return Profile(**{**plain, **changed})  # type: ignore[arg-type]


def cells(text: str) -> list[list[str]]:
    lines = text.splitlines()
    (rule,) = [i for i, line in enumerate(lines) if line.startswith("---")]
    table = lines[rule + 1 : lines.index("", rule)]
    return [re.split(r"\s{2,}", line.strip()) for line in table]


def test_a_row_a_layer_and_one_between_them() -> None:
    text = profile_text(made())
    assert cells(text) == [
        ["conv1", "onednn.qconv_pointwise", "1x8x4x4", "2.000", "0.4000", "200", "50", "20.0"],
        ["pool", "max_pool2d_with_indices", "1x8x2x2", "1.000", "-", "-", "-", "10.0"],
        [r"fc\x1b[31m", "-", "1x10", "5.000", "0.1000", "20", "5", "50.0"],
        ["between the layers", "-", "-", "2.000", "-", "-", "-", "20.0"],
    ]
    header = text.splitlines()[2]
    assert header.split("  ")[0] == "layer"
    assert re.split(r"\s{2,}", header) == [
        "layer", "kernel", "output", "ms", "GMAC", "GMAC/s", "% of limit", "% of total",
    ]  # fmt: skip


def test_the_shares_come_to_everything() -> None:
    for top in (None, 1, 2, 3, 9):
        rows = cells(profile_text(made(), top))
        assert sum(float(row[-1]) for row in rows) == pytest.approx(100)
        assert rows[-1][0] == "between the layers"


def test_the_slowest_come_first() -> None:
    rows = cells(profile_text(made(), 2))
    assert [row[0] for row in rows] == [r"fc\x1b[31m", "conv1", "the other 1", "between the layers"]
    assert rows[2][3] == "1.000"


def test_what_can_be_reached_is_told() -> None:
    text = profile_text(made())
    assert "tiny[x86], input 1 x 3 x 8 x 8, 2 threads, median of 50" in text
    assert "whole model: 10.000 ms for 0.500 GMAC; 1.250 ms at the arithmetic limit (8.00 times that)" in text
    assert "limit: 400 GMAC/s, the most that was reached in this run with 2 threads (linear: native product); " in text
    assert "12.000 ms" in text, "what timing disturbs"


def test_it_says_that_the_latency_gate_times_another_form() -> None:
    (line,) = [line for line in profile_text(made()).splitlines() if "latency gate" in line]
    assert line == (
        "These are times of the graph, called layer by layer from Python: not of the deployed form, one program of it, "
        "in which the latency gate times the model."
    )


def test_it_says_why_the_deployed_form_is_not_timed() -> None:
    text = profile_text(made(not_native="no \x1b steps"))
    assert "\nThat is no program of compiled kernels, which could be timed: no \\x1b steps.\n" in text
    assert "compiled kernels" not in profile_text(made())


def test_of_a_program_it_says_that_it_is_what_the_latency_gate_times() -> None:
    text = profile_text(made(form="program"))
    (line,) = [line for line in text.splitlines() if "latency gate" in line]
    assert line == (
        "These are times of the deployed form, a program of compiled kernels, in which the latency gate times the "
        "model: a layer is the sum of its steps, and what only looks at memory in another way has none."
    )
    assert text.splitlines()[-1] == (
        "Timing disturbs: a pass with a clock around every layer took 12.000 ms. between the layers: the whole model "
        "less the sum of its layers: the call itself, and what is slow in one call and not in the next, which is in "
        "the median of the whole and in that of no layer."
    )
    assert profile_text(made()).endswith("; below zero where layers run faster without a clock between them.")


def test_a_model_that_multiplies_nothing() -> None:
    text = profile_text(made(layers=LAYERS[1:2], threads=1))
    assert "it multiplies nothing" in text
    assert "1 thread," in text


def test_layers_that_are_faster_without_a_clock() -> None:
    assert cells(profile_text(made(whole_ms=7.0)))[-1][3] == "-1.000"
