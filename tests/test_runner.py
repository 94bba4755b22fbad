"""SuiteRun: one calibration for all qconfigs, everything computed once, and what it hands out."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import Noise, build, suite
from torch import Tensor, nn

from pytest_ptq import engine
from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.pipeline import calibrating
from pytest_ptq.errors import DataError, MeasurementError, UnknownNameError
from pytest_ptq.metrics import (
    ACCURACY_DROP,
    INT8_MACS,
    KERNELS,
    NOT_NATIVE,
    QDQ_PAIRS,
    SIZE_FP32,
    SIZE_INT8,
    SIZE_REDUCTION,
    SQNR,
    TOP1_FP32,
    TOP1_INT8,
)
from pytest_ptq.qconfig import MINMAX, X86, QConfig
from pytest_ptq.runner import SuiteRun


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one at each calibration pass."""
    found: list[int] = []
    real = engine.pipeline.calibrate

    def counted(*args: Any) -> Any:
        found.append(1)
        return real(*args)

    monkeypatch.setattr("pytest_ptq.engine.pipeline.calibrate", counted)
    return found


@pytest.mark.parametrize("order", [(X86, MINMAX), (MINMAX, X86)])
def test_one_calibration_serves_all_qconfigs(order: tuple[QConfig, ...], passes: list[int]) -> None:
    run = SuiteRun(suite(Noise()))
    kept = QConfig("kept", fp32_layers=("3",))
    models = {q.name: run.quantized(q) for q in (*order, kept)}
    assert len(passes) == 1
    x = run.dataset.calibration()[0]  # type: ignore[index]
    for qconfig in (X86, MINMAX, kept):
        alone = engine.quantize(build(), run.dataset.calibration(), qconfig)
        assert torch.equal(models[qconfig.name](x), alone(x)), "as if it had been calibrated on its own"


def test_an_fp32_layer_asked_for_first_does_not_hinder_those_that_follow(passes: list[int]) -> None:
    run = SuiteRun(suite(Noise()))
    run.quantized(QConfig("kept", fp32_layers=("0", "3")))
    run.quantized(X86)
    assert len(passes) == 1
    assert run.fp32_layers(X86) == ()


def test_a_suite_of_minmax_alone_collects_no_histograms() -> None:
    run = SuiteRun(suite(Noise(), ("minmax",)))
    run.quantized(MINMAX)
    _, calibration = run._calibrated(MINMAX)
    assert all(s.counts is None for s in calibration.statistics.values())


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each calibration batch that went through a model."""
    found: list[int] = []
    real = calibrating.run_stage

    def counted(module: Any, x: Tensor, place: str) -> Any:
        found.append(len(x))
        return real(module, x, place)

    monkeypatch.setattr(calibrating, "run_stage", counted)
    return found


SWEEP = ("x86", "minmax", "percentile", "entropy", "mse", QConfig("average", activation_observer="moving_average"))


def test_six_qconfigs_cost_one_pass_and_the_next_run_none(tmp_path: Path, forwards: list[int]) -> None:
    outputs: list[list[Tensor]] = []
    for _ in range(2):
        run = SuiteRun(suite(Noise(), SWEEP), cache=tmp_path)
        x = run.dataset.calibration()[0]  # type: ignore[index]
        outputs.append([run.quantized(q)(x) for q in run.qconfigs])
        assert forwards == [16, 16]
    assert all(torch.equal(one, other) for one, other in zip(*outputs, strict=True))
    for qconfig, output in zip(run.qconfigs, outputs[0], strict=True):
        alone = engine.quantize(build(), run.dataset.calibration(), qconfig)
        assert torch.equal(alone(x), output), qconfig.name


def test_a_qconfig_that_needs_more_than_the_suite_said_is_served_too(forwards: list[int]) -> None:
    run = SuiteRun(suite(Noise(), ("minmax",)))
    run.quantized(MINMAX)
    run.quantized(X86)
    run.quantized(MINMAX)
    assert forwards == [16, 16] * 2


def test_everything_is_computed_once() -> None:
    data = Noise()
    run = SuiteRun(suite(data))
    for qconfig in run.qconfigs:
        for gate in ("accuracy", "size", "coverage"):
            assert run.measure(gate, qconfig) is run.measure(gate, qconfig)
        assert run.quantized(qconfig) is run.quantized(qconfig)
    assert data.reads["load"] == 1
    assert data.reads["evaluation"] == 3, "fp32 once, and each qconfig once"
    assert run.model is run.model
    assert run.fp32 is run.fp32


def test_the_packed_fp32_model_goes_when_its_logits_are_known() -> None:
    run = SuiteRun(suite(Noise()))
    run.quantized(X86)
    gc.disable()
    try:
        packed = [weakref.ref(layer) for layer in run.fp32.modules()]
        run.measure("accuracy", X86)
        assert not any(layer() for layer in packed), "at once, and not when Python collects"
    finally:
        gc.enable()
    logits = run.evaluation.fp32_logits
    assert logits is not None
    images, _ = next(iter(run.dataset.evaluation()))
    with torch.inference_mode():
        assert torch.equal(run.fp32(images), logits[0][: len(images)]), "made again for whoever asks"
    kept = run.fp32
    run.measure("accuracy", MINMAX)
    assert run.fp32 is kept, "no further evaluation takes it from them"


def test_what_is_measured() -> None:
    run = SuiteRun(suite(Noise()))
    accuracy, size, coverage = (run.measure(gate, X86) for gate in ("accuracy", "size", "coverage"))
    assert accuracy[TOP1_FP32.key].value == 100.0
    assert accuracy[TOP1_INT8.key].value == 100.0 - accuracy[ACCURACY_DROP.key].value
    assert accuracy[SQNR.key].value > 25
    assert accuracy[ACCURACY_DROP.key].samples == 64
    assert size[SIZE_FP32.key].value == engine.size_mb(run.model) * 1e6
    assert size[SIZE_INT8.key].value == engine.size_mb(run.quantized(X86)) * 1e6
    assert size[SIZE_REDUCTION.key].value == size[SIZE_FP32.key].value / size[SIZE_INT8.key].value
    assert (coverage[INT8_MACS.key].value, coverage[QDQ_PAIRS.key].value) == (100.0, 0.0)
    assert run.reduce_range(X86) is engine.plan.kernels.saturates_int16()


def test_the_deployed_form_is_judged_and_named() -> None:
    run = SuiteRun(suite(Noise()))
    found = run.measure("accuracy", X86)[SQNR.key]
    if not native.why_not():
        assert found.details[KERNELS] == "native program"
        assert NOT_NATIVE not in found.details
    else:
        assert found.details[KERNELS] in ("packed torchscript", "plain torchscript")  # plain where int16 saturates
        assert found.details[NOT_NATIVE] == native.why_not()
    (batch,) = (b for i, b in enumerate(run.dataset.evaluation()) if i == 0)
    x = batch[0]
    with torch.inference_mode():
        assert torch.allclose(engine.deploy(run.quantized(X86), x)(x), run.quantized(X86)(x), atol=0.1)


def test_it_is_told_why_a_model_is_no_program_of_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_ptq.engine.deployment._native", lambda *_: (None, "a reason"))
    details = SuiteRun(suite(Noise())).measure("accuracy", X86)[SQNR.key].details
    assert details[KERNELS] in ("packed torchscript", "plain torchscript")  # plain where int16 saturates
    assert details[NOT_NATIVE] == "a reason"


def test_coverage_of_what_is_left_in_fp32() -> None:
    kept = QConfig("kept", fp32_layers=("3",))
    run = SuiteRun(suite(Noise(), (kept,)))
    first, second, last = 64 * 16 * 27, 16 * 32 * 16 * 9, 320
    measured = run.measure("coverage", kept)[INT8_MACS.key]
    assert measured.value == pytest.approx(100 * (first + last) / (first + second + last))
    assert run.fp32_layers(kept)[0] == ("3", "kept in fp32 by qconfig kept")
    assert run.measure("size", kept)[SIZE_INT8.key].details["leftover_fp32_parameters"] == 32 * 16 * 9 + 32


def test_layers_come_in_graph_order_and_the_worst_with_their_gain() -> None:
    rows = SuiteRun(suite(Noise())).layers(X86)
    assert [row.name for row in rows] == ["0", "3", "5", "6", "7"]
    worst = sorted(rows, key=lambda row: row.alone_db)
    assert [row.gain_db is None for row in worst] == [False, False, False, True, True]


def test_a_saved_model_is_the_one_that_was_judged(tmp_path: Path) -> None:
    run = SuiteRun(suite(Noise()))
    path = run.save(X86, tmp_path)
    assert path == tmp_path / "tiny_x86.safetensors"
    x = run.dataset.calibration()[0]  # type: ignore[index]
    assert torch.equal(engine.load(path)(x), run.quantized(X86)(x))


def test_progress_is_shown() -> None:
    seen: list[tuple[str, int | None]] = []

    def progress(items: Iterable[Any], title: str, total: int | None) -> Iterator[Any]:
        seen.append((title, total))
        yield from items

    SuiteRun(suite(Noise()), progress=progress).measure("accuracy", X86)
    looked = ("classes of the calibration images", 2)
    assert sorted(seen) == [("calibrating", 2), looked, ("evaluating fp32", 4), ("evaluating x86", 4)]


def test_the_argument_reaches_the_data() -> None:
    data = Noise()
    assert SuiteRun(suite(data), "embedded", "somewhere").dataset is data
    assert data.argument == "somewhere"


def test_unknown_names() -> None:
    with pytest.raises(
        UnknownNameError, match=r"suite tiny: unknown kind of data 'embeded'. Did you mean 'embedded'\?"
    ):
        SuiteRun(suite(Noise()), "embeded")
    with pytest.raises(UnknownNameError, match=r"unknown gate 'acuracy'. Did you mean 'accuracy'\?"):
        SuiteRun(suite(Noise())).measure("acuracy", X86)
    with pytest.raises(UnknownNameError, match="unknown qconfig 'mine'"):
        SuiteRun(suite(Noise(), ("mine",)))
    mine = QConfig("mine", activation_observer="minmax")
    assert SuiteRun(suite(Noise(), ("mine",)), qconfigs={"mine": mine}).qconfigs == (mine,)


def test_no_calibration_data() -> None:
    run = SuiteRun(suite(Noise([])))
    with pytest.raises(DataError, match="no calibration batch"):
        run.measure("accuracy", X86)
    with pytest.raises((DataError, MeasurementError)):
        run.measure("coverage", X86)


def test_the_users_model_is_not_touched() -> None:
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = SuiteRun(suite(Noise(), model=lambda: model))
    run.measure("accuracy", X86)
    run.layers(X86)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Stopwatch:
    """Stands in for the processes that time models: remembers what it was given."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def add(self, name: str, make: Callable[[], nn.Module]) -> None:
        make()
        self.stored.append(name)

    def samples(self, name: str, together: Iterable[str] = ()) -> None:
        self.asked.append((name, tuple(together)))


def test_models_are_timed_together_but_for_one_that_cannot_be_made() -> None:
    run, watch = SuiteRun(suite(Noise())), Stopwatch()
    run._in_torch.__dict__["timing"] = watch
    broken = QConfig("broken", fp32_layers=("no such layer",))
    run.timed_together = (X86, broken, MINMAX)
    run.latency_samples(X86)
    assert set(watch.stored) == {"int8 x86", "int8 minmax"}
    assert watch.asked == [("int8 x86", ("int8 x86", "int8 minmax"))]
    with pytest.raises(UnknownNameError, match="no such layer"):
        run.latency_samples(broken)
