"""Where the time of an int8 model goes: a row a layer, what lies between them, and what could be reached at best."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tabulate import tabulate

from pytest_ptq.metrics import LayerTime, Profile
from pytest_ptq.report.printable import printable

HEADERS = ("layer", "kernel", "output", "ms", "GMAC", "GMAC/s", "% of limit", "% of total")
BETWEEN = "between the layers"
ALIGNED = ("left", "left", "left", *["right"] * 5)


def profile_text(found: Profile, top: int | None = None) -> str:
    """A table in the order of the graph, or of the `top` slowest layers, and sentences on how to read it."""
    shown = found.layers if top is None else sorted(found.layers, key=lambda x: -x.ms)[:top]
    rows = [_row(found, layer) for layer in shown]
    left_out = len(found.layers) - len(shown)
    if left_out:
        rows.append(_sum(found, f"the other {left_out}", _total_ms(found.layers) - _total_ms(shown)))
    rows.append(_sum(found, BETWEEN, found.whole_ms - _total_ms(found.layers)))
    table = tabulate(rows, headers=HEADERS, tablefmt="simple", colalign=ALIGNED, disable_numparse=True)
    return "\n".join((_title(found), "", table, "", *_notes(found)))


def _title(found: Profile) -> str:
    shape = " x ".join(map(str, found.shape))
    what = f"{found.suite}[{found.qconfig}]"
    return printable(f"{what}, input {shape}, {_threads(found)}, median of {found.repeats}")


def _row(found: Profile, layer: LayerTime) -> list[str]:
    rate = layer.gmacs_per_s
    return [
        printable(layer.name),
        printable(layer.kernel or "-"),
        "x".join(map(str, layer.shape)) or "-",
        f"{layer.ms:.3f}",
        f"{layer.macs / 1e9:.4f}" if layer.macs else "-",
        "-" if rate is None else f"{rate:.0f}",
        "-" if rate is None else f"{100 * rate / found.limit_gmacs_per_s:.0f}",
        _share(found, layer.ms),
    ]


def _sum(found: Profile, name: str, ms: float) -> list[str]:
    return [name, "-", "-", f"{ms:.3f}", "-", "-", "-", _share(found, ms)]


def _share(found: Profile, ms: float) -> str:
    return f"{100 * ms / found.whole_ms:.1f}"


def _notes(found: Profile) -> list[str]:
    macs = sum(layer.macs for layer in found.layers)
    at_best = macs / (1e6 * found.limit_gmacs_per_s)
    gmac = f"{macs / 1e9:.3f} GMAC"
    return [
        f"whole model: {found.whole_ms:.3f} ms for {gmac}; {at_best:.3f} ms at the arithmetic limit"
        f" ({found.whole_ms / at_best:.2f} times that)"
        if macs
        else f"whole model: {found.whole_ms:.3f} ms; it multiplies nothing",
        f"limit: {found.limit_gmacs_per_s:.0f} GMAC/s, the most that was reached in this run with {_threads(found)} "
        f"({found.limit_layer}: {found.limit_kernel}); a core of AMD Zen 5 that nobody shares can do 500",
        *FORMS[found.form](found),
    ]


def _of_program(found: Profile) -> list[str]:
    return [
        "These are times of the deployed form, a program of compiled kernels, in which the latency gate times the "
        "model: a layer is the sum of its steps, and what only looks at memory in another way has none.",
        f"{_disturbed(found)}: the call itself, and what is slow in one call and not in the next, which is in the "
        "median of the whole and in that of no layer.",
    ]


def _of_graph(found: Profile) -> list[str]:
    said = [
        "These are times of the graph, called layer by layer from Python: not of the deployed form, one program of it,"
        " in which the latency gate times the model."
    ]
    if found.not_native:
        said.append(f"That is no program of compiled kernels, which could be timed: {printable(found.not_native)}.")
    return [*said, f"{_disturbed(found)}; below zero where layers run faster without a clock between them."]


def _disturbed(found: Profile) -> str:
    walk = f"Timing disturbs: a pass with a clock around every layer took {found.walk_ms:.3f} ms."
    return f"{walk} {BETWEEN}: the whole model less the sum of its layers"


FORMS: Mapping[str, Callable[[Profile], list[str]]] = {"program": _of_program, "graph": _of_graph}
"""What was timed -> sentences on it."""


def _threads(found: Profile) -> str:
    return "1 thread" if found.threads == 1 else f"{found.threads} threads"


def _total_ms(layers: tuple[LayerTime, ...] | list[LayerTime]) -> float:
    return sum(layer.ms for layer in layers)
