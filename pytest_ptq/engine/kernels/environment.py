"""What may choose other kernels than a run of the same code took before: two of them need not agree to the last bit."""

from __future__ import annotations

import os

CHOOSING = ("ATEN_", "DNNL_", "FBGEMM_", "MKL_", "ONEDNN_", "TORCH_")
"""How the names of environment variables begin that may choose other kernels."""


def settings() -> list[tuple[str, str]]:
    """Name and value of each such variable that is set, in sorted order."""
    return sorted((name, value) for name, value in os.environ.items() if name.startswith(CHOOSING))
