"""What docs/metrics.md shows is run, so that it stays true."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import pytest
import torchvision  # noqa: F401  (met first in an inner run, it would be forgotten when that ends)

from pytest_ptq.metrics import METRICS
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.suite import load_suite

PAGE = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL))

FIXTURES = """

import pytest
from torch import nn

IMAGES = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))

class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, CLASSES, 3, padding=1))
    def forward(self, x):
        return {"out": self.body(x)}

@pytest.fixture
def segmenter():
    return Segmenter().eval()

@pytest.fixture
def batches():
    return [IMAGES[:16]]

@pytest.fixture
def maps(segmenter):
    with torch.no_grad():
        return [(IMAGES[16:], segmenter(IMAGES[16:])["out"].argmax(1))]
"""


def test_the_marker(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(BLOCKS["conftest.py"] + FIXTURES)
    # What the tiny model loses is not what is shown here.
    text = BLOCKS["test_my_segmenter.py"].replace("2.0}, min_size_reduction=1.5", "BOUND}")
    assert "BOUND" in text
    arguments = ("-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    pytester.makepyfile(text.replace("BOUND", "100.0"))
    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=1)
    pytester.makepyfile(text.replace("BOUND", "-100.0"))
    result = pytester.runpytest_inprocess(*arguments)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*mIoU loss of * pp breaks the limit of at most -100.00 pp*"])


def test_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = types.ModuleType("my_project")
    project.CityScapes = project.build_segmenter = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_project", project)
    path = tmp_path / "my_segmenter.py"
    path.write_text(BLOCKS["suites/my_segmenter.py"], encoding="utf-8")
    suite = load_suite(str(path), [])
    assert (suite.metrics, suite.top1) == (("miou_percent",), False)


def test_the_mark_in_a_baseline_file(tmp_path: Path) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    kind = {"limits": {"x86": {"size_reduction_x": 3.5}}, **json.loads(block)}
    text = json.dumps({"schema": 2, "suite": "net", "data": {"embedded": kind}})
    found = Baselines.parse(text, tmp_path / "net.json").xfail("embedded", "x86", METRICS["size_reduction_x"])
    assert found is not None
    assert found[0] == "the embedding table is not quantized yet"


def test_every_key_that_is_named_exists() -> None:
    named = set(re.findall(r"`(\w+_(?:percent|pp|db|bytes))`", PAGE))
    own = {"miou_percent", "miou_fp32_percent", "miou_int8_percent", "miou_loss_pp", "resolvable_drop_pp"}
    assert named - own <= set(METRICS)
    assert named & own
