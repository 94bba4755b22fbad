"""Where accuracy is lost and what runs in int8: coverage, error by layer, and what a layer would gain in fp32."""

from pytest_ptq.engine.inspect.coverage import Coverage, count_macs, coverage
from pytest_ptq.engine.inspect.inspection import Inspection, inspect, inspect_layers
from pytest_ptq.engine.inspect.saturation import Saturation, saturation
from pytest_ptq.engine.inspect.sensitivity import gains, sensitivities
from pytest_ptq.engine.inspect.sqnr import CAP_DB, sqnr_db

__all__ = [
    "CAP_DB",
    "Coverage",
    "Inspection",
    "Saturation",
    "count_macs",
    "coverage",
    "gains",
    "inspect",
    "inspect_layers",
    "saturation",
    "sensitivities",
    "sqnr_db",
]
