"""Which layer: the SQNR of every layer that was looked at, beside what it was before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_ptq.metrics import LayerError
from pytest_ptq.report.layers import why
from pytest_ptq.report.page.runs import RowKey, Run, named, row_key
from pytest_ptq.report.printable import printable
from pytest_ptq.store.record import RunRecord

DRAWN_WORST = 12
DRAWN_MOVED = 8
"""Bars in a chart: the lowest layers, and those that fell most."""
MOVED_DB = 1.0
"""Less than this is not told as a move: a layer's SQNR follows rounding by a few tenths of a dB."""


@dataclass(frozen=True)
class Layer:
    """One layer: `db` is what it is ranked by, its SQNR alone where that is known; `was` the same before."""

    name: str
    kind: str
    db: float | None
    sqnr_db: float | None
    gain_db: float | None
    was: float | None

    @property
    def moved(self) -> float | None:
        return None if self.db is None or self.was is None else self.db - self.was

    @property
    def fell(self) -> bool:
        return self.moved is not None and self.moved <= -MOVED_DB


@dataclass(frozen=True)
class Layers:
    """The layers of one row in graph order, in the newest run that has them, beside the run `before` it."""

    row: RowKey
    run: Run
    before: Run | None
    alone: bool
    layers: tuple[Layer, ...]
    why: str

    @property
    def drawn(self) -> list[Layer]:
        """The worst and those that fell most, in graph order."""
        known = [layer for layer in self.layers if layer.db is not None]
        worst = sorted(known, key=lambda layer: layer.db or 0.0)[:DRAWN_WORST]
        chosen = {id(layer) for layer in (*worst, *self.fallen[:DRAWN_MOVED])}
        return [layer for layer in known if id(layer) in chosen]

    @property
    def fallen(self) -> list[Layer]:
        """Those that lost 1 dB or more, most first."""
        return sorted((layer for layer in self.layers if layer.fell), key=lambda layer: layer.moved or 0.0)


def layers_of(records: Sequence[RunRecord], changed: Mapping[RowKey, str]) -> list[Layers]:
    """The newest layers of every row that has any. `records`: oldest first.

    Args:
        records: the runs.
        changed: of a row, the first run after its newest change: layers are compared across it if both sides have any.
    """
    found: dict[RowKey, list[tuple[RunRecord, tuple[LayerError, ...]]]] = {}
    for record in records:
        for result in record.results:
            if result.worst_layers:
                found.setdefault(row_key(record, result), []).append((record, result.worst_layers))
    order = {record.run_id: index for index, record in enumerate(records)}
    return [_compare(key, seen, order, changed.get(key)) for key, seen in sorted(found.items())]


def _compare(
    key: RowKey,
    seen: Sequence[tuple[RunRecord, tuple[LayerError, ...]]],
    order: Mapping[str, int],
    changed: str | None,
) -> Layers:
    record, layers = seen[-1]
    earlier = seen[:-1]
    if changed is not None:
        across = [item for item in earlier if order[item[0].run_id] < order[changed]]
        earlier = across or earlier
    before, was = earlier[-1] if earlier else (None, ())
    # What a layer loses alone can be held against nothing but what it lost alone.
    alone = all(layer.alone_db is not None for layer in (*layers, *was))
    then = {layer.name: _db(layer, alone) for layer in was}
    worst = min(layers, key=LayerError.rank)
    said = why(worst)
    return Layers(
        row=key,
        run=named(record),
        before=named(before) if before else None,
        alone=alone,
        layers=tuple(
            Layer(
                printable(layer.name),
                printable(layer.kind),
                _db(layer, alone),
                layer.sqnr_db,
                layer.gain_db,
                then.get(layer.name),
            )
            for layer in layers
        ),
        why=printable(f"{worst.name}: {said}") if said else "",
    )


def _db(layer: LayerError, alone: bool) -> float | None:
    return layer.alone_db if alone else layer.sqnr_db
