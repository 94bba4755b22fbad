"""What the pages on suites, qconfigs and data sets show is run, so that it stays true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plugin.project import NO_LATENCY, Project, output
from plugin.tiny_suite import Noise, Tiny

from pages.fences import DOCS, block, blocks
from pytest_ptq import OnnxFile, OpenVINOFile, engine
from pytest_ptq.plugin.command_line import add_options
from pytest_ptq.suite import Suite, load_suite

QUICK = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider", "-p", "no:xdist", "--ptq-threads=1")


def put(folder: Path, page: str, title: str) -> Path:
    path = folder / title
    path.parent.mkdir(exist_ok=True)
    path.write_text(block(page, title), encoding="utf-8")
    return path


def judge(project: Project, path: Path, *args: str) -> pytest.RunResult:
    chosen = (f"--ptq-suite={path}", f"--ptq-metrics={NO_LATENCY}", "--ptq-update-baseline=new", *args)
    return project.pytester.runpytest_inprocess(*QUICK, *chosen)


def test_the_declared_suite_loads(tmp_path: Path) -> None:
    suite = load_suite(put(tmp_path, "suites.md", "suites/my_mobilenet.py"), [])
    assert (suite.name, list(suite.variants)) == ("my_mobilenet", ["imagenet", "folder"])


def test_the_fields_of_a_suite_are_all_told() -> None:
    page = (DOCS / "suites.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    assert rows == set(Suite.__dataclass_fields__)


def test_the_suite_with_int8_models_loads(tmp_path: Path) -> None:
    suite = load_suite(put(tmp_path, "suites.md", "suites/shipped.py"), [])
    assert suite.int8 == {
        "vendor": OnnxFile(tmp_path / "suites" / "models" / "vendor.int8.onnx"),
        "vendor-ov": OpenVINOFile(tmp_path / "suites" / "models" / "vendor.xml"),
    }


def test_the_int8_model_of_a_test_is_judged(project: Project) -> None:
    shown = put(project.path, "suites.md", "test_shipped.py")
    text = shown.read_text(encoding="utf-8")  # its model is made up: three of its labels flip
    shown.write_text(text.replace("max_accuracy_drop=1.0", "max_accuracy_drop=10.0"), encoding="utf-8")
    data = Noise().load()
    path = project.path / "models" / "vendor.int8.onnx"
    engine.export_onnx(engine.quantize(Tiny().build(), data.calibration()), path, data.images[:1])
    fixtures = """
import pytest
from plugin.tiny_suite import Noise, Tiny

@pytest.fixture
def my_model(): return Tiny().build()

@pytest.fixture
def my_loader(): return Noise().load().evaluation
"""
    (project.path / "conftest.py").write_text(fixtures, encoding="utf-8")
    project.pytester.runpytest_inprocess(*QUICK, "test_shipped.py").assert_outcomes(passed=1)


def test_the_model_of_ones_own_is_judged(project: Project) -> None:
    path = put(project.path, "suites.md", "suites/my_net.py")
    judge(project, path, "--ptq-qconfig=x86").assert_outcomes(passed=3)


def test_the_data_set_of_ones_own_is_judged(project: Project) -> None:
    judge(project, put(project.path, "datasets.md", "suites/waves.py")).assert_outcomes(passed=3)


def test_a_registered_kind_of_data_is_judged(project: Project) -> None:
    put(project.path, "datasets.md", "conftest.py")
    result = judge(project, project.path / "suites" / "tiny.py", "--ptq-data=dots", "--ptq-qconfig=x86")
    assert "data=dots" in output(result)
    assert sum(result.parseoutcomes().values()) == 3  # what noise and made-up labels come to is not the point


def test_the_qconfig_of_ones_own(tmp_path: Path) -> None:
    _, careful = load_suite(put(tmp_path, "qconfigs.md", "suites/fashion_mobilenet.py"), []).qconfigs
    assert (careful.name, careful.bias_correction, careful.fp32_layers) == ("careful", True, ("features.0.0",))  # type: ignore[union-attr]


def test_a_registered_qconfig_is_judged(project: Project) -> None:
    put(project.path, "qconfigs.md", "conftest.py")
    project.edit_suite('name="tiny",', 'name="tiny", qconfigs=("symmetric",),')
    result = judge(project, project.path / "suites" / "tiny.py")
    assert "symmetric" in output(result)
    assert sum(result.parseoutcomes().values()) == 3


def test_the_presets_are_all_told() -> None:
    from pytest_ptq.qconfig import ALIASES, PRESETS

    page = (DOCS / "qconfigs.md").read_text(encoding="utf-8")
    rows = page[page.index("| preset") : page.index("[Accuracy, measured]")].strip().splitlines()[2:]
    named = {name for row in rows for name in re.findall(r"`([\w+]+)`", row.split("|")[1])}
    assert named == {*PRESETS, *ALIASES}


def test_the_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("qconfigs.md", "notebook.py"), {})  # noqa: S102
    assert "conv2d" in capsys.readouterr().out


def test_every_file_that_is_shown_is_run_here() -> None:
    """A new one has to be taken up above."""
    source = Path(__file__).read_text(encoding="utf-8")
    shown = [(page, found.title) for page in ("suites.md", "qconfigs.md", "datasets.md") for found in blocks(page)]
    assert len(shown) == 9
    for page, title in shown:
        assert f'"{page}", "{title}"' in source


def test_the_commands_are_all_told() -> None:
    from pytest_ptq.cli.app import app

    page = (DOCS / "reference" / "command.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `pytest-ptq ([\w-]+)", page, re.MULTILINE) == list(app.list_commands(None))  # type: ignore[attr-defined]


def test_completion_is_switched_on_as_told() -> None:
    import os
    import subprocess
    import sys

    environment = {**os.environ, "_PYTEST_PTQ_COMPLETE": "bash_source"}
    code = "import sys; from pytest_ptq.cli.app import main; sys.argv[0] = 'pytest-ptq'; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "_pytest_ptq_completion" in done.stdout, done.stderr


def test_the_arguments_of_the_marker_are_all_told() -> None:
    from pytest_ptq.plugin.marker import KEYWORDS

    page = (DOCS / "reference" / "pytest.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)=", page, re.MULTILINE)) == KEYWORDS


def test_the_options_are_all_told() -> None:
    parser = pytest.Parser(_ispytest=True)
    add_options(parser)
    known = {name for option in parser.getgroup("ptq").options for name in option.names()}
    page = (DOCS / "reference" / "options.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(--ptq-[\w-]+)", page, re.MULTILINE)
    assert sorted(told) == sorted(known)
