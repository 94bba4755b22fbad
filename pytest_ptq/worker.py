"""A fresh process that times int8 models against fp32 and ends: `python -m pytest_ptq.worker`, run by the runner.

It speaks lines of JSON: reads a job, answers that it is ready, waits for the word to go, and answers with what it
timed. Models come as files that `engine.save` wrote, or as those of another runtime. It ends with its parent, however
that one ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from pytest_ptq.errors import PTQError
from pytest_ptq.measure.pairs import Pace, ProcessTimes, time_pairs
from pytest_ptq.measure.processes import CONTROL, GO, REFERENCE, to_wire
from pytest_ptq.measure.timed_by import kernels_of
from pytest_ptq.runtimes import TORCH, Session, find_runtime

Loader = Callable[[Mapping[str, str]], dict[str, Any]]
"""Paths of stored models by name -> models by name, REFERENCE among them."""


def main(load: Loader | None = None) -> None:
    """Do one job. `load` makes the models in place of `load_models`: for whoever wants to time something else."""
    answers = _own_stdout()
    job = json.loads(sys.stdin.buffer.readline())
    told = threading.Event()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    try:
        models = (load or _loader(job))(job["files"])
        _answer(answers, {"ready": True})
        told.wait()
        times = _measure(job, models)
        _answer(answers, {"times": to_wire(times)})
    except PTQError as error:
        found = {"message": error.message, "place": error.place, "remedy": error.remedy}
        _answer(answers, {"error": found})
    # At once: taking hundreds of megabytes of weights down would only keep the next process waiting.
    os._exit(0)


def _own_stdout() -> BinaryIO:
    """Answers go where standard output went; whatever else prints there goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _listen(told: threading.Event) -> None:
    """Wait for the word to go; and end this process when its parent is gone, even in the middle of an inference."""
    for line in sys.stdin.buffer:
        if line == GO:
            told.set()
    os._exit(1)


def _answer(answers: BinaryIO, value: Mapping[str, Any]) -> None:
    answers.write(json.dumps(value).encode() + b"\n")
    answers.flush()


def load_models(files: Mapping[str, str]) -> dict[str, Any]:
    """The reference, once more as the control, and every variant; a float model is frozen."""
    from pytest_ptq.engine import load
    from pytest_ptq.engine.freeze import freeze
    from pytest_ptq.engine.fuse import FusedModule

    def timed(path: str) -> Any:
        reader = OTHERS.get(Path(path).suffix.lower())
        if reader is not None:
            return reader(path)
        model = load(path)
        return freeze(model) if isinstance(model, FusedModule) else model

    return {CONTROL: timed(files[REFERENCE]), **{name: timed(path) for name, path in files.items()}}


def _exported(path: str) -> Any:
    from pytest_ptq.sources import ExportedProgram

    return ExportedProgram(path).build()


def _script(path: str) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        return torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]


OTHERS: Mapping[str, Callable[[str], Any]] = {".pt2": _exported, ".pt": _script, ".pth": _script, ".ts": _script}
"""What reads somebody else's model, by the end of its file's name; those of this engine come without a name."""


def _loader(job: Mapping[str, Any]) -> Loader:
    """What loads the models of a job: this engine, or the runtime that it names."""
    name, threads = job["runtime"], job["threads"]
    if name == TORCH.name:
        return load_models
    runtime = find_runtime(name)

    def load_sessions(files: Mapping[str, str]) -> dict[str, Any]:
        """One session for each model, and a second one for the reference."""
        named = {CONTROL: files[REFERENCE], **files}
        return {name: _Called(runtime.load(path, threads)) for name, path in named.items()}

    return load_sessions


class _Called:
    """A session, called with a tensor as models are."""

    def __init__(self, session: Session) -> None:
        self._run = session.run

    def __call__(self, x: Any) -> object:
        return self._run(x.numpy())


def _measure(job: Mapping[str, Any], models: dict[str, Any]) -> ProcessTimes:
    import torch

    from pytest_ptq.engine.deployment import called_as_deployed

    example = torch.rand(job["shape"], generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(job["threads"])
    models = {name: called_as_deployed(model, example) for name, model in models.items()}
    kernels, not_native = kernels_of(models)
    reference = models.pop(REFERENCE)
    pace = Pace(**job["pace"])
    times = time_pairs(reference, models, example, threads=job["threads"], seed=job["seed"], pace=pace)
    return replace(times, kernels=kernels, not_native=not_native)


if __name__ == "__main__":
    main()
