"""The compiled kernels: built once for a machine by its C compiler, and kept beside other caches of the user's."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from pytest_ptq.engine.kernels.onednn import saturates_int16

SOURCES = (
    "products.c", "depthwise.c", "elementwise.c", "pooling.c", "floats.c", "float_elementwise.c", "observe.c",
    "multiply.c", "program.c",
)  # fmt: skip
HEADERS = ("program.h", "floats.h", "vectors.h", "places.h", "tiles.h", "tile.h", "columns.h", "float_tile.h")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-w")
NEEDED = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"})
"""What the kernels are written for, as /proc/cpuinfo calls it."""
HOLDING = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Environment variables that hold oneDNN to an older instruction set; it reads the first one that is set."""
TOO_OLD = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE"})
"""Their values that leave less than the kernels are written for; any other leaves it."""
COMPILE_S = 120
OFF = "PTQ_NATIVE"
"""Environment variable; `0` keeps to torch's own kernels."""


class UnavailableError(Exception):
    """Why there are no compiled kernels here, in words."""


@functools.cache
def load() -> ctypes.CDLL:
    """The library, compiled if this machine has not done so before.

    Raises:
        UnavailableError: the CPU lacks instructions, there is no C compiler, or it fails.
    """
    if os.environ.get(OFF) == "0":
        raise UnavailableError(f"{OFF} is 0")
    lacking = sorted(NEEDED - _cpu_flags())
    if lacking:
        raise UnavailableError(f"this CPU has no {', '.join(lacking)}")
    if held := _held_to():
        # Another CPU is being judged. AVX2_VNNI sums exactly, so that sums alone do not tell.
        raise UnavailableError(f"torch's kernels are held to {held}")
    if saturates_int16():
        # However else it was held back: its sums are to be seen, and these kernels' are exact.
        raise UnavailableError("torch's kernels are held back from VNNI")
    compiler = _compiler()
    path = _folder() / f"kernels-{_key(compiler)}.so"
    if not path.exists():
        _compile(compiler, path)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise UnavailableError(f"the compiled kernels could not be loaded: {error}") from error
    library.ptq_run.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p]
    library.ptq_run.restype = None
    library.ptq_count.argtypes = [
        ctypes.c_void_p, *[ctypes.c_int64] * 5, ctypes.c_float, ctypes.c_int32, ctypes.c_void_p
    ]  # fmt: skip
    library.ptq_count.restype = None
    library.ptq_multiply.argtypes = [ctypes.c_int64, ctypes.c_int32]
    library.ptq_multiply.restype = None
    return library


def check() -> None:
    """Raises UnavailableError where there are no compiled kernels."""
    load()


def why_not() -> str:
    """Why there are no compiled kernels here; empty where there are."""
    try:
        load()
    except UnavailableError as reason:
        return str(reason)
    return ""


def _held_to() -> str:
    """The instruction set that torch's kernels are held to, where that is older than these need; else empty."""
    cap = next((os.environ[name] for name in HOLDING if os.environ.get(name)), "").upper()
    return cap if cap in TOO_OLD else ""


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def _compiler() -> list[str]:
    """The command of the C compiler: CC, or the first of the usual names that is there."""
    named = os.environ.get("CC")
    if named:
        return shlex.split(named)
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    raise UnavailableError("there is no C compiler (cc, gcc or clang; CC names another)")


def _folder() -> Path:
    """The user's own, closed to others: what lies there is run."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "pytest-ptq"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise UnavailableError(f"{folder} cannot be made: {error.strerror}") from error
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UnavailableError(f"others may write in {folder}")
    return folder


def _key(compiler: list[str]) -> str:
    """Of the sources, the flags, the compiler and the CPU."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in (*SOURCES, *HEADERS):
        digest.update((here / name).read_bytes())
    try:
        version = subprocess.run([*compiler, "--version"], capture_output=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"the C compiler {compiler[0]} does not run") from error
    digest.update(repr((FLAGS, compiler, sorted(_cpu_flags()))).encode() + version)
    return digest.hexdigest()[:16]


def _compile(compiler: list[str], path: Path) -> None:
    """Under another name first: another process may be doing the same."""
    here = Path(__file__).parent
    handle, temporary = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    command = [*compiler, *FLAGS, *(str(here / name) for name in SOURCES), "-o", temporary]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S, check=False)
        if done.returncode:
            first = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise UnavailableError(f"the C compiler {compiler[0]} failed: {first}")
        Path(temporary).replace(path)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"the C compiler {compiler[0]} failed: {error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
