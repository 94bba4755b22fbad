import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.metrics import ACCURACY_DROP, FLIPS, LATENCY_RATIO, METRICS, QDQ_PAIRS, SIZE_REDUCTION, Measurement
from pytest_ptq.store.baselines import Baselines, baseline_path
from pytest_ptq.store.provenance import Provenance
from store.files import KEY, TEXT, corrupt, drop, xfail

MADE = Provenance("2026-01-31", "0123abc", "torch 2.15.0")


def test_a_limit_names_the_line_it_stands_on(path):
    limit = Baselines.read(path).limit("embedded", "x86", ACCURACY_DROP)
    assert limit.bound == 1.0
    assert limit.source == "baselines/net.json:10"
    assert '"accuracy_drop_pp"' in TEXT.splitlines()[9]


@pytest.mark.parametrize(
    ("data", "qconfig", "metric"),
    [("imagenet", "x86", ACCURACY_DROP), ("embedded", "minmax", ACCURACY_DROP), ("embedded", "x86", QDQ_PAIRS)],
)
def test_what_nobody_limited_or_recorded_is_none(path, data, qconfig, metric):
    baselines = Baselines.read(path)
    assert baselines.limit(data, qconfig, metric) is None
    assert baselines.recorded(data, KEY, qconfig, metric) is None


def test_records_are_held_by_machine_with_their_provenance(path):
    baselines = Baselines.read(path)
    found = baselines.recorded("embedded", KEY, "x86", ACCURACY_DROP)
    assert (found.value, found.low, found.high, found.samples) == (0.12, -0.1, 0.34, 10000)
    assert found.details == {"date": "2026-01-30", "versions": "torch 2.15.0"}
    assert baselines.recorded("embedded", "avx2/onednn/2t/torch2.15", "x86", ACCURACY_DROP) is None
    assert baselines.machine_keys("embedded") == (KEY,)
    assert baselines.machine_keys("imagenet") == ()


def test_tolerances_can_be_overridden(path):
    baselines = Baselines.read(path)
    assert baselines.tolerance("embedded", LATENCY_RATIO) == 0.1
    assert baselines.tolerance("embedded", ACCURACY_DROP) is None
    assert baselines.tolerance("imagenet", LATENCY_RATIO) is None


def test_a_file_in_order_is_written_back_byte_for_byte(path):
    Baselines.read(path).write()
    assert path.read_text() == TEXT
    assert [p.name for p in path.parent.iterdir()] == ["net.json"]


def test_an_update_touches_nothing_but_its_entry(path):
    updated = Baselines.read(path).with_recorded("embedded", KEY, "x86", [drop()], MADE)
    updated.write()
    before, after = json.loads(TEXT), json.loads(path.read_text())
    entry = after["data"]["embedded"]["recorded"][KEY]["x86"]["accuracy_drop_pp"]
    assert entry == {"value": 0.2, "low": 0.1, "high": 0.3, "samples": 500, "date": "2026-01-31",
                     "commit": "0123abc", "versions": "torch 2.15.0"}  # fmt: skip
    before["data"]["embedded"]["recorded"][KEY]["x86"]["accuracy_drop_pp"] = entry
    assert after == before
    assert list(after["data"]["embedded"]["limits"]["x86"]) == ["size_reduction_x", "accuracy_drop_pp", "comment"]


def test_an_update_leaves_the_old_object_alone(path):
    baselines = Baselines.read(path)
    baselines.with_recorded("embedded", KEY, "x86", [drop(0.9)])
    assert baselines.text == TEXT


def test_records_are_sorted_and_one_value_a_line(path):
    baselines = Baselines.read(path)
    for machine, qconfig in (("b/onednn", "x86"), ("a/onednn", "x86"), ("a/onednn", "minmax")):
        sizes = [Measurement(SIZE_REDUCTION, 3.9), drop()]
        baselines = baselines.with_recorded("embedded", machine, qconfig, sizes, MADE)
    recorded = json.loads(baselines.text)["data"]["embedded"]["recorded"]
    assert list(recorded) == ["a/onednn", KEY, "b/onednn"]
    assert list(recorded["a/onednn"]) == ["minmax", "x86"]
    assert list(recorded["a/onednn"]["x86"]) == ["accuracy_drop_pp", "size_reduction_x"]
    assert all(line.count('": ') <= 1 for line in baselines.text.splitlines())
    assert baselines.text.endswith("}\n")


def test_limits_are_added_but_never_changed(path):
    more = Baselines.read(path).with_limits("embedded", "x86", {ACCURACY_DROP: 9.0, LATENCY_RATIO: 0.6})
    assert more.limit("embedded", "x86", ACCURACY_DROP).bound == 1.0
    found = more.limit("embedded", "x86", LATENCY_RATIO)
    assert found.bound == 0.6
    more.write()
    line = int(found.source.rpartition(":")[2])
    assert '"latency_ratio": 0.6' in path.read_text().splitlines()[line - 1]


def test_a_new_file_grows_from_nothing(tmp_path):
    path = baseline_path(tmp_path / "new", "net")
    made = Baselines.empty(path).with_limits("embedded", "x86", {ACCURACY_DROP: 1.0})
    made.with_recorded("embedded", KEY, "x86", [drop()], MADE).write()
    again = Baselines.read(path)
    assert again.limit("embedded", "x86", ACCURACY_DROP).bound == 1.0
    assert again.recorded("embedded", KEY, "x86", ACCURACY_DROP).value == 0.2


@given(
    st.dictionaries(st.sampled_from(sorted(METRICS)), st.floats(-1e9, 1e9), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_writing_is_idempotent_whatever_the_names(tmp_path_factory, values, machine, qconfig):
    path = tmp_path_factory.getbasetemp() / "net.json"
    measured = [Measurement(METRICS[key], value) for key, value in values.items()]
    made = Baselines.empty(path).with_recorded("embedded", machine, qconfig, measured, MADE)
    again = Baselines.parse(made.text, path)
    assert again.text == made.text
    for measurement in measured:
        found = again.recorded("embedded", machine, qconfig, measurement.metric).value
        assert found == pytest.approx(measurement.value, abs=0.5 * 10.0 ** -(measurement.metric.digits or 0))


def test_an_expected_failure_says_why_and_where(path):
    path.write_text(xfail('{"x86": {"latency_ratio": "the kernel is slow"}}'))
    baselines = Baselines.read(path)
    assert baselines.xfail("embedded", "x86", LATENCY_RATIO) == ("the kernel is slow", "baselines/net.json:14")
    assert baselines.xfail("embedded", "x86", ACCURACY_DROP) is None
    assert baselines.xfail("embedded", "minmax", LATENCY_RATIO) is None
    assert baselines.xfail("imagenet", "x86", LATENCY_RATIO) is None


def test_expected_failures_outlive_an_update_in_their_order(path):
    path.write_text(xfail('{"x86": {"latency_ratio": "slow", "accuracy_drop_pp": "few bits"}, "a": {}}'))
    Baselines.read(path).with_recorded("embedded", KEY, "x86", [drop()], MADE).write()
    found = json.loads(path.read_text())["data"]["embedded"]
    assert list(found) == ["limits", "xfail", "tolerances", "recorded"]
    assert json.dumps(found["xfail"]) == '{"x86": {"latency_ratio": "slow", "accuracy_drop_pp": "few bits"}, "a": {}}'


def test_the_number_of_processes_is_kept(path):
    ratio = Measurement(
        LATENCY_RATIO, 0.5, 0.4, 0.6, samples=900, details={"processes": 5, "probe_us": 80.4, "load": 0.1}
    )
    made = Baselines.read(path).with_recorded("embedded", KEY, "x86", [ratio], MADE)
    entry = json.loads(made.text)["data"]["embedded"]["recorded"][KEY]["x86"]["latency_ratio"]
    assert (entry["processes"], entry["probe_us"]) == (5, 80)
    assert list(entry)[:6] == ["value", "low", "high", "samples", "processes", "probe_us"]
    found = made.recorded("embedded", KEY, "x86", LATENCY_RATIO)
    assert found.details == {
        "processes": 5,
        "probe_us": 80,
        "date": "2026-01-31",
        "commit": "0123abc",
        "versions": "torch 2.15.0",
    }
    more = Measurement(LATENCY_RATIO, 0.5, 0.4, 0.6, samples=900, details={"processes": 9})
    again = made.with_recorded("embedded", KEY, "x86", [more], MADE)
    assert again.recorded("embedded", KEY, "x86", LATENCY_RATIO).details["processes"] == 9


def latency(value, exchange, **more):
    details = {"processes": 5, "probe_us": 80.0, "exchange_us": exchange, **more}
    return Measurement(LATENCY_RATIO, value, value - 0.01, value + 0.01, samples=900, details=details)


PLACE = ("embedded", KEY, "x86")


def test_one_value_may_be_recorded_at_several_speeds(path):
    made = Baselines.read(path).with_recorded(*PLACE, [latency(0.29, 11.7)], MADE)
    made = made.with_recorded(*PLACE, [latency(0.34, 4.3), drop()], MADE, missing=True)
    for speed, value in ((12.9, 0.29), (4.0, 0.34), (6.9, 0.34), (7.3, 0.29)):
        assert made.recorded(*PLACE, LATENCY_RATIO, latency(1.0, speed)).value == value
    assert made.recorded(*PLACE, LATENCY_RATIO).value == 0.29
    assert made.recorded(*PLACE, LATENCY_RATIO, Measurement(LATENCY_RATIO, 1.0)).value == 0.29
    assert [found.details["exchange_us"] for found in made.records(*PLACE, LATENCY_RATIO)] == [11.7, 4.3]
    entry = json.loads(made.text)["data"]["embedded"]["recorded"][KEY]["x86"]["latency_ratio"]
    assert list(entry)[-1] == "other_speeds"
    assert list(entry["other_speeds"][0])[:7] == list(entry)[:7]
    assert Baselines.parse(made.text, made.path).text == made.text


def test_what_is_known_at_a_speed_is_not_missing_there(path):
    made = Baselines.read(path).with_recorded(*PLACE, [latency(0.29, 11.7), latency(0.34, 4.3)], MADE, missing=True)
    assert len(made.records(*PLACE, LATENCY_RATIO)) == 2
    for again in (latency(0.5, 12.0), latency(0.5, 5.0), Measurement(LATENCY_RATIO, 0.5)):
        assert made.with_recorded(*PLACE, [again], MADE, missing=True).text == made.text


def test_a_value_that_is_recorded_anew_is_the_only_one(path):
    made = Baselines.read(path).with_recorded(*PLACE, [latency(0.29, 11.7), latency(0.34, 4.3)], MADE, missing=True)
    assert made.with_recorded(*PLACE, [latency(0.29, 11.7)], None).text == made.text, "it says what it said"
    (found,) = made.with_recorded(*PLACE, [latency(0.25, 4.3)], MADE).records(*PLACE, LATENCY_RATIO)
    assert (found.value, found.details["exchange_us"]) == (0.25, 4.3)


def test_kernels_are_part_of_what_is_recorded(path):
    by = {"int8_kernels": "native program", "fp32_kernels": "native program", "int8_not_native": "no"}
    made = Baselines.read(path).with_recorded(*PLACE, [latency(0.29, 4.3456, **by)], MADE)
    (found,) = made.records(*PLACE, LATENCY_RATIO)
    assert {key: found.details.get(key) for key in by} == {**by, "int8_not_native": None}
    assert found.details["exchange_us"] == 4.35
    other = latency(0.29, 4.3456, **{**by, "fp32_kernels": "float torchscript"})
    assert made.with_recorded(*PLACE, [other], None).text != made.text


def test_what_is_recorded_already_keeps_its_provenance(path):
    same = Measurement(ACCURACY_DROP, 0.12, -0.1, 0.34, samples=10000)
    assert Baselines.read(path).with_recorded("embedded", KEY, "x86", [same], MADE).text == TEXT
    wider = Measurement(ACCURACY_DROP, 0.12, -0.1, 0.35, samples=10000)
    assert '"2026-01-31"' in Baselines.read(path).with_recorded("embedded", KEY, "x86", [wider], MADE).text


def test_a_schema_for_editors_is_kept_but_not_written_by_itself(path):
    path.write_text(corrupt('"suite": "net"', '"suite": "net", "$schema": "x.json"'))
    made = Baselines.read(path).with_recorded("embedded", KEY, "x86", [drop()], MADE)
    assert made.text.startswith('{\n  "$schema": "x.json",\n  "schema": 2,\n')
    assert "$schema" not in Baselines.empty(path).text


def test_a_comment_is_added_but_never_changed(path):
    more = Baselines.read(path).with_limits("embedded", "x86", {LATENCY_RATIO: 0.6}, "review")
    more = more.with_limits("embedded", "minmax", {LATENCY_RATIO: 0.6}, "review")
    limits = json.loads(more.text)["data"]["embedded"]["limits"]
    assert limits["x86"]["comment"] == "0.5 once the observer is better"
    assert limits["minmax"] == {"latency_ratio": 0.6, "comment": "review"}


def test_a_limit_holds_in_every_runtime_unless_one_is_written_for_it(tmp_path):
    made = Baselines.empty(tmp_path / "net.json").with_limits("embedded", "x86", {FLIPS: 1.0})
    inherited = made.limit("embedded", "x86-openvino", FLIPS)
    assert inherited == made.limit("embedded", "x86", FLIPS)
    own = made.with_limits("embedded", "x86-openvino", {FLIPS: 2.0})
    assert own.limit("embedded", "x86-openvino", FLIPS).bound == 2.0
    assert own.limit("embedded", "x86-onnxruntime", FLIPS).bound == 1.0
    assert own.limit("embedded", "x86", FLIPS).bound == 1.0
    assert own.limit("embedded", "openvino", FLIPS) is None
