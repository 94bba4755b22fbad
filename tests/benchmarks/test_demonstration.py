"""The demonstration's commits, its repository and its tables, with runs that take no time."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks import demonstration, demonstration_text
from benchmarks.demonstration_story import APP, COMMITS, KIOSK, PLANTED, TOO_LARGE, State, position, states
from benchmarks.demonstration_team import Team, suite_text
from pytest_ptq import metrics as m
from pytest_ptq.errors import MeasurementError, StoreError
from pytest_ptq.judge.gates import judge
from pytest_ptq.metrics import Limit, Measurement
from pytest_ptq.qconfig import QConfig
from pytest_ptq.store.history import open_history, write_record
from pytest_ptq.store.provenance import commit_names, current_commit
from pytest_ptq.store.record import QConfigRecord, RunRecord
from pytest_ptq.suite import load_suite


def test_sixty_commits_of_which_each_says_what_it_does() -> None:
    subjects = [commit.subject for commit in COMMITS]
    assert len(subjects) == 60
    assert subjects.count(PLANTED) == subjects.count(TOO_LARGE) == 1
    before = State()
    for commit, state in list(states())[1:]:
        assert (state == before) == bool(commit.note), commit.subject
        before = state
    assert 20 < position(PLANTED) < 40
    assert position(TOO_LARGE) > position(PLANTED)


def test_every_state_is_a_suite(tmp_path: Path) -> None:
    for number, (_, state) in enumerate(states()):
        path = tmp_path / f"suite_{number}.py"
        path.write_text(suite_text(state), encoding="utf-8")
        suite = load_suite(path, ())
        assert suite.qconfigs == (QConfig(APP, **state.qconfigs[APP]), QConfig(KIOSK, **state.qconfigs[KIOSK]))


def test_what_is_taken_out_of_a_qconfig_is_gone() -> None:
    state = State().merged(APP, {"fp32_layers": ("a",), "bias_correction": True}).merged(APP, {"fp32_layers": None})
    assert state.qconfigs[APP] == {"bias_correction": True}
    assert state.qconfigs[KIOSK] == State().qconfigs[KIOSK]


class Stub(Team):
    """Runs nothing: writes a record of the commit with a drop that the test chooses, and a baseline when asked."""

    runs = 0
    drops = (0.1, 0.1, 0.2)

    def test(self, *options: str, history: Path | None = None) -> int:
        if "--ptq-update-baseline=new" in options:
            (self.repository / "baselines").mkdir()
            (self.repository / "baselines" / "garments.json").write_text("{}", encoding="utf-8")
        if history:
            return 0
        found = Measurement(m.ACCURACY_DROP, self.drops[Stub.runs % 3])
        judged = judge(found, Limit(m.ACCURACY_DROP, 0.15, "baselines/garments.json:8"))
        result = QConfigRecord(
            "garments", "embedded", APP, False, {found.metric.key: found}, {found.metric.key: judged}
        )
        names = commit_names(self.repository)
        record = RunRecord({"key": "here"}, {"torch": "1"}, (result,), commit=current_commit(self.repository))
        write_record(self.history, replace(record, branch=names.branch, commit_subject=names.subject))
        Stub.runs += 1
        return int(found.value > 0.15)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Stub]:
    monkeypatch.setattr(demonstration, "Team", Stub)
    monkeypatch.setattr(Stub, "runs", 0)
    return Stub


def run(folder: Path, *more: str) -> str:
    return demonstration.table(["--runs", "3", "--keep", str(folder / "kept"), *more])


def test_commits_are_made_and_run_in_order(
    stub: type[Stub], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- demonstration: begin -->\n<!-- demonstration: end -->\n", encoding="utf-8")
    text = run(tmp_path, "--reports", str(tmp_path / "out"), "--into", str(page))
    runs = list(open_history(tmp_path / "kept" / "history"))
    assert [found.commit_subject for found in runs] == [commit.subject for commit in COMMITS[:3]]
    assert [found.commit for found in runs] == Team(tmp_path / "kept").commits()
    assert {found.branch for found in runs} == {"main"}
    assert re.search(r"\| `app` +\| accuracy drop +\| 3 +\| 1 +\| 0 ", text)
    failed = rf"\| 3 +\| `{str(runs[2].commit)[:12]}` Calibrate on 320 images +\| `app` +\| accuracy drop +\| FAIL +\|"
    assert re.search(failed, text)
    assert text in page.read_text(encoding="utf-8")
    assert "pass" in capsys.readouterr().err
    with tarfile.open(tmp_path / "out" / demonstration.PACKED) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    assert list(open_history(tmp_path / "unpacked" / "history")) == runs
    assert "Calibrate on 320 images" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Calibrate on 320 images" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    first = (tmp_path / "out" / demonstration.PACKED).read_bytes()
    # What was run is not run again, and gives the same.
    assert run(tmp_path, "--reports", str(tmp_path / "out")) == text
    assert stub.runs == 3
    assert (tmp_path / "out" / demonstration.PACKED).read_bytes() == first


@pytest.mark.usefixtures("stub")
def test_an_interrupted_run_is_run_and_a_lost_one_is_told(tmp_path: Path) -> None:
    run(tmp_path)
    records = sorted((tmp_path / "kept" / "history").glob("*.json"))
    records[2].unlink()
    run(tmp_path)
    assert len(open_history(tmp_path / "kept" / "history")) == 3
    records[0].unlink()
    with pytest.raises(StoreError, match="later ones do"):
        run(tmp_path)


def test_a_repository_knows_nothing_of_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z")
    ids = []
    for name in ("one", "two"):
        team = Team(tmp_path / name)
        for number, (commit, state) in enumerate(list(states())[:2]):
            team.write(commit, state)
            team.commit(number, commit.subject)
        ids.append(team.commits())
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2
    with pytest.raises(MeasurementError, match="git commit failed"):
        team.commit(2, "Nothing")


def test_a_run_that_fails_otherwise_than_a_gate_is_an_error(tmp_path: Path) -> None:
    team = Team(tmp_path)
    team.write(*next(states()))
    with pytest.raises(MeasurementError, match="ended with status 4"):
        team.test("--no-such-option")


def series(values: Sequence[float | None], key: str = m.SQNR.key) -> list[RunRecord]:
    """A run of each of the first commits, in which one metric of app has that value, if any, well within its limit."""
    runs = []
    for number, value in enumerate(values):
        found = {} if value is None else {key: Measurement(m.METRICS[key], value, value - 0.001, value + 0.001, 5)}
        limits = {m.LATENCY_RATIO.key: Limit(m.LATENCY_RATIO, 1.0, "here:1")}
        judged = {name: judge(measured, limits[name]) for name, measured in found.items() if name in limits}
        result = QConfigRecord("garments", "embedded", APP, False, found, judged)
        names = {"commit": f"{number:040x}", "commit_subject": COMMITS[number].subject, "run_id": f"{number:012x}"}
        time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        runs.append(RunRecord({"key": "here"}, {}, (result,), time=time, **names))
    return runs


def test_the_planted_commit_is_told_where_it_is() -> None:
    at = position(PLANTED)
    text = demonstration_text.text_of(series([31.0] * at + [19.0] * (60 - at)))
    assert f"`000000000000` “{PLANTED}”, commit {at + 1} of 60:" in text
    assert re.search(r"\| `app` +\| logit SQNR +\| 31.0 dB +\| 19.0 dB +\| `0{12}`, p = 0.001 \|", text)
    assert re.search(r"\| `app` +\| logit SQNR +\| 60 +\| 1 +\| 1 +\| 1 +\| 0 +\|", text)
    assert "Elsewhere" not in text
    assert "Every gate of every run passed." in text


def test_a_planted_commit_that_nothing_tells_is_said() -> None:
    at = position(PLANTED)
    text = demonstration_text.text_of(series([float(i % 7) + (i == at) / 8 for i in range(60)]))
    assert "| not told" in text
    assert "It is not among these runs." in demonstration_text.text_of(series([31.0, 31.0, 30.0]))


def test_a_latency_that_no_commit_changed_is_counted_as_elsewhere() -> None:
    at = position(PLANTED) + 5
    text = demonstration_text.text_of(series([0.5] * at + [0.6] * (60 - at), m.LATENCY_RATIO.key))
    # app's layers changed thrice: its first one went to fp32 and came back, and the planted commit took its scales.
    assert re.search(r"\| `app` +\| int8/fp32 latency +\| 60 +\| 3 +\| 1 +\| 0 +\| 1 +\|", text)
    assert f"- `app`, int8/fp32 latency: 0.500 -> 0.600, p = 0.001 at `000000000000` {COMMITS[at].subject}" in text


def test_a_latency_that_is_timed_seldom_moves_where_it_is_timed_next() -> None:
    values = [0.6 if 23 > i >= 19 else 0.5 if i % 4 == 3 else None for i in range(60)]
    text = demonstration_text.text_of(series(values, m.LATENCY_RATIO.key))
    # In fp32 for the 20th to the 23rd commit, all of which are timed here, and back at the 24th; planted: the 32nd.
    assert re.search(r"\| `app` +\| int8/fp32 latency +\| 18 +\| 3 +\|", text)


def test_an_exact_value_says_itself_which_commit_moved_it() -> None:
    found = demonstration_text.every_change(runs := series([1.0, 1.0, 2.0, 2.0, 3.0]), demonstration_text.watched(runs))
    assert re.search(r"\| `app` +\| logit SQNR +\| 5 +\| 2 +\|", found)
