"""The last line of every table: machine, versions and command."""

from __future__ import annotations

from pytest_ptq.measure.machine import describe_machine


def footer(command: str) -> str:
    machine = describe_machine()
    return f"{machine.cpu} ({machine.isa}), {machine.cores} cores, torch {machine.torch}, `{command}`."
