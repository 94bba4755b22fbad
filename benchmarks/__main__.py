"""`python -m benchmarks NAME` prints one table as Markdown, with the machine and the versions it was made on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks import (
    accuracy,
    bias,
    calibration,
    changes,
    clipping,
    demonstration,
    engines,
    gates,
    history,
    latency,
    limit,
    overhead,
    scaling,
    speeds,
    zoo,
)
from benchmarks.footer import footer
from pytest_ptq.errors import PTQError

TABLES: Mapping[str, Callable[[], str]] = {
    "bias": bias.table,
    "changes": changes.table,
    "clipping": clipping.table,
    "gates": gates.table,
    "zoo": zoo.table,
}
TAKING_ARGUMENTS: Mapping[str, Callable[[Sequence[str]], str]] = {
    "accuracy": accuracy.table,
    "engines": engines.table,
    "latency": latency.table,
    "limit": limit.table,
    "calibration": calibration.table,
    "demonstration": demonstration.table,
    "history": history.table,
    "overhead": overhead.table,
    "scaling": scaling.table,
    "speeds": speeds.table,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("table", choices=sorted([*TABLES, *TAKING_ARGUMENTS]))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of some tables; see accuracy --help")
    options = parser.parse_args()
    name: str = options.table
    if options.arguments and name in TABLES:
        parser.error(f"{name} takes no arguments")
    try:
        print(TAKING_ARGUMENTS[name](options.arguments) if name in TAKING_ARGUMENTS else TABLES[name]())
    except PTQError as error:
        sys.exit(str(error))
    print(f"\n{footer(f'python -m benchmarks {name}')}")


if __name__ == "__main__":
    main()
