"""Baseline files that are damaged, missing, linked or named oddly."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import BaselineError
from pytest_ptq.metrics import METRICS
from pytest_ptq.store.baselines import Baselines, baseline_path
from store.files import KEY, TEXT, corrupt, drop, xfail


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
