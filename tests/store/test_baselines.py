import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import BaselineError
from pytest_ptq.metrics import ACCURACY_DROP, LATENCY_RATIO, METRICS, QDQ_PAIRS, SIZE_REDUCTION, Measurement
from pytest_ptq.store.baselines import Baselines, baseline_path
from pytest_ptq.store.provenance import Provenance

KEY = "avx512_vnni/onednn/2t/torch2.15"
MADE = Provenance("2026-01-31", "0123abc", "torch 2.15.0")
TEXT = """\
{
  "schema": 2,
  "suite": "net",
  "comment": "reviewed by people",
  "data": {
    "embedded": {
      "limits": {
        "x86": {
          "size_reduction_x": 3.5,
          "accuracy_drop_pp": 1.0,
          "comment": "0.5 once the observer is better"
        }
      },
      "tolerances": {
        "latency_ratio": 0.1
      },
      "recorded": {
        "avx512_vnni/onednn/2t/torch2.15": {
          "x86": {
            "accuracy_drop_pp": {
              "value": 0.12,
              "low": -0.1,
              "high": 0.34,
              "samples": 10000,
              "date": "2026-01-30",
              "versions": "torch 2.15.0"
            }
          }
        }
      }
    }
  }
}
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baselines").mkdir()
    file = tmp_path / "baselines" / "net.json"
    file.write_text(TEXT)
    return file


def drop(value=0.2):
    return Measurement(ACCURACY_DROP, value, value - 0.1, value + 0.1, samples=500, details={"mcnemar_p": 0.5})


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


def corrupt(old, new):
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def xfail(value):
    return corrupt('      "tolerances"', f'      "xfail": {value},\n      "tolerances"')


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (corrupt('"accuracy_drop_pp": 1.0', '"accuracy_drop_pp": NaN'), ":10", "NaN is not a value"),
        (corrupt('"accuracy_drop_pp": 1.0', '"accuracy_drop_pp": 1e999'), ":10", "too large"),
        (corrupt('"accuracy_drop_pp": 1.0', '"size_reduction_x": 1.0'), ":10", "stands there twice"),
        (corrupt('"accuracy_drop_pp": 1.0', '"accuracy_drop": 1.0'), ":10", "Did you mean 'accuracy_drop_pp'"),
        (corrupt('"accuracy_drop_pp": 1.0', '"accuracy_drop_pp": "1"'), ":10", "is not a number"),
        (corrupt('"accuracy_drop_pp": 1.0', '"accuracy_drop_pp": true'), ":10", "is not a number"),
        (corrupt('"schema": 2', '"schema": 3'), ":2", "comes from a newer pytest-ptq"),
        (corrupt('"schema": 2', '"schema": 0'), ":2", "never existed"),
        (corrupt('"schema": 2', '"schema": true'), ":2", "no whole number"),
        (corrupt('"schema": 2,', ""), ":1", '"schema" is missing'),
        (corrupt('"suite": "net"', '"suite": "other"'), ":3", "its name says 'net'"),
        (corrupt('"suite": "net"', '"suite": 3'), ":3", "no string"),
        (corrupt('"limits"', '"limit"'), ":7", "Did you mean 'limits'"),
        (corrupt('"latency_ratio": 0.1', '"latency_ratio": -0.1'), ":15", "negative"),
        (corrupt('"latency_ratio": 0.1', '"latency": 0.1'), ":15", "not a metric"),
        (corrupt('"value": 0.12,', ""), ":20", "missing or no number"),
        (corrupt('"value": 0.12', '"value": 0.5'), ":20", "does not hold its value"),
        (corrupt('"samples": 10000', '"samples": 0'), ":24", "no positive whole number"),
        (corrupt('"date": "2026-01-30"', '"date": 3'), ":25", "no string"),
        (
            corrupt('"x86": {\n          "size', '"x86": {\n          "xfail": 1,\n          "size'),
            ":9",
            "is not a metric",
        ),
        (corrupt('"samples": 10000', '"processes": 1.5'), ":24", "no positive whole number"),
        (corrupt('"suite": "net"', '"$schema": 1, "suite": "net"'), ":3", "no string"),
        (xfail('{"x86": {"latency": "slow"}}'), ":14", "Did you mean 'latency_ratio'"),
        (xfail('{"x86": {"comment": "slow"}}'), ":14", "'comment' is not a metric"),
        (xfail('{"x86": {"latency_ratio": " "}}'), ":14", "missing or no string"),
        (xfail('{"x86": {"latency_ratio": true}}'), ":14", "missing or no string"),
        (xfail('{"x86": ["latency_ratio"]}'), ":14", "no object"),
        (xfail("[]"), ":14", "no object"),
        (TEXT[:300], ":", "truncated"),
        ("", ":1", "truncated"),
        ("[]", ":1", "no object"),
        ("3", ":1", "no object"),
        ('{"schema": 1, "suite": "net"}', ":1", '"data" is missing'),
        ('{"schema": 1, "suite": "net", "data": {"embedded": []}}', ":1", "no object"),
        ("[" * 100_000, ":1", "nested more than"),
    ],
)
def test_damage_is_one_sentence_with_its_line(path, text, place, message):
    path.write_text(text)
    with pytest.raises(BaselineError, match=message) as caught:
        Baselines.read(path)
    assert caught.value.place.startswith(f"baselines/net.json{place}")
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@given(st.integers(0, len(TEXT) - 3))
def test_every_truncation_is_a_baseline_error(tmp_path_factory, end):
    with pytest.raises(BaselineError):
        Baselines.parse(TEXT[:end], tmp_path_factory.getbasetemp() / "net.json")


def test_a_missing_file_says_how_to_write_it(path):
    path.unlink()
    with pytest.raises(BaselineError, match=r"does not exist\. Write it with `pytest --ptq-suite net --ptq-update"):
        Baselines.read(path)


def test_what_is_no_text_file_is_refused(path):
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(BaselineError, match="not UTF-8"):
        Baselines.read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(BaselineError, match="is not a file"):
        Baselines.read(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(BaselineError, match="is not a file"):
        Baselines.read(path)


def test_a_byte_order_mark_is_harmless(path):
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert Baselines.read(path).suite == "net"


def test_a_name_that_is_too_long_for_a_file_is_a_sentence(tmp_path):
    with pytest.raises(BaselineError, match="cannot be read"):
        Baselines.read(tmp_path / ("n" * 300 + ".json"))


def test_a_metric_of_an_extension_can_be_limited_when_it_is_known(path):
    text = corrupt('"accuracy_drop_pp": 1.0', '"miou_percent": 70.0')
    assert Baselines.parse(text, path, {*METRICS, "miou_percent"})
    with pytest.raises(BaselineError, match="'miou_percent' is not a metric"):
        Baselines.parse(text, path)


def test_a_record_of_an_absent_extension_is_kept(path):
    text = TEXT.replace('            "accuracy_drop_pp": {', '            "miou_percent": {')
    assert '"miou_percent": {' in Baselines.parse(text, path).with_recorded("embedded", KEY, "x86", [drop()]).text


@pytest.mark.parametrize(
    "suite", ["", "..", "../net", "a/b", "a\\b", "/etc/x", "a\x00", ".net", "n" * 300, "a b", "é/"]
)
def test_no_name_leaves_the_folder(tmp_path, suite):
    with pytest.raises(BaselineError, match="cannot name a baseline file"):
        baseline_path(tmp_path, suite)


@pytest.mark.parametrize("suite", ["resnet50", "mobilenet_v2", "a.b-c", "r.1"])
def test_usual_names_stay_in_the_folder(tmp_path, suite):
    assert baseline_path(tmp_path, suite) == tmp_path / f"{suite}.json"


def test_a_link_is_not_replaced_behind_ones_back(path):
    link = path.with_name("link.json")
    link.symlink_to("net.json")
    text = TEXT.replace('"suite": "net"', '"suite": "link"')
    path.write_text(text)
    baselines = Baselines.read(link)
    with pytest.raises(BaselineError, match="symbolic link"):
        baselines.write()
    assert path.read_text() == text
    assert link.is_symlink()


def test_a_folder_that_cannot_be_made_loses_nothing(path):
    with pytest.raises(BaselineError, match="cannot be written") as caught:
        Baselines.empty(path / "net.json").write()
    assert "Nothing was changed" in caught.value.remedy
    assert path.read_text() == TEXT
