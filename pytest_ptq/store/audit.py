"""What a baseline file says about things that are gone, and what it does not say about things that are there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_ptq.errors import BaselineError
from pytest_ptq.metrics import Metric
from pytest_ptq.qconfig import base_name
from pytest_ptq.store.baselines import Baselines, shown

RECORD = "--ptq-update-baseline new records it"


@dataclass(frozen=True)
class Known:
    """What a run knows of a suite, however little of it was selected.

    Args:
        kinds: kinds of data that the suite can run on.
        qconfigs: all that the suite declares.
        data: the kind of data of this run.
        machine_key: of this machine.
        metrics: what the gates of this run judge.
        keys: machine keys of qconfigs that run outside torch, by name.
        unasked: (qconfig, metric key) of what makes no sense to ask of it.
        declared: what the suite calls its qconfigs, in whatever runtime they are; those of `qconfigs` by default.
        judged: (qconfig, metric key) of everything that was judged; a missing limit was told there.
    """

    kinds: Collection[str]
    qconfigs: Sequence[str]
    data: str
    machine_key: str
    metrics: Sequence[Metric]
    judged: Collection[tuple[str, str]] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    unasked: Collection[tuple[str, str]] = ()
    declared: Sequence[str] = ()

    def asked(self, qconfig: str) -> list[Metric]:
        """What the gates of this run judge of one qconfig."""
        return [metric for metric in self.metrics if (qconfig, metric.key) not in self.unasked]


def audit(baselines: Baselines, known: Known) -> list[str]:
    """A sentence for each thing that is stale or missing, with its place."""
    return [*stale(baselines, known), *unlimited(baselines, known), *unrecorded(baselines, known)]


def stale(baselines: Baselines, known: Known) -> list[str]:
    """Kinds of data and qconfigs of the file that the suite does not have."""
    found = []
    declared = known.declared or tuple(dict.fromkeys(map(base_name, known.qconfigs)))
    here = {*declared, *known.qconfigs, *(qconfig for qconfig, _ in known.judged)}
    for kind, place in baselines.kinds().items():
        if kind not in known.kinds:
            found.append(
                f"{place}: stale: suite {baselines.suite} has no data {kind!r} (it has {', '.join(known.kinds)})"
            )
            continue
        for name, where in baselines.names(kind).items():
            # In another runtime a qconfig is there, whether or not this run went there.
            if name not in here and base_name(name) not in here:
                found.append(
                    f"{where}: stale: suite {baselines.suite} has no qconfig {name!r} "
                    f"(it has {', '.join(declared)}); take it out unless a test of yours names it"
                )
    return found


def unlimited(baselines: Baselines, known: Known) -> list[str]:
    """Qconfigs of the suite that the file sets no limits for, as far as this run's gates need them."""
    place = baselines.source("data", known.data)
    found = []
    for qconfig in known.qconfigs:
        missing = [
            metric.key
            for metric in known.asked(qconfig)
            if baselines.limit(known.data, qconfig, metric) is None and (qconfig, metric.key) not in known.judged
        ]
        if missing:
            found.append(
                f"{place}: missing: no limit for {', '.join(missing)} of {qconfig} on {known.data} data; "
                "--ptq-update-baseline new writes defaults"
            )
    return found


def unrecorded(baselines: Baselines, known: Known) -> list[str]:
    """What drift is not judged against: one sentence if such a machine recorded nothing, else one a qconfig."""
    found: list[str] = []
    for key in dict.fromkeys(known.keys.get(qconfig, known.machine_key) for qconfig in known.qconfigs):
        found += _unrecorded_on(key, baselines, known)
    return found


def _unrecorded_on(key: str, baselines: Baselines, known: Known) -> list[str]:
    name, others = f"{baselines.suite} on {known.data} data", baselines.machine_keys(known.data)
    if key not in others:
        what = f"nothing recorded for {key} (recorded: {', '.join(others) or 'none'})"
        return [f"{name}: {what}: limits were judged, drift was not; {RECORD}"]
    found = []
    for qconfig in known.qconfigs:
        if known.keys.get(qconfig, known.machine_key) != key:
            continue
        asked = known.asked(qconfig)
        missing = [m.key for m in asked if baselines.recorded(known.data, key, qconfig, m) is None]
        if missing:
            what = "nothing" if len(missing) == len(asked) else f"no {', '.join(missing)}"
            found.append(f"{name}: missing: {what} recorded for {qconfig} on {key}, drift is not judged; {RECORD}")
    return found


def orphans(folder: Path, suites: Collection[str], sources: Iterable[Path]) -> list[str]:
    """Baseline files in `folder` that belong to no suite.

    Args:
        folder: where baselines are.
        suites: names of suites that are known.
        sources: suite files. A suite may be called otherwise than its file, so one whose text holds the name, in
            quotes, counts as its declaration: what cannot be known is not called stale.
    """
    unknown = [path for path in _files(folder) if path.stem not in suites and _is_baseline(path)]
    texts = [_text(path) for path in sources] if unknown else []
    return [
        f"{shown(path)}: stale: no suite is called {path.stem!r}; delete the file if its suite is gone"
        for path in unknown
        if not any(f"{quote}{path.stem}{quote}" in text for quote in "'\"" for text in texts)
    ]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def _is_baseline(path: Path) -> bool:
    try:
        Baselines.read(path)
    except BaselineError:
        return False
    return True


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
