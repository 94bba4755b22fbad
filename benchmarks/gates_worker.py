"""A worker that also times copies of the int8 model which were made slower on purpose: run by `benchmarks.gates`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_ptq.worker import load_models, main

if TYPE_CHECKING:
    from torch import Tensor

INT8 = "int8"
AGAIN = "int8 again"
ONE_THREAD = "one thread fewer"
EXTRA: Mapping[str, float] = {"5 % more compute": 0.05, "10 % more compute": 0.10, "20 % more compute": 0.20}
FP32_LAYER = "one layer back in fp32"
INJECT = "inject"
"""A file of this name asks for the slower copies, and is the model with a layer in fp32."""

Model = Callable[["Tensor"], Any]


def load(files: Mapping[str, str]) -> dict[str, Any]:
    """fp32, fp32 again, int8 and int8 again; with INJECT among the files, the slower ones as well."""
    from pytest_ptq.engine import load as read

    models = load_models({name: path for name, path in files.items() if name != INJECT})
    models[AGAIN] = read(files[INT8])
    if INJECT in files:
        models[FP32_LAYER] = read(files[INJECT])
        models[ONE_THREAD] = one_thread_fewer(_deployed(files[INT8]))
        models.update((name, with_more_compute(_deployed(files[INT8]), share)) for name, share in EXTRA.items())
    return models


def _deployed(path: str) -> Model:
    """What a wrapper calls. A worker deploys the models that it knows; one that it does not see into would otherwise
    be slower by more than it is said to be."""
    from pytest_ptq.engine import load as read
    from pytest_ptq.engine.convert import QuantizedModule
    from pytest_ptq.engine.deployment import DeployedOnCall

    model = read(path)
    assert isinstance(model, QuantizedModule)
    return DeployedOnCall(model)


def with_more_compute(model: Model, share: float) -> Model:
    """A model that also multiplies small matrices, for `share` of its own time, which its first runs tell."""
    import torch

    a = torch.rand(96, 96)
    times: list[tuple[float, float]] = []
    count = 0

    def run(x: Tensor) -> Any:
        nonlocal count
        start = time.perf_counter()
        y = model(x)
        if count == 0:
            middle = time.perf_counter()
            for _ in range(20):
                torch.mm(a, a)
            times.append((middle - start, (time.perf_counter() - middle) / 20))
            if len(times) == 9:
                own, one = (sorted(column)[4] for column in zip(*times, strict=True))
                count = max(1, round(share * own / one))
        for _ in range(count):
            torch.mm(a, a)
        return y

    return run


def one_thread_fewer(model: Model) -> Model:
    """A model that computes with one thread less than the others."""
    import torch

    def run(x: Tensor) -> Any:
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads - 1))
        try:
            return model(x)
        finally:
            torch.set_num_threads(threads)

    return run


if __name__ == "__main__":
    main(load)
