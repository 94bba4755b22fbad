"""Where each runtime wants values rounded, so that it runs an int8 kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_ptq.errors import UnknownNameError


@dataclass(frozen=True)
class Placement:
    """What a runtime's fusions ask of the graph.

    Args:
        rounds_convolutions: a convolution runs in int8 only where QuantizeLinear reads its sums directly; an activation
            or a residual behind it works on what was rounded before.
        fine_sums: the sums of a convolution pass through 16 bits before a residual. OpenVINO 2026.4 adds in the
            convolution's kernel where a pair stands in front of the addition. Otherwise it puts a product there, by
            which the sums come to the residual's steps, and no longer sees that they are a convolution's.
        rounds_moves: what moves integers about is recognised by a pair of its own behind it.
        clips_integers: what lies beyond an integer's bounds is cut off between the pair, not before it.
        flattens_linear: linear layers over more than two dimensions are matrix products of two.
        pads_averages: zeros that an average counts are padding before it. OpenVINO 2026.4 pads integers with 0 there,
            whatever their zero point.
    """

    rounds_convolutions: bool
    fine_sums: bool
    rounds_moves: bool
    clips_integers: bool
    flattens_linear: bool
    pads_averages: bool


PLACEMENTS: Mapping[str, Placement] = {
    "onnxruntime": Placement(True, False, True, True, True, True),
    "openvino": Placement(False, True, False, False, False, False),
}


def placement_for(runtime: str) -> Placement:
    """Raises UnknownNameError."""
    if runtime not in PLACEMENTS:
        raise UnknownNameError("runtime", runtime, PLACEMENTS, place="export_onnx")
    return PLACEMENTS[runtime]
