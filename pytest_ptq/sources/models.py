"""Float models: torchvision's architectures with weights from the package, from torchvision or from a file."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_ptq.errors import PTQError, SuiteError, UnknownNameError, WeightsError
from pytest_ptq.sources.weights import check_finite, load_into, read_state_dict

if TYPE_CHECKING:
    from torch import Tensor, nn

EMBEDDED = "embedded:"
EMBEDDED_FOLDER = Path(__file__).resolve().parent.parent / "data" / "weights"
RANDOM = "random"
RANDOM_SEED = 0


class Builder(Protocol):
    def build(self, weights: Path | None = None) -> nn.Module: ...


@dataclass(frozen=True)
class TorchvisionModel:
    """A classification model of `torchvision.models`.

    Args:
        name: as torchvision spells it, such as `resnet50`.
        classes: size of the output.
        weights: `embedded:STEM` (a file of the package), the name of torchvision's own weights such as
            `IMAGENET1K_V2` (downloaded once by torchvision), `random` (the same random values each time), or
            None: only `--ptq-weights FILE` will do. That option overrides any of them.
    """

    name: str
    classes: int = 1000
    weights: str | None = None

    def build(self, weights: Path | None = None) -> nn.Module:
        """The model in eval mode, float32, on the CPU.

        Args:
            weights: a state dict (`.safetensors`, or written by `torch.save`) instead of the declared weights.

        Raises:
            WeightsError: weights that are missing, unsafe, of another architecture, or not finite.
            UnknownNameError: torchvision has no such model or weights.
        """
        model = self._untrained()
        if weights is not None:
            load_into(model, read_state_dict(weights), str(weights))
        elif self.weights != RANDOM:
            load_into(model, self._declared_state(), f"{self.name}, weights {self.weights}")
        check_finite(model, str(weights or f"{self.name}, weights {self.weights}"))
        return _without_auxiliaries(model.eval())

    def _untrained(self) -> nn.Module:
        import torch
        from torchvision import models

        known = models.list_models(module=models)
        if self.name not in known:
            raise UnknownNameError("torchvision model", self.name, known)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            torch.manual_seed(RANDOM_SEED)
            # googlenet and inception_v3 warn that their initialisation will change; it is replaced anyway.
            warnings.simplefilter("ignore", FutureWarning)
            model: nn.Module = models.get_model(self.name, weights=None, num_classes=self.classes)
        return model

    def _declared_state(self) -> dict[str, Tensor]:
        if self.weights is None:
            raise WeightsError("no weights are declared", place=self.name, remedy="Use --ptq-weights FILE.")
        if self.weights.startswith(EMBEDDED):
            return read_state_dict(EMBEDDED_FOLDER / f"{self.weights.removeprefix(EMBEDDED)}.safetensors")
        return self._torchvision_state(self.weights)

    def _torchvision_state(self, weights: str) -> dict[str, Tensor]:
        from torchvision import models

        table: Any = models.get_model_weights(self.name)
        if weights not in table.__members__:
            raise UnknownNameError(f"weights of {self.name}", weights, table.__members__)
        try:
            state: dict[str, Tensor] = table[weights].get_state_dict(
                progress=False, check_hash=True, weights_only=True, map_location="cpu"
            )
        except (OSError, HTTPException, RuntimeError) as error:
            raise WeightsError(
                f"torchvision's weights {weights} could not be downloaded ({error})",
                place=self.name,
                remedy="Without a network, use --ptq-weights FILE.",
            ) from error
        return state


def _without_auxiliaries(model: nn.Module) -> nn.Module:
    """GoogLeNet and Inception v3 have classifiers that only training reads; they would count in fp32's size alone."""
    for name in ("aux1", "aux2", "AuxLogits"):
        if hasattr(model, name):
            model.aux_logits = False  # type: ignore[assignment]
            setattr(model, name, None)
    return model


def build_model(source: Builder | Callable[[], Any], weights: Path | None = None) -> nn.Module:
    """The float model of a suite's variant, in eval mode and with finite weights only.

    Args:
        source: an object with `build(weights)`, or a callable that returns an `nn.Module`.
        weights: `--ptq-weights`, when given: loaded over whatever a callable returns.

    Raises:
        SuiteError: the source raises, or returns something else than an `nn.Module`.
        WeightsError: the weights cannot be used.
    """
    from torch import nn

    place = getattr(source, "__name__", type(source).__name__)
    if isinstance(source, nn.Module):
        raise SuiteError(
            "the model of a variant is a module, not something that builds one",
            place=place,
            remedy="Write `model=lambda: my_model`, or the name of a function that returns it.",
        )
    # A class is a callable even when its instances have `build`.
    build = None if isinstance(source, type) else getattr(source, "build", None)
    try:
        model = build(weights) if build is not None else source()  # type: ignore[operator]
    except PTQError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise SuiteError(f"the model source raises {type(error).__name__}: {text}", place=place) from error
    if not isinstance(model, nn.Module):
        raise SuiteError(
            f"the model source returns a {type(model).__name__}", place=place, remedy="Return a torch.nn.Module."
        )
    if build is None and (weights is not None or any(module.training for module in model.modules())):
        model = copy.deepcopy(model)  # a callable may return a model that others hold as well
    if build is None and weights is not None:
        load_into(model, read_state_dict(weights), str(weights))
    check_finite(model, str(weights) if weights else place)
    return model.eval()
