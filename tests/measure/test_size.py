import pytest

from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.size import size_measurements


def test_sizes_are_exact_and_keyed_by_metric():
    sizes = size_measurements(400, 100, 7)
    assert sizes["size_fp32_bytes"].value == 400
    assert sizes["size_int8_bytes"].value == 100
    assert sizes["size_reduction_x"].value == 4.0
    assert sizes["size_reduction_x"].details["leftover_fp32_parameters"] == 7


@pytest.mark.parametrize("sizes", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(MeasurementError, match="cannot be"):
        size_measurements(*sizes)
