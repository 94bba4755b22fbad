"""The table of how far int8/fp32 moves with the speed of the machine."""

from __future__ import annotations

from benchmarks.speeds import Turn, text


def turns(model: str, us: float, fp32: float, int8: float, after: float | None = None) -> list[Turn]:
    return [Turn(model, fp32 * step, int8 * step, us * step, (after or us) * step) for step in (0.99, 1.0, 1.01)]


def test_each_model_is_told_at_both_speeds() -> None:
    found = text(
        [
            *turns("a", 4.0, 4.0, 1.2), *turns("a", 12.0, 6.0, 1.5), *turns("a", 4.0, 99.0, 1.0, after=12.0),
            *turns("b", 4.0, 1.0, 0.4), *turns("b", 12.0, 1.0, 0.41), *turns("c", 12.0, 1.0, 0.5),
        ]
    )  # fmt: skip
    assert found.startswith("6 turns at 4.0 us from core to core and 9 at 12.0: 3.00 times")
    assert "moved by a factor of 1.20 at most" in found
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines() if line[:1] == "|"]
    assert rows[2:] == [
        ["a", "4.00", "6.00", "1.20", "1.50", "0.300", "0.250", "1.20"],
        ["b", "1.00", "1.00", "0.40", "0.41", "0.400", "0.410", "1.02"],
    ]


def test_a_machine_that_kept_its_speed_says_so() -> None:
    assert text(turns("a", 4.0, 4.0, 1.2)) == "The machine kept one speed for 3 turns."
    assert text([]) == "The machine kept one speed for 0 turns."
