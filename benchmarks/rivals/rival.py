"""What every rival engine is to the benchmarks: a name, its packages, and one function that quantizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor, nn

Predict: TypeAlias = "Callable[[Tensor], Tensor]"
"""A batch of images (n, 3, height, width), float32, -> logits (n, classes), float32."""


@dataclass(frozen=True)
class Settings:
    """How an engine is to run.

    Args:
        threads: threads of one call.
        compiled: whether an engine that can be compiled further is, for the one shape of its calibration batches; slow,
            and needless where only its logits count.
    """

    threads: int
    compiled: bool = False


@dataclass(frozen=True)
class Rival:
    """An engine in one of its configurations.

    Args:
        key: names it in commands and files.
        name: names it in tables.
        module: the module that holds it in its `RIVALS`, which the process of its own imports.
        packages: distributions that have to be installed beside torch.
        quantize: the fp32 model in eval mode, batches of calibration images and settings -> the int8 model. It may
            change the model that it is given. The packages are imported in it, never above.
        sources: files and folders of code that its figures depend on, beside its module.
    """

    key: str
    name: str
    module: str
    packages: tuple[str, ...]
    quantize: Callable[[nn.Module, list[Tensor], Settings], Predict]
    sources: tuple[Path, ...] = ()
