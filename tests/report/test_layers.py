"""The table of the worst layers, and the sentence on what they suffer from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_ptq.metrics import LayerError, parts_per_million
from pytest_ptq.report.layers import layer_lines, why

SOUND = LayerError(
    "conv", "conv2d", 35.0, weight_db=45.0, input_db=40.0, alone_db=36.0, pairs=10**6, overflowing_pairs=0,
    possible_pairs=9, channels=8, dead_channels=0, clipped_percent=0.0, scale=0.1, zero_point=0,
)  # fmt: skip


def test_layers_are_ranked_by_what_they_lose_alone() -> None:
    heir = replace(SOUND, name="heir", sqnr_db=5.0)
    culprit = replace(SOUND, name="culprit", sqnr_db=20.0, alone_db=9.0)
    text = "\n".join(layer_lines([SOUND, heir, culprit, LayerError("unknown", "linear")]))
    places = [text.index(name) for name in ("culprit", "conv ", "heir", "unknown")]
    assert places == sorted(places)


def test_columns_without_a_figure_are_left_out() -> None:
    text = "\n".join(layer_lines([LayerError("fc", "linear", 12.0)]))
    assert "SQNR dB" in text
    assert "clipped" not in text
    assert "int16" not in text
    assert "int16 overflows" in "\n".join(layer_lines([SOUND]))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (replace(SOUND, alone_db=12.0, clipped_percent=3.4), "3.4 % of its output is clipped"),
        (replace(SOUND, alone_db=12.0, weight_db=13.0), "its weights lose most (13.0 dB); one scale for each channel"),
        (replace(SOUND, alone_db=12.0, input_db=14.0), "what it reads is stored coarsely (14.0 dB)"),
        (replace(SOUND, alone_db=12.0, weight_db=25.0, input_db=14.0), "what it reads is stored coarsely (14.0 dB)"),
        (replace(SOUND, alone_db=36.0, sqnr_db=12.0), "the loss comes from the layers before it"),
        (replace(SOUND, alone_db=20.0, sqnr_db=20.0), "leave it in fp32"),
    ],
)
def test_the_cause_and_the_remedy(row: LayerError, said: str) -> None:
    assert said in why(row)
    assert f"conv: {why(row)}" in "\n".join(layer_lines([row]))


def test_nothing_is_claimed_of_a_layer_of_which_little_is_known() -> None:
    assert why(LayerError("fc", "linear", 12.0)) == ""


def test_shares() -> None:
    assert parts_per_million(None, 10) == parts_per_million(3, None) == parts_per_million(0, 0) == "-"
    assert parts_per_million(0, 10) == "0"
    assert parts_per_million(1, 10**6) == "1 ppm"
    assert parts_per_million(1, 10**8) == "0.01 ppm"
    assert parts_per_million(1, 100) == "10000 ppm"
