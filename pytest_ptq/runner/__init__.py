"""Suite x QConfig -> Measurements. Knows no pytest: the plugin, a command line or a notebook can call it.

A suite's models are made in `models`, asked about images in `evaluation`, and judged where they run: `in_torch`, or
`in_runtime` by files from `exported`.
"""

from pytest_ptq.runner.progress import Progress, silent
from pytest_ptq.runner.suite_run import LAYER_IMAGES, WORST_LAYERS, SuiteRun

__all__ = ["LAYER_IMAGES", "WORST_LAYERS", "Progress", "SuiteRun", "silent"]
