"""The machine a number belongs to. Read from the system and from package metadata, without importing torch."""

from __future__ import annotations

import importlib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pytest_ptq.errors import InstallationError, UsageError

CPUINFO = Path("/proc/cpuinfo")

ISA_FLAGS: Mapping[str, tuple[str, ...]] = {
    "amx_int8": ("amx_int8",),
    "avx512_vnni": ("avx512_vnni",),
    "avx_vnni": ("avx_vnni",),
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
    "avx2": ("avx2",),
    "sse4_1": ("sse4_1",),
}
"""Instruction sets that int8 kernels are written for, best first, and the CPU flags that each needs."""

VNNI = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})
"""Those that add products of bytes in int32; the others pass through int16, which saturates."""

_NO_AVX512 = frozenset({"avx2", "sse4_1"})
ISA_CAPS: Mapping[str, frozenset[str]] = {
    "SSE41": frozenset({"sse4_1"}),
    "AVX": frozenset({"sse4_1"}),
    "AVX2": _NO_AVX512,
    "AVX2_VNNI": _NO_AVX512 | {"avx_vnni"},
    "AVX2_VNNI_2": _NO_AVX512 | {"avx_vnni"},
    "AVX512_CORE": _NO_AVX512 | {"avx512"},
    "AVX512_CORE_VNNI": _NO_AVX512 | {"avx512", "avx512_vnni"},
    "AVX512_CORE_BF16": _NO_AVX512 | {"avx512", "avx512_vnni"},
    "AVX512_CORE_FP16": _NO_AVX512 | {"avx512", "avx512_vnni", "avx_vnni"},
}
"""What each value of oneDNN's ONEDNN_MAX_CPU_ISA still allows; any other value allows everything."""


@dataclass(frozen=True)
class Machine:
    """What latency depends on, and what int8 arithmetic may depend on."""

    cpu: str
    isa: str
    vnni: bool
    cores: int
    os: str
    python: str
    torch: str
    torchvision: str
    engine: str
    threads: int

    @property
    def key(self) -> str:
        """Machines of the same key are compared with one another: `avx512_vnni/onednn/2t/torch2.15`."""
        return f"{self.isa}/{self.engine}/{self.threads}t/torch{_minor(self.torch)}"

    def key_for(self, runtime: str) -> str:
        """The key of what is measured in `runtime`: `avx512_vnni/openvino/2t/openvino2026.4`, and torch's own."""
        if runtime == "torch":
            return self.key
        return f"{self.isa}/{runtime}/{self.threads}t/{runtime}{_minor(installed(runtime))}"


def _minor(version: str) -> str:
    """`2.15.0+cpu` -> `2.15`."""
    return ".".join(version.split("+")[0].split(".")[:2])


def describe_machine(threads: int | None = None) -> Machine:
    """This machine, measuring with `threads` threads (default: one for each core that the process may use).

    Raises UsageError for fewer than one thread.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads cannot compute anything", remedy="Give at least 1.")
    cpu, flags = parse_cpuinfo(_cpuinfo())
    isa = best_isa(flags, os.environ)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        cpu=cpu or platform.processor() or "unknown",
        isa=isa,
        vnni=isa in VNNI,
        cores=cores,
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=installed("torch"),
        torchvision=installed("torchvision"),
        engine="onednn",
        threads=threads or cores,
    )


def parse_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """Model name and flags of the first processor in the text of /proc/cpuinfo; empty where it says nothing."""
    name = re.search(r"^model name\s*:[ \t]*(.*)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:[ \t]*(.*)$", text, re.MULTILINE)
    return (name[1].strip() if name else ""), frozenset(flags[1].split() if flags else ())


def best_isa(flags: frozenset[str], environ: Mapping[str, str]) -> str:
    """The best instruction set that the CPU has and that ONEDNN_MAX_CPU_ISA does not forbid; `unknown` if none."""
    cap = environ.get("ONEDNN_MAX_CPU_ISA") or environ.get("DNNL_MAX_CPU_ISA") or ""
    allowed = ISA_CAPS.get(cap.upper(), frozenset(ISA_FLAGS))
    found = (isa for isa, needed in ISA_FLAGS.items() if isa in allowed and flags.issuperset(needed))
    return next(found, "unknown")


def installed(package: str) -> str:
    """The installed version of `package`, or `none`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _cpuinfo() -> str:
    try:
        return CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def check_installation() -> None:
    """Make sure that torch and torchvision work together. Imports both: call it when they are needed anyway.

    Raises InstallationError, saying what to install. The usual case is a torch without CUDA beside a torchvision
    built for one with it, whose import ends in "operator torchvision::nms does not exist".
    """
    _import("torch", "Install both: pip install torch torchvision.")
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        pair = f"torch {installed('torch')} and torchvision {installed('torchvision')} do not fit together"
        why = "torch is the CPU-only build and torchvision is not" if _torch_is_cpu_only() else _first_line(error)
        raise InstallationError(
            f"{pair}: {why}",
            remedy="Install both from the same index: pip install --force-reinstall torch torchvision.",
        ) from error


def _import(package: str, remedy: str) -> object:
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:
        raise InstallationError(f"{package} cannot be imported ({_first_line(error)})", remedy=remedy) from error


def _torch_is_cpu_only() -> bool:
    torch = importlib.import_module("torch")
    return str(torch.__version__).endswith("+cpu") or torch.version.cuda is None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
