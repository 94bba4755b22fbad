"""The real thing, on a tiny model: fresh processes load what was stored and time it, and none is ever left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pytest_ptq.engine import freeze, fuse, quantize
from pytest_ptq.engine.artifact import to_bytes
from pytest_ptq.engine.export import export_onnx
from pytest_ptq.engine.kernels import native
from pytest_ptq.errors import MeasurementError, StoreError
from pytest_ptq.measure.latency import Protocol
from pytest_ptq.measure.pairs import Pace
from pytest_ptq.measure.processes import CONTROL, PACKAGE, REFERENCE, Job, run_processes
from pytest_ptq.runtimes import RUNTIMES
from pytest_ptq.timing import FileTiming, Timing

QUICK = Pace(budget_s=0.0, min_pairs=4, warmup_s=0.0, patience_s=0.0)
SHAPE = (1, 3, 16, 16)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


@pytest.fixture(scope="module")
def job() -> Job:
    fused = fuse(net())
    int8 = quantize(net(), [torch.rand(4, *SHAPE[1:])])
    return Job({REFERENCE: to_bytes(fused), "int8": to_bytes(int8)}, SHAPE, 1, QUICK)


def test_a_fresh_process_times_what_was_stored(job: Job) -> None:
    (found,) = run_processes(job, [5])
    assert set(found.pairs) == {CONTROL, "int8"}
    for pairs in found.pairs.values():
        # A machine that is crowded while this test runs gives two pairs, any other four.
        assert len(pairs.variant_ms) in (2, 4)
        assert all(0 < ms < 10_000 for ms in (*pairs.reference_ms, *pairs.variant_ms))
    assert found.probe_us > 0
    assert found.exchange_us == 0, "there is one thread"


@pytest.mark.parametrize(("allowed", "threads"), [("", 1), ("0", 2)])
def test_a_fresh_process_tells_by_which_kernels_it_ran(
    job: Job, monkeypatch: pytest.MonkeyPatch, allowed: str, threads: int
) -> None:
    """Those of the process that timed, whatever this one has: only that one's environment is another."""
    monkeypatch.setenv(native.library.OFF, allowed)
    (found,) = run_processes(replace(job, threads=threads), [0])
    assert set(found.kernels) == {REFERENCE, CONTROL, "int8"}
    assert (found.exchange_us > 0) is (threads > 1)
    if allowed == "0":
        assert found.kernels[REFERENCE] == found.kernels[CONTROL] == "float torchscript"
        assert found.kernels["int8"] in ("packed torchscript", "plain torchscript")
        assert set(found.not_native.values()) == {"PTQ_NATIVE is 0"}
    elif not native.why_not():
        assert set(found.kernels.values()) == {"native program"}
        assert found.not_native == {}


def test_a_shape_that_the_model_refuses_is_one_sentence(job: Job) -> None:
    wrong = Job(job.models, (1, 5, 16, 16), 1, QUICK)
    with pytest.raises(MeasurementError, match=r"the fp32 model refuses an input of shape \(1, 5, 16, 16\)"):
        list(run_processes(wrong, [0]))


def test_a_file_that_is_no_model_is_one_sentence(job: Job) -> None:
    with pytest.raises(MeasurementError, match="not a readable model"):
        list(run_processes(Job({**job.models, "int8": b"nonsense"}, SHAPE, 1, QUICK), [0]))


PARENT = """
import sys, torch
sys.path.insert(0, {tests!r})
from test_worker import SHAPE, fuse, net, quantize, to_bytes
from pytest_ptq.measure.pairs import Pace
from pytest_ptq.measure.processes import Job, run_processes
job = Job({{"fp32": to_bytes(fuse(net())), "int8": to_bytes(quantize(net(), [torch.rand(4, *SHAPE[1:])]))}}, SHAPE, 1,
          Pace(budget_s=600.0, max_pairs=10_000_000, warmup_s=0.0, patience_s=0.0))
print("measuring", flush=True)
list(run_processes(job, [0, 1], at_once=2))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(how: signal.Signals, tmp_path: Path) -> None:
    mark = f"pytest-ptq-test-{os.getpid()}-{how}"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(tests=str(Path(__file__).parent))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PTQ_TEST_MARK": mark, "TMPDIR": str(tmp_path), "PYTHONPATH": str(PACKAGE.parent)},
        # Not the terminal's group: only the parent is told.
        start_new_session=True,
    )
    assert parent.stdout is not None
    try:
        parent.stdout.readline()
        wait_until(lambda: len(alive(mark)) == 3)
        time.sleep(0.5)
        os.kill(parent.pid, how)
        parent.wait(timeout=60)
        wait_until(lambda: not alive(mark))
    finally:
        for pid in alive(mark):
            os.kill(pid, signal.SIGKILL)
        parent.communicate()
    assert list(tmp_path.iterdir()) == []


def alive(mark: str) -> list[int]:
    """Processes whose environment carries `mark`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_until(true: object, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def timing(fused: nn.Module | None = None) -> Timing:
    return Timing(fused or fuse(net()), SHAPE, 1, lambda items, *_: iter(items), QUICK, Protocol(processes=2))  # type: ignore[arg-type]


def test_a_suite_stores_its_models_and_has_them_timed() -> None:
    timed = timing()
    timed.add("int8", lambda: quantize(net(), [torch.rand(4, *SHAPE[1:])]))
    found = timed.samples("int8")
    assert len(found.processes) == len(found.control) >= 2
    assert all(ms > 0 for ms in timed.alone(net()))


def test_a_model_that_cannot_be_stored_is_timed_here_and_judged_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: object) -> bytes:
        raise StoreError("the function odd cannot be stored")

    monkeypatch.setattr("pytest_ptq.timing._stored", refuse)
    timed = timing()
    timed.add("int8", lambda: freeze(fuse(net())))
    found = timed.samples("int8", ["int8"])
    assert found.unfit == (
        "it was timed in one process only, because it cannot be stored (the function odd cannot be stored)"
    )
    assert len(found.processes) == 1
    assert not timed.can_extend("int8")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, x = tmp_path_factory.mktemp("exported"), torch.rand(1, *SHAPE[1:])
    int8 = quantize(net(), [torch.rand(4, *SHAPE[1:])])
    return {
        REFERENCE: export_onnx(fuse(net()), folder / "fp32.onnx", x),
        "int8": export_onnx(int8, folder / "int8.onnx", x),
    }


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_fresh_process_times_the_files_of_a_runtime(runtime: str, exported: dict[str, Path]) -> None:
    (found,) = run_processes(Job(exported, SHAPE, 1, QUICK, runtime), [5])
    assert set(found.pairs) == {CONTROL, "int8"}
    for pairs in found.pairs.values():
        assert len(pairs.variant_ms) in (2, 4)
        assert all(0 < ms < 10_000 for ms in (*pairs.reference_ms, *pairs.variant_ms))


@pytest.mark.parametrize(("runtime", "title"), [("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")])
def test_a_runtime_that_fails_in_a_process_is_one_sentence(
    runtime: str, title: str, exported: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(MeasurementError, match=f"{title} cannot run the model"):
        list(run_processes(Job(exported, (1, 5, 16, 16), 1, QUICK, runtime), [0]))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nonsense")
    with pytest.raises(MeasurementError, match=f"{title} cannot load the model") as caught:
        list(run_processes(Job({**exported, "int8": broken}, SHAPE, 1, QUICK, runtime), [0]))
    assert "\n" not in str(caught.value)


def test_a_process_may_be_given_an_int8_model_alone() -> None:
    """What is timed to find the fastest runtime: the model against itself."""
    int8 = quantize(net(), [torch.rand(4, *SHAPE[1:])])
    (found,) = run_processes(Job({REFERENCE: to_bytes(int8)}, SHAPE, 1, QUICK), [0])
    assert set(found.pairs) == {CONTROL}


def test_files_of_a_runtime_are_timed_against_its_own_fp32(exported: dict[str, Path]) -> None:
    asked: list[str] = []

    def fp32() -> Path:
        asked.append("fp32")
        return exported[REFERENCE]

    timed = FileTiming(
        RUNTIMES["onnxruntime"], fp32, SHAPE, 1, lambda items, *_: iter(items), QUICK, Protocol(2, 1)
    )  # fmt: skip
    for name in ("int8", "again", "int8"):
        timed.add(name, lambda: exported["int8"])
    found = timed.samples("int8", ["int8", "again"])
    assert len(found.processes) == len(found.control) >= 2
    assert timed.samples("again").processes != found.processes, "each its own pairs"
    assert asked == ["fp32"]
    if timed.can_extend("int8"):  # not where the machine was found crowded
        assert len(timed.extend("int8").processes) > len(found.processes)
