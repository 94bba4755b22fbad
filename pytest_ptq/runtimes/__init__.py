"""Where an int8 model may run: one small interface, and a file for each runtime.

Importing this imports none of them. What is installed is read from the packages' metadata.
"""

from collections.abc import Mapping

from pytest_ptq.errors import UnknownNameError
from pytest_ptq.runtimes.interface import Kernel, KernelCounts, Runtime, Session, check_installed
from pytest_ptq.runtimes.onnxruntime import ONNXRUNTIME
from pytest_ptq.runtimes.openvino import OPENVINO
from pytest_ptq.runtimes.torch import TORCH

RUNTIMES: Mapping[str, Runtime] = {runtime.name: runtime for runtime in (TORCH, ONNXRUNTIME, OPENVINO)}

__all__ = [
    "ONNXRUNTIME",
    "OPENVINO",
    "RUNTIMES",
    "TORCH",
    "Kernel",
    "KernelCounts",
    "Runtime",
    "Session",
    "check_installed",
    "find_runtime",
    "installed_runtimes",
]


def find_runtime(name: str) -> Runtime:
    """Raises UnknownNameError: there is none of that name."""
    if name not in RUNTIMES:
        raise UnknownNameError("runtime", name, RUNTIMES)
    return RUNTIMES[name]


def installed_runtimes() -> tuple[str, ...]:
    """Names of those of which nothing is missing, torch first."""
    return tuple(name for name, runtime in RUNTIMES.items() if not runtime.missing)
