"""Both runtimes on small files: what they answer, with which kernels, and what they say of what they cannot do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pytest_ptq.errors import InferenceError
from pytest_ptq.runtimes import RUNTIMES
from runtimes.made import CONV, FC, SHAPE, float_model, impossible_shape, int8_model, unknown_operation

BOTH = pytest.mark.parametrize("name", ["onnxruntime", "openvino"])


def images(count: int = SHAPE[0], channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((count, channels, *SHAPE[2:]), dtype=np.float32)


def test_the_runtimes_agree(tmp_path: Path) -> None:
    for make, tolerance in ((float_model, 1e-4), (int8_model, 0.0101)):
        path, x = make(tmp_path / f"{make.__name__}.onnx"), images()
        one, other = (RUNTIMES[name].load(path, 1).run(x) for name in ("onnxruntime", "openvino"))
        assert one.shape == other.shape == (2, 10)  # type: ignore[union-attr]
        assert one.dtype == other.dtype == np.float32  # type: ignore[union-attr]
        assert np.abs(one - other).max() <= tolerance, make.__name__  # type: ignore[operator]


@BOTH
def test_int8_is_near_fp32_and_any_number_of_images_may_come(name: str, tmp_path: Path) -> None:
    int8 = RUNTIMES[name].load(int8_model(tmp_path / "int8.onnx"), 1)
    fp32 = RUNTIMES[name].load(float_model(tmp_path / "fp32.onnx"), 1)
    whole = np.asarray(int8.run(images(5)))
    assert np.abs(whole - fp32.run(images(5))).max() < 0.05
    for i in range(5):
        assert np.abs(np.asarray(int8.run(images(5)[i : i + 1])) - whole[i]).max() <= 0.0101, "a step at most"


@BOTH
def test_outputs_are_the_callers_own(name: str, tmp_path: Path) -> None:
    session = RUNTIMES[name].load(float_model(tmp_path / "m.onnx"), 1)
    first = np.asarray(session.run(images()))
    kept = first.copy()
    session.run(images() * 3)
    assert (first == kept).all()


@BOTH
def test_kernels_are_counted_in_the_runtimes_own_graph(name: str, tmp_path: Path) -> None:
    counted = {}
    for make in (float_model, int8_model):
        session = RUNTIMES[name].load(make(tmp_path / "m.onnx"), 1)
        session.run(images())
        counted[make] = session.kernels()
    assert [len(k.weighted) for k in counted.values()] == [2, 2]
    assert [len(k.weighted_int8) for k in counted.values()] == [0, 2]
    assert not counted[float_model].int8
    assert sum(counted[int8_model].int8.values()) >= 3, "the pooling, too"
    assert str(counted[int8_model]).startswith("2 of 2 convolutions and products in int8, ")
    assert str(counted[float_model]) == "0 of 2 convolutions and products in int8"


@BOTH
def test_a_product_that_is_left_in_float_is_counted_as_such(name: str, tmp_path: Path) -> None:
    session = RUNTIMES[name].load(int8_model(tmp_path / "m.onnx", product=False), 1)
    session.run(images())
    counts = session.kernels()
    assert (len(counts.weighted_int8), len(counts.weighted)) == (1, 2)
    assert any(source.startswith(CONV) for source in counts.weighted_int8[0].sources)
    (left,) = [kernel for kernel in counts.weighted if not kernel.int8]
    assert any(source == "y" or source.startswith(FC) for source in left.sources)


@BOTH
def test_kernels_can_be_counted_before_anything_has_run(name: str, tmp_path: Path) -> None:
    counts = RUNTIMES[name].load(int8_model(tmp_path / "m.onnx"), 1).kernels()
    assert len(counts.weighted_int8) == 2


@pytest.mark.parametrize(
    ("name", "stops"),
    [("onnxruntime", "it stops at Frobnicate node 'layer1.odd'"), ("openvino", "it stops at Frobnicate")],
)
def test_an_operation_that_a_runtime_does_not_know_is_named(name: str, stops: str, tmp_path: Path) -> None:
    path = unknown_operation(tmp_path / "m.onnx")
    with pytest.raises(InferenceError) as caught:
        RUNTIMES[name].load(path, 1)
    said = str(caught.value)
    assert said.startswith(f"runtime: {RUNTIMES[name].title} cannot load the model ({stops}")
    assert "\n" not in said
    assert "src/" not in said


@pytest.mark.parametrize(
    ("name", "stops"),
    [("onnxruntime", "Reshape node 'head.reshape'"), ("openvino", "Reshape node 'y'")],
)
def test_an_operation_that_fails_is_named(name: str, stops: str, tmp_path: Path) -> None:
    session = RUNTIMES[name].load(impossible_shape(tmp_path / "m.onnx"), 1)
    with pytest.raises(InferenceError, match=f"cannot run the model .it stops at {stops}.: ") as caught:
        session.run(images(1))
    assert "src/" not in str(caught.value)


@BOTH
@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(b"nonsense"), lambda p: p.unlink()])
def test_a_file_that_is_no_model_is_one_sentence(name: str, spoil: Callable[[Path], object], tmp_path: Path) -> None:
    path = float_model(tmp_path / "m.onnx")
    spoil(path)
    with pytest.raises(InferenceError, match="cannot load the model: ") as caught:
        RUNTIMES[name].load(path, 1)
    assert "\n" not in str(caught.value)


@BOTH
def test_an_input_that_the_model_refuses(name: str, tmp_path: Path) -> None:
    session = RUNTIMES[name].load(float_model(tmp_path / "m.onnx"), 1)
    with pytest.raises(InferenceError, match="cannot run the model"):
        session.run(images(channels=5))
    assert np.asarray(session.run(images())).shape == (2, 10), "and goes on with the next"


SIGNALLED = """
import signal, sys, time
import numpy as np
from pytest_ptq.runtimes import RUNTIMES
x = np.zeros((1, 3, 8, 8), np.float32)
first, second = (RUNTIMES["openvino"].load(sys.argv[1], 1) for _ in range(2))
first.run(x), second.run(x)
del first  # before the one that came after it
del second
told = []
signal.signal(signal.SIGALRM, lambda *_: told.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.01)
while not told:
    time.sleep(0.01)
print("told")
"""


def test_a_signal_finds_its_stack_when_sessions_are_gone(tmp_path: Path) -> None:
    """A process in which two OpenVINO cores came and went does not survive a signal."""
    command = [sys.executable, "-c", SIGNALLED, str(float_model(tmp_path / "m.onnx"))]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout.strip()) == (0, "told"), found.stderr


QUIET = """
import os, sys
forked = []
os.register_at_fork(before=lambda: forked.append(1))
from pytest_ptq.runtimes import RUNTIMES
RUNTIMES["openvino"].load(sys.argv[1], 1)
import openvino
openvino.convert_model  # all of it is there
print(forked, sorted(name for name in sys.modules if name.startswith("openvino_telemetry")))
"""


def test_openvino_is_imported_without_telling_anybody(tmp_path: Path) -> None:
    """Its import asks a server, from a process that it forks, unless it is kept from it."""
    command = [sys.executable, "-c", QUIET, str(float_model(tmp_path / "m.onnx"))]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "CI": ""})
    assert found.stdout.strip() == "[] []", found.stderr
