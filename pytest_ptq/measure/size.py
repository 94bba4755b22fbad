"""Size: serialized bytes, exact."""

from __future__ import annotations

from pytest_ptq.errors import MeasurementError
from pytest_ptq.metrics import SIZE_FP32, SIZE_INT8, SIZE_REDUCTION, Measurement


def size_measurements(fp32_bytes: int, int8_bytes: int, leftover_fp32_parameters: int | None) -> dict[str, Measurement]:
    """Sizes of the two serialized models in bytes and how many times smaller int8 is, keyed by metric.

    Args:
        fp32_bytes: the fp32 model, serialized.
        int8_bytes: the int8 artifact, serialized.
        leftover_fp32_parameters: weights that stayed fp32, counted in elements; None where nobody knows.

    Raises:
        MeasurementError: a size is not positive, or the count is negative.
    """
    if fp32_bytes <= 0 or int8_bytes <= 0 or (leftover_fp32_parameters or 0) < 0:
        raise MeasurementError(
            f"sizes of {fp32_bytes} and {int8_bytes} bytes with {leftover_fp32_parameters} parameters left in fp32"
            " cannot be",
            remedy="Check that the model has parameters.",
        )
    known = leftover_fp32_parameters is not None
    details = {"leftover_fp32_parameters": leftover_fp32_parameters or 0} if known else {}
    return {
        SIZE_FP32.key: Measurement(SIZE_FP32, float(fp32_bytes)),
        SIZE_INT8.key: Measurement(SIZE_INT8, float(int8_bytes), details=details),
        SIZE_REDUCTION.key: Measurement(SIZE_REDUCTION, fp32_bytes / int8_bytes, details=details),
    }
