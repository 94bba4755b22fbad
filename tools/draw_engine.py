"""Draws docs/images/engine.svg, the stages of the engine and what flows between them, from the table below.

    python tools/draw_engine.py

The picture brings its own light ground, so that it can be read on a dark page and on paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "engine.svg"
WIDTH, HEIGHT, ROW, STEP = 150, 54, 104, 180
LEFT, TOP = 20, 26
INK, LINE, GROUND = "#1f2937", "#6b7280", "#ffffff"
FILLS = {"value": "#e0e7ff", "stage": "#fef3c7", "rival": "#dcfce7"}


@dataclass(frozen=True)
class Box:
    """A stage, or a value that flows: where it stands, its name, and a line below that."""

    column: int
    row: int
    name: str
    said: str
    kind: str = "stage"

    @property
    def centre(self) -> tuple[int, int]:
        return LEFT + self.column * STEP + WIDTH // 2, TOP + self.row * ROW + HEIGHT // 2


BOXES = {
    "model": Box(0, 0, "nn.Module", "yours, never modified", "value"),
    "capture": Box(1, 0, "capture", "a graph, by torch.fx"),
    "fuse": Box(2, 0, "fuse", "norms, activations in"),
    "plan": Box(3, 0, "plan", "what is int8, or why not"),
    "observe": Box(4, 0, "observe", "ranges are watched"),
    "qconfig": Box(3, 1, "QConfig", "how to quantize", "value"),
    "calibrate": Box(4, 1, "calibrate", "your images stream by"),
    "statistics": Box(4, 2, "Calibration", "immutable statistics", "value"),
    "convert": Box(3, 2, "convert", "int8 layers in place"),
    "correct": Box(2, 2, "correct", "kept where it helps"),
    "int8": Box(1, 2, "int8 module", "oneDNN kernels", "value"),
    "freeze": Box(2, 1, "freeze", "fp32, made as fast"),
    "rival": Box(1, 1, "fp32 rival", "the same executor", "rival"),
    "deploy": Box(0, 1, "deploy", "one program each"),
    "gates": Box(0, 2, "gates", "accuracy, size, time", "value"),
}
ARROWS = (
    ("model", "capture"), ("capture", "fuse"), ("fuse", "plan"), ("plan", "observe"), ("qconfig", "plan"),
    ("observe", "calibrate"), ("calibrate", "statistics"), ("statistics", "convert"),
    ("convert", "correct"), ("correct", "int8"), ("fuse", "freeze"), ("freeze", "rival"), ("rival", "deploy"),
    ("int8", "deploy"), ("deploy", "gates"),
)  # fmt: skip


def draw() -> str:
    """The picture as text."""
    width = 2 * LEFT + 4 * STEP + WIDTH
    height = 2 * TOP + 2 * ROW + HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="t" '
        'font-family="system-ui, sans-serif" font-size="15" text-anchor="middle">',
        '<title id="t">How a float model becomes an int8 one: ' + escape("; ".join(_sentences())) + "</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{GROUND}"/>',
        f'<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{LINE}"/></marker></defs>',
        *(_arrow(BOXES[start], BOXES[end]) for start, end in ARROWS),
        *(line for box in BOXES.values() for line in _box(box)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _sentences() -> Iterator[str]:
    """The arrows in words, for whoever does not see them."""
    yield from (f"{BOXES[start].name} to {BOXES[end].name}" for start, end in ARROWS)


def _box(box: Box) -> Iterator[str]:
    x, y = box.centre
    corner = f'x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}"'
    round_by = 6 if box.kind == "stage" else 25
    yield f'<rect {corner} rx="{round_by}" fill="{FILLS[box.kind]}" stroke="{LINE}"/>'
    yield f'<text x="{x}" y="{y - 3}" font-weight="600" fill="{INK}">{escape(box.name)}</text>'
    yield f'<text x="{x}" y="{y + 16}" font-size="12" fill="{INK}">{escape(box.said)}</text>'


def _arrow(start: Box, end: Box) -> str:
    """Straight from edge to edge within a row or a column, and slanting between the nearest corners otherwise."""
    (x1, y1), (x2, y2) = start.centre, end.centre
    across, down = _sign(x2 - x1), _sign(y2 - y1)
    x1, x2 = x1 + across * WIDTH // 2, x2 - across * WIDTH // 2
    if not across or down:
        y1, y2 = y1 + down * HEIGHT // 2, y2 - down * HEIGHT // 2
    if across and down:
        x1, x2 = x1 - across * 14, x2 + across * 14
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{LINE}" stroke-width="1.5" marker-end="url(#a)"/>'


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
