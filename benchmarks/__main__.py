"""`python -m benchmarks NAME` prints one table as Markdown, with the machine and the versions it was made on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from benchmarks import accuracy, clipping, gates, zoo
from pytest_ptq.measure.machine import describe_machine

TABLES: Mapping[str, Callable[[], str]] = {
    "accuracy": accuracy.table, "clipping": clipping.table, "gates": gates.table, "zoo": zoo.table,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("table", choices=sorted(TABLES))
    name: str = parser.parse_args().table
    machine = describe_machine()
    print(TABLES[name]())
    print(
        f"\n{machine.cpu} ({machine.isa}), {machine.cores} cores, torch {machine.torch}, `python -m benchmarks {name}`."
    )


if __name__ == "__main__":
    main()
