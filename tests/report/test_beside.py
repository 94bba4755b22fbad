from __future__ import annotations

from dataclasses import replace

from pytest_ptq import metrics as m
from pytest_ptq.judge.expected import Expected, expect_failure
from pytest_ptq.judge.gates import judge
from pytest_ptq.measure.classes import class_coverage
from pytest_ptq.measure.custom import MetricSource
from pytest_ptq.metrics import Direction, Limit, Measurement, Metric
from pytest_ptq.report.beside import beside
from pytest_ptq.report.failure import failure_text
from pytest_ptq.report.terminal import notes, table

MIOU = MetricSource(Metric("miou_percent", "mIoU", "%", Direction.HIGHER_IS_BETTER), function=lambda *_: 0.0)
TOP5 = {
    x.metric.key: x
    for x in (Measurement(m.TOP5_FP32, 99.5), Measurement(m.TOP5_INT8, 99.25), Measurement(m.TOP5_DROP, 0.25, 0.1, 0.4))
}
UNSEEN = class_coverage([0, 0, 1], [0, 1, 2, 3], 4)


def rich(row, qconfig="x86"):
    made = row(qconfig)
    own = MIOU.measurements(70.125, 69.5, 100)
    return replace(made, measurements={**made.measurements, **TOP5, **own, **UNSEEN})


def test_everything_that_was_measured_has_a_line(row):
    assert beside(rich(row).measurements) == [
        ("top-1", "91.23 -> 91.10 %, drop 0.13 pp [-0.07, 0.33]"),
        ("top-5", "99.50 -> 99.25 %, drop 0.25 pp [0.10, 0.40]"),
        ("flips", "1.23 %"),
        ("SQNR", "28.3 dB"),
        ("mIoU", "70.12 -> 69.50 %, loss 0.62 pp"),
        ("calibrated", "on 3 images of 2 of 4 classes (by their labels), never on 2, 3"),
    ]
    assert beside({}) == []


def test_a_failed_accuracy_gate_shows_them_and_no_other_gate_does(row):
    full = rich(row)
    judged = judge(full.measurements["accuracy_drop_pp"], Limit(m.ACCURACY_DROP, -1, "x"))
    text = failure_text(judged, suite="net", qconfig="x86", measurements=full.measurements)
    assert "  mIoU       70.12 -> 69.50 %, loss 0.62 pp\n" in text
    assert "  calibrated on 3 images" in text
    size = judge(full.measurements["size_reduction_x"], Limit(m.SIZE_REDUCTION, 99, "x"))
    assert "mIoU" not in failure_text(size, suite="net", qconfig="x86", measurements=full.measurements)


def test_a_failed_metric_of_ones_own_belongs_to_accuracy(row):
    full = rich(row)
    judged = judge(full.measurements["miou_loss_pp"], Limit(MIOU.loss, 0.5, "x"))
    text = failure_text(judged, suite="net", qconfig="x86", measurements=full.measurements)
    assert text.startswith("accuracy of net[x86] on embedded data: FAIL\n  mIoU loss of 0.62 pp breaks the limit")
    assert "-k test_accuracy" in text


def with_kernels(made, **details):
    return replace(made, measurements={**made.measurements, m.SQNR.key: Measurement(m.SQNR, 28.34, details=details)})


def test_kernels_stand_beside_accuracy_and_in_a_note_where_they_are_not_compiled(row):
    native = with_kernels(row("fine"), kernels="native program")
    assert ("kernels", "native program") in beside(native.measurements)
    how = {"kernels": "packed torchscript", "not_native": "no\x1b VNNI"}
    slow = [with_kernels(row(name), **how) for name in ("x86", "minmax")]
    other = with_kernels(row(suite="vit"), kernels="plain torchscript", not_native="GELU")
    assert ("kernels", "packed torchscript, no compiled kernels: no\x1b VNNI") in beside(slow[0].measurements)
    assert notes([native, *slow, other]) == [
        "resnet50[x86], resnet50[minmax]: int8 by packed torchscript, no compiled kernels: no\\x1b VNNI",
        "vit[x86]: int8 by plain torchscript, no compiled kernels: GELU",
    ]


def test_notes_show_own_metrics_with_their_limits_and_unseen_classes_once(row):
    full = rich(row)
    judged = judge(full.measurements["miou_loss_pp"], Limit(MIOU.loss, 1.0, "x"))
    full = replace(full, judgements={**full.judgements, "miou_loss_pp": judged})
    found = notes([full, rich(row, "minmax")])
    assert found == [
        "resnet50[x86]: mIoU 70.12 -> 69.50 %, loss 0.62 pp (mIoU loss: limit 1 pp)",
        "resnet50 on embedded data: calibrated on 3 images of 2 of 4 classes (by their labels), never on 2, 3",
        "resnet50[minmax]: mIoU 70.12 -> 69.50 %, loss 0.62 pp",
    ]


def test_an_expected_failure_stands_in_the_table_and_in_the_notes(row):
    failed = row(drop=2.0)
    marked = expect_failure(failed.judgements["accuracy_drop_pp"], Expected("ReLU6", "b.json:3"))
    known = replace(failed, judgements={**failed.judgements, "accuracy_drop_pp": marked})
    text = table([known])
    assert "xfail" in text
    assert "accuracy" in text.splitlines()[-1]
    (note,) = notes([known])
    assert note.startswith("resnet50[x86]: expected to fail since ReLU6 (b.json:3): accuracy drop of 2.00 pp")


def test_an_unexpected_pass_asks_to_take_the_mark_out_and_not_to_refresh(row):
    passed = row(drop=0.1, recorded={"accuracy_drop_pp": 0.1}).judgements["accuracy_drop_pp"]
    text = failure_text(expect_failure(passed, Expected("ReLU6", "b.json:3")), suite="net", qconfig="x86")
    assert "and passes: take the mark out at b.json:3" in text
    assert text.splitlines()[-1].startswith("  accept     take the mark out")
    assert "--ptq-update-baseline" not in text


def test_what_became_better_shows_in_the_verdict_too(row):
    better = table([row(drop=-2.0, recorded={"accuracy_drop_pp": 0.5})])
    assert "(refresh)" in better
    assert "(refresh)" not in table([row(recorded={"accuracy_drop_pp": 0.13})])
