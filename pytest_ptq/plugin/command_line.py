"""The command line options and ini keys, as pytest's parser and its help know them.

Every run of pytest reads this file, also where nobody uses the plugin: it imports nothing that would take time.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

GATES = ("accuracy", "size", "coverage", "agreement", "latency")
ISAS = ("avx2", "avx_vnni", "avx512", "avx512_vnni")
"""What `plugin.gates` and `plugin.isa` know, by name."""


class Option(NamedTuple):
    """A command line option; `ini` is the type of its ini key, None where an ini key would do harm."""

    name: str
    help: str
    metavar: str | None = None
    ini: str | None = "string"

    @property
    def key(self) -> str:
        return "ptq_" + self.name.replace("-", "_")


OPTIONS = (
    Option("suite", "which suites: names, or paths to suite files, separated by commas", "NAME[,NAME]"),
    Option("qconfig", "which qconfigs of the suite, by name or pattern, separated by commas", "GLOB"),
    Option("data", "embedded, imagenet=DIR, folder=DIR, or a kind that a hook registers", "SPEC"),
    Option("weights", "state dict (safetensors, or a checkpoint without pickled code) instead of the suite's", "FILE"),
    Option("metrics", f"which gates run: {','.join(GATES)} (default: all)", "GATE[,GATE]"),
    Option("threads", "threads that latency is measured with", "N", "int"),
    Option(
        "runtime",
        "where the int8 models run: torch (default), onnxruntime and openvino (extras of the same names), all of them, "
        "or fastest: whichever is measured to be; separated by commas",
        "NAME[,NAME]",
    ),
    Option("latency", "gate: measure and judge (default); report: measure only; off: skip", "gate|report|off"),
    Option(
        "update-baseline",
        "new: write what is missing, limits included, to be reviewed; failed: record the values of failing gates "
        "anew and still fail; all: record every value anew and pass (a limit that a person wrote is never changed and "
        "still binds)",
        "new|failed|all",
        None,
    ),
    Option("baseline-dir", "where baselines are read and written (default: baselines/ under the root folder)", "DIR"),
    Option("history", "where run records go (default: .ptq/history under the root folder)", "DIR"),
    Option("save", "writes the int8 models that were judged into this folder", "DIR"),
    Option("json", "writes this run's record into this file as well", "FILE"),
    Option("report-html", "writes a page on this run and its history into this file (extra: report)", "FILE"),
    Option(
        "report-md",
        "writes 60 lines of Markdown at most into this file, for a pull request; on GitHub Actions they go to the "
        "summary of the step as well",
        "FILE",
    ),
    Option("budget", "seconds that the tests of one suite may take; what is not judged by then fails", "SECONDS"),
    Option(
        "isa",
        "judges accuracy, size and coverage with int8 kernels held to an older instruction set, in a process of its "
        f"own: what a CPU without VNNI would answer ({', '.join(ISAS)})",
        "ISA",
        None,
    ),
    Option(
        "layers",
        "whose layers are looked at one by one, and saved in the run record: failed (default): of models that fail "
        "their accuracy gate; all: of every model that has one",
        "failed|all",
    ),
    Option(
        "annotations",
        "github: print workflow commands, so that GitHub shows what failed beside the line of its limit; off: do not; "
        "auto (default): github on GitHub Actions",
        "auto|github|off",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("ptq", "int8 model gates (pytest-ptq)")
    for option in OPTIONS:
        group.addoption(f"--ptq-{option.name}", dest=option.key, default=None, metavar=option.metavar, help=option.help)
        if option.ini is not None:
            parser.addini(option.key, option.help, type=option.ini, default=None)  # type: ignore[arg-type]
    strict = "an inconclusive latency verdict is a failure"
    group.addoption("--ptq-strict", dest="ptq_strict", action="store_true", default=None, help=strict)
    parser.addini("ptq_strict", strict, type="bool", default=False)
    tune = "instead of testing, find the fewest layers that must stay in fp32 for accuracy to keep its limits"
    group.addoption("--ptq-tune", dest="ptq_tune", action="store_true", default=None, help=tune)
    group.addoption("--ptq-list-suites", dest="ptq_list_suites", action="store_true", help="print the suites and exit")
