"""Input that cannot be used: one clear sentence, a non-zero exit, no traceback, and the other results are kept."""

from __future__ import annotations

import pytest

from plugin.project import Project, output

EVALUATION = "return list(zip(self.images[CALIBRATION:].split(16), self.labels[CALIBRATION:].split(16), strict=True))"
CALIBRATION = "return list(self.images[:CALIBRATION].split(16))"
POISONED = """batches = [batch.clone() for batch in self.images[:CALIBRATION].split(16)]
        batches[1][0, 0, 0, 0] = float("VALUE")
        return batches"""
LAST = "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (EVALUATION, EVALUATION.replace("self.labels", "(self.labels + 7)"), ["data:", "label", "batch"]),
        (EVALUATION, "return []", ["data:", "no images to evaluate"]),
        (CALIBRATION, "return []", ["batch"]),
        (CALIBRATION, POISONED.replace("VALUE", "nan"), ["batch 1"]),
        (CALIBRATION, POISONED.replace("VALUE", "inf"), ["batch 1"]),
        (CALIBRATION, "return [self.images[:CALIBRATION, :1]]", ["shape"]),
        ("return nn.Sequential(", "return nn.Identity()\n        nn.Sequential(", ["quantize"]),
    ],
    ids=["labels", "no-evaluation", "no-calibration", "nan", "inf", "shape", "nothing-to-quantize"],
)
def test_one_clear_sentence(project: Project, before: str, after: str, words: list[str]) -> None:
    # The labels come from a model of their own, which stays as it is.
    project.edit_suite("class Noise:", "Labeller = type('Labeller', (), {'build': Tiny.build})\n\n\nclass Noise:")
    project.edit_suite(before, after)
    result = project.gates("-k", "accuracy")
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    start = next(i for i, line in enumerate(result.stdout.lines) if line.startswith("___")) + 1
    sentence = result.stdout.lines[start]
    assert all(word in sentence for word in words), sentence
    assert result.stdout.lines[start + 1].startswith("===")
    assert "Traceback" not in output(result)
    result.stdout.fnmatch_lines(["x86 *ERROR*", "tiny?x86?: accuracy: *", "run record: *"])


def test_what_cannot_be_measured_stands_in_the_record(project: Project) -> None:
    project.edit_suite(EVALUATION, "return []")
    result = project.gates()
    result.assert_outcomes(failed=1, passed=2)
    ((found,),) = [record["results"] for record in project.records()]
    assert found["errors"][0].startswith("accuracy: ")
    assert "size_reduction_x" in found["measurements"]


def test_a_pickled_checkpoint_is_refused(project: Project) -> None:
    import torch

    class Code:
        def __reduce__(self) -> object:
            return print, ("run",)

    project.edit_suite("def build(self, weights=None):", "def build(self, weights=None):\n        self.load(weights)")
    project.edit_suite(
        "class Tiny:",
        "class Tiny:\n    def load(self, weights):\n        from pytest_ptq.sources.weights import read_state_dict\n"
        "        weights and read_state_dict(weights)\n",
    )
    torch.save({"weight": Code()}, project.path / "w.pt")
    result = project.gates("--ptq-weights", "w.pt", "-k", "accuracy")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["weights: *w.pt*"])
    assert "Traceback" not in output(result)


def test_a_full_traceback_stays_for_faults_of_the_suites_own_code(project: Project) -> None:
    project.edit_suite("torch.manual_seed(0)", "raise ZeroDivisionError('of the user')")
    result = project.gates("-k", "size")
    result.assert_outcomes(failed=1)
    assert "of the user" in result.stdout.str()
