"""Values of options and ini keys -> one frozen `Settings`. The command line wins over the ini file."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_ptq.errors import UsageError
from pytest_ptq.plugin.command_line import OPTIONS
from pytest_ptq.plugin.gates import LATENCY
from pytest_ptq.plugin.isa import check_isa
from pytest_ptq.plugin.option_values import as_path, choice, existing, gates_of, names, new_file, positive, seconds
from pytest_ptq.plugin.runtimes import runtimes_of


class LatencyMode(enum.Enum):
    GATE = "gate"
    REPORT = "report"
    OFF = "off"


class Annotations(enum.Enum):
    AUTO = "auto"
    GITHUB = "github"
    OFF = "off"


class Layers(enum.Enum):
    FAILED = "failed"
    ALL = "all"


class Update(enum.Enum):
    NEW = "new"
    FAILED = "failed"
    ALL = "all"


@dataclass(frozen=True)
class Settings:
    """What the command line and the ini file ask for.

    `data` is the text of `--ptq-data`: which kinds there are, only a suite can tell. `threads` of None means one for
    each core. `baseline_dir` of None means `baselines/` under the root folder, then those that come with the package.
    `budget_s` is the command line's and wins over a suite's own; `budget_default_s` is the ini file's and does not.
    `isa` is what kernels are held to; latency is off then. `runtimes` is empty where a suite's own go.
    """

    suites: tuple[str, ...]
    qconfigs: tuple[str, ...]
    data: str | None
    weights: Path | None
    gates: tuple[str, ...]
    threads: int | None
    latency: LatencyMode
    update: Update | None
    baseline_dir: Path | None
    history: Path
    save: Path | None
    strict: bool
    annotations: Annotations = Annotations.AUTO
    json: Path | None = None
    report_html: Path | None = None
    report_md: Path | None = None
    budget_s: float | None = None
    budget_default_s: float | None = None
    isa: str | None = None
    tune: bool = False
    layers: Layers = Layers.FAILED
    runtimes: tuple[str, ...] = ()


def read_settings(config: pytest.Config) -> Settings:
    """Raises UsageError for a value that cannot be right."""
    found = {option.key: _value(config, option.key, ini=option.ini is not None) for option in OPTIONS}
    text = {key: None if given is None else given[0] for key, given in found.items()}
    path = {key: None if given is None else as_path(*given) for key, given in found.items()}
    gates = gates_of(text["ptq_metrics"])
    latency = choice("--ptq-latency", text["ptq_latency"], LatencyMode) or LatencyMode.GATE
    isa = check_isa(text["ptq_isa"], gates)
    if isa is not None:
        latency = LatencyMode.OFF
    if latency is LatencyMode.OFF and gates == (LATENCY.name,):
        raise UsageError("--ptq-latency off leaves nothing of --ptq-metrics latency", remedy="Take one of them out.")
    return Settings(
        suites=names(text["ptq_suite"]),
        qconfigs=names(text["ptq_qconfig"]),
        data=text["ptq_data"],
        weights=existing("--ptq-weights", path["ptq_weights"]),
        gates=gates,
        threads=positive(text["ptq_threads"]),
        latency=latency,
        update=choice("--ptq-update-baseline", text["ptq_update_baseline"], Update),
        baseline_dir=path["ptq_baseline_dir"],
        history=path["ptq_history"] or project_root(config) / ".ptq" / "history",
        save=path["ptq_save"],
        strict=bool(config.getoption("ptq_strict") or _ini(config, "ptq_strict")),
        annotations=choice("--ptq-annotations", text["ptq_annotations"], Annotations) or Annotations.AUTO,
        json=new_file("--ptq-json", path["ptq_json"]),
        report_html=new_file("--ptq-report-html", path["ptq_report_html"]),
        report_md=new_file("--ptq-report-md", path["ptq_report_md"]),
        budget_s=seconds("--ptq-budget", config.getoption("ptq_budget")),
        budget_default_s=seconds("ini key ptq_budget", _ini(config, "ptq_budget")),
        isa=isa,
        tune=bool(config.getoption("ptq_tune")),
        layers=choice("--ptq-layers", text["ptq_layers"], Layers) or Layers.FAILED,
        runtimes=runtimes_of(names(text["ptq_runtime"]), given=text["ptq_runtime"] is not None),
    )


def project_root(config: pytest.Config) -> Path:
    """pytest's root folder, or the one around the working folder where pytest was misled."""
    return _root_around(config.invocation_params.dir) if misled(config) else config.rootpath


def misled(config: pytest.Config) -> bool:
    """Whether pytest took the value of an option of ours for a test path, and its root folder from there.

    pytest looks for its root folder before it knows our options. In `--ptq-history /tmp/x` it sees a path that
    exists; in `--ptq-history=/tmp/x` it does not.
    """
    here = config.invocation_params.dir
    given = set(map(str, config.invocation_params.args))
    values = {str(config.getoption(option.key)) for option in OPTIONS}
    seen = any((here / value).exists() for value in values & given)
    return seen and not config.getoption("rootdir", None) and config.rootpath != _root_around(here)


def _root_around(here: Path) -> Path:
    marks = ("pytest.toml", "pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", ".git")
    return next((folder for folder in (here, *here.parents) if any((folder / m).exists() for m in marks)), here)


def _value(config: pytest.Config, key: str, *, ini: bool) -> tuple[str, Path] | None:
    """The value and the folder that a relative path in it is meant from; None when nobody gave one."""
    given = config.getoption(key)
    if given is not None:
        return str(given), config.invocation_params.dir
    stated = _ini(config, key) if ini else None
    if stated in (None, ""):
        return None
    return str(stated), config.inipath.parent if config.inipath else config.rootpath


def _ini(config: pytest.Config, key: str) -> Any:
    try:
        return config.getini(key)
    except (TypeError, ValueError, pytest.UsageError) as error:
        raise UsageError(f"ini key {key}: {error}", remedy="See pytest --help for what it takes.") from error
