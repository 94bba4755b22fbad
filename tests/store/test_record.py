import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import StoreError
from pytest_ptq.metrics import METRICS, Direction, Judgement, LayerError, Limit, Measurement, Metric, Verdict
from pytest_ptq.store.record import QConfigRecord, RunRecord

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
number = st.floats(allow_nan=False, allow_infinity=False)
mine = Metric("miou_percent", "mIoU", "%", Direction.HIGHER_IS_BETTER, 1)
measurements = st.builds(
    Measurement,
    metric=st.sampled_from([*METRICS.values(), mine]),
    value=number,
    low=st.none() | number,
    high=st.none() | number,
    samples=st.none() | st.integers(1, 10**9),
    details=st.dictionaries(text, number | st.integers() | text, max_size=3),
)


@st.composite
def judgements(draw):
    measured = draw(measurements)
    limit = draw(st.none() | st.builds(Limit, st.just(measured.metric), number, text))
    recorded = draw(st.none() | st.builds(Measurement, st.just(measured.metric), number))
    return Judgement(draw(st.sampled_from(Verdict)), measured, limit, draw(text), recorded)


def by_metric(items):
    return {(i.metric if isinstance(i, Measurement) else i.measurement.metric).key: i for i in items}


figures, counts = st.none() | st.floats(), st.none() | st.integers(0, 10**18)
results = st.builds(
    QConfigRecord,
    suite=text,
    data=text,
    qconfig=text,
    reduce_range=st.none() | st.booleans(),
    measurements=st.lists(measurements, max_size=3).map(by_metric),
    judgements=st.lists(judgements(), max_size=3).map(by_metric),
    fp32_layers=st.lists(st.tuples(text, text), max_size=2).map(tuple),
    worst_layers=st.lists(
        st.builds(
            LayerError,
            text,
            text,
            figures,
            figures,
            alone_db=figures,
            pairs=counts,
            overflowing_pairs=counts,
            clipped_percent=figures,
            scale=figures,
            zero_point=counts,
        ),
        max_size=2,
    ).map(tuple),
    errors=st.lists(text, max_size=2).map(tuple),
    pairs=st.lists(st.lists(st.floats(1e-6, 1e6), max_size=3).map(tuple), max_size=2).map(tuple),
    runtime=text,
    machine_key=text,
    runtime_ms=st.dictionaries(text, number, max_size=2),
    runtime_errors=st.dictionaries(text, text, max_size=2),
)
times = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))
records = st.builds(
    RunRecord,
    machine=st.dictionaries(text, text | st.integers() | st.booleans(), max_size=3),
    versions=st.dictionaries(text, text, max_size=3),
    results=st.lists(results, max_size=2).map(tuple),
    commit=st.none() | text,
    time=times,
    branch=st.none() | text,
    commit_time=st.none() | times,
    commit_subject=st.none() | text,
)


@given(records)
def test_a_record_round_trips_exactly(record):
    again = RunRecord.from_json(record.to_json())
    assert again == record
    assert again.to_json() == record.to_json()


@given(records)
def test_a_record_is_plain_json(record):
    tree = json.loads(record.to_json(), parse_constant=lambda _: pytest.fail("not JSON"))
    assert tree["schema"] == 3


def test_runs_are_told_apart_and_timed_in_utc():
    local = datetime(2026, 1, 31, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    one, other = (RunRecord({}, {}, (), time=local) for _ in range(2))
    assert one.run_id != other.run_id
    assert one.time.isoformat() == "2026-01-30T23:00:00+00:00"
    for key in ("time", "commit_time"):
        with pytest.raises(StoreError, match="no time zone"):
            RunRecord({}, {}, (), **{key: datetime(2026, 1, 31)})


def test_a_detail_that_is_no_number_is_refused_at_writing():
    measured = Measurement(mine, 1.0, details={"load": math.nan})
    record = RunRecord({}, {}, (QConfigRecord("s", "d", "q", None, {mine.key: measured}),))
    with pytest.raises(StoreError, match="is no JSON"):
        record.to_json()


def test_a_layer_without_error_has_no_finite_sqnr():
    assert LayerError("conv", "Conv2d", math.inf, math.nan) == LayerError("conv", "Conv2d", None, None)


def test_layers_of_a_record_from_before_they_said_why():
    tree = json.loads(RunRecord({}, {}, (QConfigRecord("s", "d", "q", None),)).to_json())
    tree["results"][0]["worst_layers"] = [{"name": "fc", "kind": "linear", "sqnr_db": 3.5, "gain_db": None}]
    (layer,) = RunRecord.from_json(json.dumps(tree)).results[0].worst_layers
    assert layer == LayerError("fc", "linear", 3.5)


def test_a_record_of_schema_1_is_read():
    tree = json.loads(RunRecord({"key": "k"}, {}, (QConfigRecord("s", "d", "q", None),), commit="abc").to_json())
    for key in ("branch", "commit_time", "commit_subject"):
        del tree[key]
    del tree["results"][0]["pairs"]
    old = RunRecord.from_json(json.dumps({**tree, "schema": 1}))
    assert (old.commit, old.branch, old.commit_time, old.commit_subject) == ("abc", None, None, None)
    assert old.results[0].pairs == ()
    assert old.machine_key == "k"


def test_a_record_of_schema_2_is_one_of_torch():
    tree = json.loads(RunRecord({"key": "k"}, {}, (QConfigRecord("s", "d", "q", None),)).to_json())
    for key in ("runtime", "machine_key", "runtime_ms", "runtime_errors"):
        del tree["results"][0][key]
    old = RunRecord.from_json(json.dumps({**tree, "schema": 2}))
    assert (old.results[0].runtime, old.key_of(old.results[0]), old.results[0].runtime_ms) == ("torch", "k", {})


def test_a_result_has_the_key_of_its_runtime_or_else_of_the_run():
    torch, other = QConfigRecord("s", "d", "q", None), QConfigRecord("s", "d", "r", None, machine_key="own")
    record = RunRecord({"key": "k"}, {}, (torch, other))
    assert [record.key_of(result) for result in record.results] == ["k", "own"]


def test_the_pairs_of_a_process_stand_on_one_line():
    result = QConfigRecord("s", "d", "q", None, pairs=((0.5, 0.25), (0.75,)))
    # A time of its own: the fraction of a second may look like a ratio.
    lines = RunRecord({}, {}, (result,), time=datetime(2026, 1, 31, tzinfo=UTC)).to_json().splitlines()
    assert [line.strip() for line in lines if "0." in line] == ["[0.5, 0.25],", "[0.75]"]


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan, math.inf])
def test_a_ratio_that_cannot_be_is_refused(ratio):
    with pytest.raises(StoreError, match=r"s\[q\]: the pairs of a process"):
        QConfigRecord("s", "d", "q", None, pairs=((0.5, ratio),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "here.json:1: it ends in the middle"),
        ("[]", "not a run record"),
        ("{}", "not a run record"),
        ('{"schema": 1}', "not a run record"),
        ('{"schema": 4}', "schema 4; this version reads schemas 1 to 3"),
    ],
)
def test_damage_is_one_sentence(text, message):
    with pytest.raises(StoreError, match=message) as caught:
        RunRecord.from_json(text, "here.json")
    assert str(caught.value).startswith("store: here.json")


@pytest.mark.parametrize("value", [None, 1, ["net"], {"a": "b"}])
@pytest.mark.parametrize("place", ["run_id", "suite", "data", "qconfig", "metric"])
def test_what_runs_and_series_are_told_apart_by_is_text(place, value):
    measured = {mine.key: Measurement(mine, 1.0)}
    tree = json.loads(RunRecord({"key": "k"}, {}, (QConfigRecord("s", "d", "q", None, measured),)).to_json())
    result, metrics = tree["results"][0], tree["metrics"]
    owner, key = {"run_id": (tree, "run_id"), "metric": (metrics[mine.key], "key")}.get(place, (result, place))
    owner[key] = value
    with pytest.raises(StoreError, match=r"this is not a run record \(TypeError: a .* where a name belongs"):
        RunRecord.from_json(json.dumps(tree))


@pytest.mark.parametrize("machine", [None, "avx2", []])
def test_a_machine_has_keys(machine):
    tree = json.loads(RunRecord({"key": "k"}, {}, ()).to_json())
    with pytest.raises(StoreError, match=r"this is not a run record \(AttributeError"):
        RunRecord.from_json(json.dumps({**tree, "machine": machine}))
