import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pytest_ptq.errors import InstallationError, UsageError
from pytest_ptq.measure import machine
from pytest_ptq.measure.machine import Machine, best_isa, check_installation, describe_machine, parse_cpuinfo

ZEN = frozenset(["sse4_1", "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"])
SKYLAKE = ZEN - {"avx512_vnni"}
SAPPHIRE_RAPIDS = ZEN | {"avx_vnni", "amx_int8"}
ALDER_LAKE = frozenset({"sse4_1", "avx2", "avx_vnni"})


@pytest.mark.parametrize(
    ("flags", "isa"),
    [
        (ZEN, "avx512_vnni"),
        (SKYLAKE, "avx512"),
        (SAPPHIRE_RAPIDS, "amx_int8"),
        (ALDER_LAKE, "avx_vnni"),
        (frozenset({"sse4_1", "avx2"}), "avx2"),
        (frozenset(), "unknown"),
    ],
)
def test_the_best_instruction_set_is_named(flags, isa):
    assert best_isa(flags, {}) == isa


@pytest.mark.parametrize(
    ("cap", "isa"),
    [("AVX2", "avx2"), ("avx512_core", "avx512"), ("AVX2_VNNI", "avx_vnni"), ("ALL", "amx_int8"), ("", "amx_int8")],
)
def test_a_cap_on_onednn_is_part_of_the_machine(cap, isa):
    assert best_isa(SAPPHIRE_RAPIDS, {"ONEDNN_MAX_CPU_ISA": cap}) == isa


def test_cpuinfo_is_read_from_its_first_processor():
    text = "processor\t: 0\nmodel name\t: A CPU  @ 3 GHz\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nmodel name\t: B\n"
    assert parse_cpuinfo(text) == ("A CPU  @ 3 GHz", frozenset({"fpu", "avx2"}))
    assert parse_cpuinfo("model name :\nflags :\n") == ("", frozenset())


def test_the_key_names_what_latency_depends_on():
    it = Machine("cpu", "avx2", False, 8, "Linux 6", "3.11", "2.15.1+cpu", "0.29", "onednn", 2)
    assert it.key == "avx2/onednn/2t/torch2.15"


def test_a_runtime_beside_torch_has_a_key_of_its_own(monkeypatch):
    versions = {"openvino": "2026.4.1-21234-abc", "onnxruntime": "1.32.0"}
    monkeypatch.setattr(machine, "installed", versions.__getitem__)
    it = Machine("cpu", "avx2", False, 8, "Linux", "3.11.7", "2.15.0+cpu", "0.29.2", "onednn", 2)
    assert it.key_for("torch") == it.key
    assert it.key_for("openvino") == "avx2/openvino/2t/openvino2026.4"
    assert it.key_for("onnxruntime") == "avx2/onnxruntime/2t/onnxruntime1.32"


def test_without_cpuinfo_the_machine_is_still_described(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    found = describe_machine(3)
    assert (found.isa, found.vnni, found.threads) == ("unknown", False, 3)


def test_no_threads_are_refused():
    with pytest.raises(UsageError):
        describe_machine(0)


def test_describing_the_machine_imports_no_torch():
    code = (
        "import sys; from pytest_ptq.measure.machine import describe_machine as d; d(); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


def fake_imports(monkeypatch, torch, torchvision):
    def import_module(name):
        found = {"torch": torch, "torchvision": torchvision}[name]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(machine, "importlib", SimpleNamespace(import_module=import_module))


CPU_TORCH = SimpleNamespace(__version__="2.15.0+cpu", version=SimpleNamespace(cuda=None))
CUDA_TORCH = SimpleNamespace(__version__="2.15.0", version=SimpleNamespace(cuda="13.0"))
NMS = RuntimeError("operator torchvision::nms does not exist")


def test_a_cpu_only_torch_beside_a_cuda_torchvision_is_explained(monkeypatch):
    fake_imports(monkeypatch, CPU_TORCH, NMS)
    with pytest.raises(InstallationError, match="torch is the CPU-only build") as caught:
        check_installation()
    assert "pip install --force-reinstall torch torchvision" in str(caught.value)


def test_another_failure_of_torchvision_says_what_it_said(monkeypatch):
    fake_imports(monkeypatch, CUDA_TORCH, OSError("libpng.so: cannot open\ndetails"))
    with pytest.raises(InstallationError, match=r"libpng\.so: cannot open") as caught:
        check_installation()
    assert "\n" not in str(caught.value)


def test_a_missing_torch_says_what_to_install(monkeypatch):
    fake_imports(monkeypatch, ModuleNotFoundError("No module named 'torch'"), None)
    with pytest.raises(InstallationError, match="pip install torch torchvision"):
        check_installation()


def test_a_cpu_only_torch_with_a_fitting_torchvision_is_fine(monkeypatch):
    fake_imports(monkeypatch, CPU_TORCH, SimpleNamespace())
    check_installation()


def test_the_installation_of_this_very_run_fits():
    check_installation()
    assert importlib.import_module("torchvision")
