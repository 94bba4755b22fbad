"""Metrics that a hook registers: in suites, on the marker, in the baseline file, in the record and in the text."""

from __future__ import annotations

import json

import pytest

from plugin.project import Project, machine_key, output

CONFTEST = """
from pytest_ptq import Direction, Metric, MetricSource

class Recall:
    '''Share of images whose class is found, from two counts.'''
    def __init__(self):
        self.right = self.seen = 0
    def update(self, outputs, targets):
        outputs = outputs["out"] if isinstance(outputs, dict) else outputs
        self.right += int((outputs.argmax(1) == targets).sum())
        self.seen += targets.numel()
    def compute(self):
        return 100 * self.right / self.seen

def whole(outputs, targets):
    outputs = outputs["out"] if isinstance(outputs, dict) else outputs
    return (outputs.argmax(1) == targets).float().mean()

def pytest_ptq_register_metrics(config):
    f1 = Metric("f1", "F1", "", Direction.HIGHER_IS_BETTER, 4)
    return {
        "recall_percent": MetricSource(Metric("recall_percent", "recall", "%", Direction.HIGHER_IS_BETTER), Recall),
        "f1": MetricSource(f1, function=whole),
    }
"""
MAPS = """
import pytest, torch
from torch import nn

IMAGES = torch.rand(48, 3, 8, 8, generator=torch.Generator().manual_seed(0))

class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 1))
    def forward(self, x):
        return {"out": self.body(x)}

@pytest.fixture
def model():
    return Segmenter().eval()

@pytest.fixture
def maps(model):
    with torch.no_grad():
        return [(x, model(x)["out"].argmax(1)) for x in IMAGES[16:].split(8)]
"""


@pytest.fixture
def own(project: Project) -> Project:
    (project.path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    project.edit_suite("latency_shape=(1, 3, 8, 8),", 'latency_shape=(1, 3, 8, 8), metrics=("recall_percent",),')
    return project


def accuracy(project: Project, *args: str) -> pytest.RunResult:
    return project.run("--ptq-metrics", "accuracy", "--ptq-qconfig", "x86", *args)


def test_a_suites_metric_is_measured_judged_recorded_and_shown(own: Project) -> None:
    own.limits(recall_loss_pp=50.0, recall_int8_percent=1.0)
    result = accuracy(own, "--junitxml", "junit.xml")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*x86?: recall 100.00 -> * %, loss * pp (recall int8: limit 1 %, recall loss: limit 50 pp)"]
    )
    ((found,),) = [record["results"] for record in own.records()]
    assert found["measurements"]["recall_fp32_percent"]["value"] == 100
    assert found["judgements"]["recall_loss_pp"]["verdict"] == "PASS"
    assert {"recall_loss_pp", "recall_int8_percent", "accuracy_drop_pp"} == set(found["judgements"])
    assert 'name="recall_int8_percent" value="' in (own.path / "junit.xml").read_text(encoding="utf-8")


def test_a_limit_on_it_that_breaks_fails_accuracy(own: Project) -> None:
    own.limits(recall_int8_percent=101.0)
    result = accuracy(own)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "accuracy of tiny?x86? on embedded data: FAIL",
            "*recall int8 of * % breaks the limit of at least 101.00 % (baselines/tiny.json:*",
            "*top-1 *100.00 -> * %, drop * pp*",
            "*recall *100.00 -> * %, loss * pp",
            "*calibrated on 32 images of * of * classes (by their fp32 predictions)*",
        ]
    )


def test_a_declared_metric_needs_a_limit(own: Project) -> None:
    result = accuracy(own)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*no limit is set for recall loss (recall_loss_pp)", '*write a limit for "recall_loss_pp" in "data"*']
    )


def test_a_limit_that_nothing_measures_is_an_error(own: Project) -> None:
    own.limits(recall_loss_pp=50.0, f1_loss=0.5)
    result = accuracy(own)
    result.assert_outcomes(failed=1)
    sentence = "a limit is set on F1 loss (f1_loss), which is not measured here"
    result.stdout.fnmatch_lines([f"measure: baselines/tiny.json:*: {sentence}*", "x86 *ERROR*"])
    assert "Traceback" not in output(result)


def test_top5_of_few_classes_is_such_a_limit(project: Project) -> None:
    project.edit_suite("nn.Linear(32, 10)", "nn.Linear(32, 4)")
    project.limits(top5_drop_pp=1.0)
    result = accuracy(project)
    result.assert_outcomes(failed=1)
    assert "top-5 needs six classes" in result.stdout.str()


@pytest.mark.parametrize(("bound", "outcome"), [(100.0, "passed"), (-101.0, "failed")])
def test_a_limit_that_is_written_down_binds(project: Project, bound: float, outcome: str) -> None:
    project.limits(top5_drop_pp=bound, flips_percent=100.0)
    result = accuracy(project)
    result.assert_outcomes(**{outcome: 1})
    ((found,),) = [record["results"] for record in project.records()]
    assert set(found["judgements"]) == {"accuracy_drop_pp", "top5_drop_pp", "flips_percent"}


def test_without_a_limit_top5_is_only_told(project: Project) -> None:
    project.limits(accuracy_drop_pp=-101.0)
    result = accuracy(project)
    result.stdout.fnmatch_lines(["*top-5 *100.00 -> * %, drop * pp*", "*flips * % [[]*"])
    ((found,),) = [record["results"] for record in project.records()]
    assert "top5_drop_pp" in found["measurements"]
    assert "top5_drop_pp" not in found["judgements"]


@pytest.mark.parametrize("gate", ["size", "coverage"])
def test_limits_of_a_gate_bind_when_that_gate_runs(project: Project, gate: str) -> None:
    project.limits(size_int8_bytes=10.0)
    result = project.run("--ptq-metrics", gate, "--ptq-qconfig", "x86")
    result.assert_outcomes(**{"failed" if gate == "size" else "passed": 1})


@pytest.mark.parametrize(("tolerances", "outcome"), [({}, "passed"), ({"sqnr_db": 1.0}, "failed")])
def test_drift_beside_the_gates_own_is_judged_where_a_tolerance_stands(
    project: Project, tolerances: dict[str, float], outcome: str
) -> None:
    project.limits(recorded={machine_key(): {"x86": {"sqnr_db": {"value": 90.0}}}})
    tree = json.loads(project.baseline.read_text(encoding="utf-8"))
    tree["data"]["embedded"]["tolerances"] = tolerances
    project.baseline.write_text(json.dumps(tree, indent=2), encoding="utf-8")
    result = accuracy(project)
    result.assert_outcomes(**{outcome: 1})
    if tolerances:
        result.stdout.fnmatch_lines(["*logit SQNR was recorded as 90.0 dB*worse by more than 1.0 dB*"])


def test_a_baseline_that_knows_the_metric_is_written(own: Project) -> None:
    own.limits(recall_loss_pp=50.0)
    assert accuracy(own, "--ptq-update-baseline", "new").ret == 0
    assert '"recall_int8_percent"' in own.baseline.read_text(encoding="utf-8")
    assert accuracy(own).ret == 0


def test_a_suite_without_classes(own: Project) -> None:
    own.edit_suite('metrics=("recall_percent",)', 'metrics=("recall_percent",), top1=False')
    own.limits(recall_loss_pp=50.0)
    tree = json.loads(own.baseline.read_text(encoding="utf-8"))
    del tree["data"]["embedded"]["limits"]["x86"]["accuracy_drop_pp"]
    own.baseline.write_text(json.dumps(tree), encoding="utf-8")
    result = accuracy(own)
    result.assert_outcomes(passed=1)
    ((found,),) = [record["results"] for record in own.records()]
    assert set(found["measurements"]) == {
        "recall_fp32_percent", "recall_int8_percent", "recall_loss_pp", "sqnr_db"
    }  # fmt: skip
    own.limits(recall_loss_pp=50.0)
    refused = accuracy(own)
    refused.assert_outcomes(failed=1)
    assert "a limit is set on accuracy drop (accuracy_drop_pp), which is not measured here" in refused.stdout.str()


def test_ones_own_model_that_returns_a_dict_of_maps(own: Project) -> None:
    test = (
        MAPS
        + """
@pytest.mark.ptq(metrics=["recall_percent", "f1"], limits={"recall_loss_pp": BOUND, "f1_int8": 0.1})
def test_maps(ptq_check, model, maps):
    found = ptq_check(model, calibration=[IMAGES[:16]], evaluation=maps)
    assert found["accuracy"].measurement.metric.key == "recall_loss_pp"
"""
    )
    own.tests(test.replace("BOUND", "50")).assert_outcomes(passed=1)
    result = own.tests(test.replace("BOUND", "-50"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*recall loss of *breaks the limit of at most -50.00 pp*", "*F1 *1.0000 -> *loss*", "*worst layers by SQNR*"]
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return float('nan')", "metric broken, fp32: it is nan"),
        ("return None", "metric broken, fp32: it gives a NoneType, not a number"),
        ("raise KeyError('out')", "metric broken, fp32: compute raises KeyError: 'out'"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_one_sentence(project: Project, body: str, said: str) -> None:
    (project.path / "conftest.py").write_text(
        f"""
from pytest_ptq import Direction, Metric, MetricSource
def broken(outputs, targets): {body}
def pytest_ptq_register_metrics(config):
    return {{"broken": MetricSource(Metric("broken", "broken", "", Direction.HIGHER_IS_BETTER), function=broken)}}
""",
        encoding="utf-8",
    )
    project.edit_suite("latency_shape=(1, 3, 8, 8),", 'latency_shape=(1, 3, 8, 8), metrics=("broken",),')
    result = accuracy(project)
    result.assert_outcomes(failed=1)
    assert f"measure: {said}" in result.stdout.str()
    assert "Traceback" not in output(result)


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [
        ("metrics=['rcall_percent']", "unknown metric 'rcall_percent'. Did you mean 'recall_percent'?"),
        ("metrics=[]", "metrics=[] names none"),
        ("metrics=3", "metrics=3 names none"),
        ("metrics=['f1'], suite='tiny'", "a suite declares its metrics itself"),
        ("limits=1", "limits=1 is no dict"),
        ("limits={'f1_los': 1}", "unknown metric 'f1_los'. Did you mean 'f1_loss'?"),
        ("limits={'f1_loss': '1'}", "limits['f1_loss']='1' is not a number"),
        ("limits={'accuracy_drop_pp': 1}, max_accuracy_drop=1", "accuracy_drop_pp has two limits"),
    ],
)
def test_a_marker_that_cannot_be(own: Project, marker: str, sentence: str) -> None:
    result = own.tests(f"import pytest\n@pytest.mark.ptq({marker})\ndef test_it(ptq_check): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in result.stderr.str()
    assert "Traceback" not in output(result)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("{'f1': Recall}", "'f1' is a type. Give MetricSource"),
        ("{'f2': MetricSource(Metric('f1', 'F1', '', Direction.HIGHER_IS_BETTER), Recall)}", "registered with the key"),
        ("{'f1': MetricSource(Metric('f1', 'F1', '%', Direction.HIGHER_IS_BETTER), Recall)}", "Call it f1_percent."),
    ],
)
def test_a_hook_that_registers_nonsense_is_a_usage_error(project: Project, table: str, sentence: str) -> None:
    text = CONFTEST[: CONFTEST.index("def pytest_ptq")] + f"def pytest_ptq_register_metrics(config): return {table}\n"
    (project.path / "conftest.py").write_text(text, encoding="utf-8")
    result = accuracy(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in result.stderr.str()
    assert "Traceback" not in output(result)


def test_a_suite_that_names_no_registered_metric_is_a_usage_error(own: Project) -> None:
    own.edit_suite('"recall_percent"', '"recal_percent"')
    result = accuracy(own)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "suite tiny: unknown metric 'recal_percent'. Did you mean 'recall_percent'?" in result.stderr.str()
