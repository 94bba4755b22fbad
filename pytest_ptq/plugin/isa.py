"""`--ptq-isa`: pytest runs again in a process whose int8 kernels are held to an older instruction set.

Kernels choose their instructions when torch is loaded, so that only a process of its own will do. A CPU without VNNI
adds pairs of products in int16, which saturates: a machine with VNNI thus answers what one without it would.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_ptq.errors import UsageError
from pytest_ptq.measure.machine import CPUINFO, ISA_FLAGS, best_isa, parse_cpuinfo
from pytest_ptq.plugin.gates import LATENCY

HELD_ISAS: Mapping[str, tuple[str, str, str]] = {
    "avx2": ("AVX2", "AVX2", "avx2"),
    "avx_vnni": ("AVX2_VNNI", "AVX2", "avx2"),
    "avx512": ("AVX512_CORE", "AVX512", "avx512"),
    "avx512_vnni": ("AVX512_CORE_VNNI", "AVX512_VNNI", "avx512"),
}
"""What `--ptq-isa` takes, and what oneDNN, FBGEMM and torch's own kernels call it (ONEDNN_MAX_CPU_ISA,
FBGEMM_ENABLE_INSTRUCTIONS, ATEN_CPU_CAPABILITY). The compiled kernels follow oneDNN's."""

MARK = "PTQ_HELD_TO_ISA"
"""Set in the process that is held back: it does not start another."""
_OVERRIDING = ("DNNL_MAX_CPU_ISA", MARK)


def check_isa(name: str | None, gates: tuple[str, ...] = ()) -> str | None:
    """`name`, when kernels can be held to it here.

    Raises:
        UsageError: no such instruction set, one that this CPU lacks, or nothing is asked for but latency.
    """
    if name is None:
        return None
    if name not in HELD_ISAS:
        raise UsageError(f"unknown instruction set {name!r} in --ptq-isa", remedy=f"Known: {', '.join(HELD_ISAS)}.")
    has = _flags()
    if not has.issuperset(ISA_FLAGS[name]):
        raise UsageError(
            f"--ptq-isa {name}: this CPU has no {name}, and kernels can only be held to less than it has",
            remedy=f"Its best is {best_isa(has, {})}.",
        )
    if gates == (LATENCY.name,):
        raise UsageError(
            f"--ptq-isa {name} leaves nothing of --ptq-metrics latency",
            remedy="Latency is not judged there: it would be that of no CPU.",
        )
    return name


def is_held(name: str) -> bool:
    """Whether this process was started for it."""
    return os.environ.get(MARK) == name


def environment(name: str, usual: Mapping[str, str]) -> dict[str, str]:
    """`usual`, with kernels held to `name`."""
    onednn, fbgemm, aten = HELD_ISAS[name]
    kept = {key: value for key, value in usual.items() if key not in _OVERRIDING}
    held = {"ONEDNN_MAX_CPU_ISA": onednn, "FBGEMM_ENABLE_INSTRUCTIONS": fbgemm, "ATEN_CPU_CAPABILITY": aten}
    return {**kept, **held, MARK: name}


def run_held(config: pytest.Config, name: str) -> int:
    """Run pytest again with the same arguments, and return its exit status; what it prints is printed here.

    Raises UsageError when that process is killed.
    """
    done = subprocess.Popen(
        [sys.executable, *_search_path(), "-m", "pytest", *map(str, config.invocation_params.args)],
        cwd=config.invocation_params.dir,
        env=environment(name, os.environ),
    )
    status = _wait(done)
    if status < 0:
        raise UsageError(f"the process that was held to {name} was killed by signal {-status}", place="--ptq-isa")
    return status


def _wait(done: subprocess.Popen[bytes]) -> int:
    """Ctrl-C reaches both processes; the other one says what it means."""
    while True:
        try:
            return done.wait()
        except KeyboardInterrupt:
            continue


def _search_path() -> list[str]:
    """`python -m pytest` looks for modules in the working folder, and `pytest` does not."""
    return [] if "" in sys.path or str(Path.cwd()) in sys.path else ["-P"]


def _flags() -> frozenset[str]:
    try:
        return parse_cpuinfo(CPUINFO.read_text(encoding="utf-8", errors="replace"))[1]
    except OSError:
        return frozenset()
