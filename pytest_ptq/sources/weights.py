"""State dicts: reading them without running code, fitting them to a model, and refusing weights that are not finite."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

NESTED_UNDER = ("state_dict", "model_state_dict", "model")
"""Keys that training scripts put a state dict under, beside the epoch and the optimizer."""
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every key."""
NAMED = 3
"""How many keys an error names before it counts the rest."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file or of a checkpoint written by `torch.save`.

    Checkpoints are read with `weights_only=True`: one that would run code is refused. A state dict nested under
    `state_dict` (or `model`) and the prefixes `module.` and `_orig_mod.` are understood.

    Raises:
        WeightsError: the file is missing, damaged, holds code, or is no state dict.
    """
    if not path.is_file():
        raise WeightsError("there is no such file", place=str(path), remedy="Check the path.")
    return _without_wrapper(_as_state_dict(_read(path), str(path)))


def load_into(model: nn.Module, state: Mapping[str, Tensor], place: str) -> None:
    """Copy `state` into `model`, which keeps its own dtypes (fp16 weights become fp32).

    Raises:
        WeightsError: keys are missing, unexpected or of another shape; the first few are named.
    """
    wanted = model.state_dict()
    # Checkpoints from before this counter existed are complete without it; inference never reads it.
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in wanted]
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(wanted[k].shape)}"
        for k in wanted
        if k in state and state[k].shape != wanted[k].shape
    ]
    problems = [
        f"{title}: {_first(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("other shape", shapes))
        if names
    ]
    if problems:
        raise WeightsError(
            f"the state dict does not fit {type(model).__name__}: {'; '.join(problems)}",
            place=place,
            remedy="Give weights of this architecture and number of classes.",
        )
    model.load_state_dict(dict(state), strict=False)


def check_finite(model: nn.Module, place: str | None = None) -> None:
    """Refuse a model that holds NaN or infinity in any parameter or buffer: int8 would hide it.

    Args:
        model: any module, wherever it comes from.
        place: where the weights come from, when that is known.

    Raises:
        WeightsError: names the first such tensor by its module path.
    """
    import torch

    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
            continue
        layer, _, attribute = name.rpartition(".")
        kind = "NaN" if bool(torch.isnan(tensor).any()) else "infinity"
        bad = int((~torch.isfinite(tensor)).sum())
        raise WeightsError(
            f"{attribute} of layer {layer or '(the model itself)'} holds {kind} ({bad} of {tensor.numel()} values)",
            place=place,
            remedy="Such a model cannot be judged; check how the weights were trained or converted.",
        )


def _read(path: Path) -> Any:
    import torch
    from safetensors.torch import load_file

    # Both readers raise whatever damaged bytes lead them to, from KeyError to struct.error.
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a TorchScript archive: refused just below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        held = _code_within(error)
        if held is not None:
            raise WeightsError(
                f"the checkpoint holds {held}, which can run code, so it was not loaded",
                place=str(path),
                remedy="Save `model.state_dict()` alone, or as .safetensors.",
            ) from error
        raise WeightsError(
            f"the file cannot be read as weights ({type(error).__name__})",
            place=str(path),
            remedy="Give a .safetensors file or one that `torch.save(model.state_dict(), ...)` wrote.",
        ) from error


def _code_within(error: Exception) -> str | None:
    """What torch refused to load because it can run code; None when the file is merely damaged."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named:
        return f"a pickled Python object ({named.group(1)})"
    if "TorchScript" in str(error):
        return "a TorchScript program"
    return "pickled Python objects" if isinstance(error, pickle.UnpicklingError) else None


def _as_state_dict(found: Any, place: str) -> dict[str, Tensor]:
    import torch

    for key in NESTED_UNDER:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not found:
        held = "nothing" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise WeightsError(f"the file holds {held}, not a state dict", place=place, remedy="Save `model.state_dict()`.")
    strange = [str(k) for k, v in found.items() if not isinstance(v, torch.Tensor) or v.is_quantized]
    if strange:
        raise WeightsError(
            f"the state dict holds entries that are not plain tensors: {_first(strange)}",
            place=place,
            remedy="Save the `state_dict()` of the float model.",
        )
    return {str(k): v for k, v in found.items()}


def _without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in WRAPPER_PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _first(names: Iterable[str]) -> str:
    listed = list(names)
    rest = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + rest
