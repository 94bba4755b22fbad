import pytest

from pytest_ptq.judge.gates import judge
from pytest_ptq.metrics import ACCURACY_DROP, INT8_MACS, LATENCY_RATIO, LayerError, Limit, Measurement
from pytest_ptq.report.failure import SHOWN, failure_text

KEY = "avx512_vnni/onednn/2t/torch2.15"
LAYERS = [LayerError(f"layer{i}", "QuantizedConv2d", 30.0 - i, 5.0 if i > 7 else None) for i in range(10)]


def explain(judgement, **more):
    return failure_text(judgement, suite="resnet50", qconfig="x86", machine_key=KEY, **more)


def test_a_broken_limit_says_everything_a_person_needs(row):
    failed = row(drop=2.3, recorded={"accuracy_drop_pp": 0.12}).judgements["accuracy_drop_pp"]
    text = explain(failed, layers=LAYERS)
    for fact in (
        "accuracy of resnet50[x86] on embedded data: FAIL",
        "2.30 pp, 95 % interval 2.10 to 2.50 pp, 10000 samples",
        "at most 1.00 pp, from baselines/resnet50.json:12",
        "0.12 pp, 95 % interval 0.12 to 0.12 pp, 500 samples, recorded 2026-01-31, commit 0123456789ab, on " + KEY,
        "lost images 33, mcnemar p 0.0125",
        "pytest --ptq-suite resnet50 --ptq-qconfig x86 -k test_accuracy",
        "a limit is changed by hand: edit it at baselines/resnet50.json:12",
    ):
        assert fact in text
    assert "--ptq-update-baseline" not in text


def test_the_worst_layers_come_worst_first_with_their_gain(row):
    text = explain(row(drop=2.3).judgements["accuracy_drop_pp"], layers=LAYERS)
    places = [text.index(f"layer{i}") for i in (9, 8, 7, 6, 5)]
    assert places == sorted(places)
    assert "layer4" not in text
    assert SHOWN == 5
    line = next(line for line in text.splitlines() if "layer9" in line)
    assert line.split() == ["layer9", "QuantizedConv2d", "21.0", "+5.0"]


def test_layers_without_a_figure_come_last(row):
    layers = [LayerError("exact", "Linear", None), *LAYERS[:2]]
    text = explain(row(drop=2.3).judgements["accuracy_drop_pp"], layers=layers)
    assert text.index("layer1") < text.index("layer0") < text.index("exact")


def test_drift_within_the_limit_is_accepted_by_a_command(row):
    failed = row(drop=0.9, recorded={"accuracy_drop_pp": 0.1}).judgements["accuracy_drop_pp"]
    text = explain(failed)
    assert "FAIL" in text
    assert "pytest --ptq-suite resnet50 --ptq-qconfig x86 --ptq-update-baseline failed" in text


def test_an_open_question_asks_to_measure_again(row):
    text = explain(row(ratio=0.6).judgements["latency_ratio"])
    assert "inconclusive" in text
    assert "measure again on an idle machine, or edit the limit at baselines/resnet50.json:12" in text
    assert "-k test_latency" in text


def test_a_missing_limit_says_where_to_write_it():
    text = explain(judge(Measurement(ACCURACY_DROP, 0.1), None), baseline="baselines/resnet50.json")
    assert "no baseline" in text
    assert 'write a limit for "accuracy_drop_pp" in "data" / "embedded" / "limits" / "x86"' in text
    assert "of baselines/resnet50.json" in text


def test_another_machine_is_said(row):
    assert f"nothing recorded for {KEY}; drift was not judged" in explain(row(drop=2.0).judgements["accuracy_drop_pp"])


def test_coverage_names_its_own_test_and_what_stayed_fp32():
    failed = judge(Measurement(INT8_MACS, 40.0), Limit(INT8_MACS, 95.0, "baselines/x.json:3"))
    text = explain(failed, fp32_layers=[(f"block{i}", "softmax has no int8 kernel") for i in range(8)])
    assert "-k test_int8_coverage" in text
    assert "block4: softmax has no int8 kernel" in text
    assert "block5" not in text
    assert "and 3 more" in text


def test_commands_can_be_given(row):
    text = explain(row(drop=0.9, recorded={"accuracy_drop_pp": 0.1}).judgements["accuracy_drop_pp"],
                   reproduce="pytest --ptq-data imagenet=DIR x", accept="pytest accept")  # fmt: skip
    assert "reproduce  pytest --ptq-data imagenet=DIR x\n" in text
    assert text.endswith("accept     pytest accept")


@pytest.mark.parametrize("name", ["$(touch x)", "a b", "x; rm y"])
def test_commands_are_quoted_for_the_shell(name):
    failed = judge(Measurement(LATENCY_RATIO, 0.9, 0.8, 1.0), Limit(LATENCY_RATIO, 0.6, "x"))
    assert f"--ptq-qconfig '{name}' -k" in failure_text(failed, suite="resnet50", qconfig=name)


def test_names_cannot_act_on_the_terminal(row):
    layers = [LayerError("\x1b[2Jlayer\n::error::x", "\x07kind", 1.0)]
    text = failure_text(
        row(drop=2.3).judgements["accuracy_drop_pp"],
        suite="\x1b[31m", qconfig="q\r", layers=layers, fp32_layers=[("\x1b[0m", "\n::error::why")],
    )  # fmt: skip
    assert "\x1b" not in text
    assert "\r" not in text
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())
