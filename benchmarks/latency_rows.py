"""What the latency table keeps of each model, and what it makes of the figures: medians, ratios, intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.estimate import Estimate, ratios
from benchmarks.latency_worker import Turn
from pytest_ptq.store.atomic import write_text

FOLDER = Path(".ptq") / "latency"


@dataclass(frozen=True)
class Engine:
    """One engine of one cell.

    Args:
        turns: one a round; empty where there is an error.
        ready_s: seconds to build, quantize and compile the model.
        peak_mb: largest memory of its process when it was ready.
        error: why there are no turns.
        how: kernels and caller, where the engine has several and says which.
    """

    turns: tuple[Turn, ...] = ()
    ready_s: float = 0.0
    peak_mb: float = 0.0
    error: str = ""
    how: str = ""

    def after(self, turn: Turn) -> Engine:
        return replace(self, turns=(*self.turns, turn))

    @property
    def medians(self) -> list[float]:
        """Milliseconds, one a round."""
        return [turn.median_ms for turn in self.turns]


@dataclass(frozen=True)
class Cell:
    """One model at one number of threads, all engines in the same rounds.

    Args:
        model: its name.
        threads: of every engine.
        key: what was run: hashes, versions, machine. A cell whose key is another one is stale.
        macs: multiply-accumulates of one image.
        engines: by key, in the order of the table.
        stale: read from a file with another key.
    """

    model: str
    threads: int
    key: Mapping[str, str]
    macs: int
    engines: Mapping[str, Engine]
    stale: bool = False

    def best(self, keys: Sequence[str]) -> str | None:
        """The one of these engines with the lowest median; None where none of them was measured."""
        known = [key for key in keys if key in self.engines and self.engines[key].turns]
        return min(known, key=lambda key: median(self.engines[key].medians), default=None)


def ratio(cell: Cell, over: str, under: str) -> Estimate:
    """Latency of one engine over that of another, round by round."""
    return ratios(cell.engines[over].medians, cell.engines[under].medians)


def store(cell: Cell, folder: Path = FOLDER) -> None:
    """Keep a cell. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(_path(folder, cell.model, cell.threads), json.dumps(asdict(cell), indent=1) + "\n")


def stored(model: str, threads: int, key: Mapping[str, str], folder: Path = FOLDER) -> Cell | None:
    """The cell that was kept, stale where its key is another one; None where there is none, or a damaged one."""
    try:
        fields: dict[str, Any] = json.loads(_path(folder, model, threads).read_text(encoding="utf-8"))
        engines = {
            name: Engine(**{**plain, "turns": tuple(Turn(**turn) for turn in plain["turns"])})
            for name, plain in fields["engines"].items()
        }
        cell = Cell(**{**fields, "engines": engines})
        if not any(engine.turns for engine in engines.values()):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return replace(cell, stale=dict(cell.key) != dict(key))


def _path(folder: Path, model: str, threads: int) -> Path:
    return folder / f"{model}-{threads}.json"
