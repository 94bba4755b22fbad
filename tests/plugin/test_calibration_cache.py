"""Where a run keeps what it calibrated, and how to be rid of it."""

from __future__ import annotations

from pathlib import Path

from plugin.project import Project


def files(project: Project) -> list[Path]:
    return sorted((project.path / ".pytest_cache" / "d" / "ptq-calibration").glob("*"))


def test_statistics_are_kept_in_the_cache_of_pytest(project: Project) -> None:
    ini = project.path / "pytest.ini"
    ini.write_text(ini.read_text(encoding="utf-8").replace("-p no:cacheprovider", ""), encoding="utf-8")
    project.gates()
    (kept,) = files(project)
    written = kept.read_bytes()
    kept.write_bytes(b"damaged")
    project.gates()
    assert files(project) == [kept]
    assert kept.read_bytes() == written, "calibrated again, to the same bytes"


def test_without_a_cache_nothing_is_kept(project: Project) -> None:
    assert project.gates().ret == 0, "the folder of these tests has no:cacheprovider in its ini file"
    assert not (project.path / ".pytest_cache").exists()


def test_fp32_is_evaluated_once_for_all_runs(project: Project) -> None:
    ini = project.path / "pytest.ini"
    ini.write_text(ini.read_text(encoding="utf-8").replace("-p no:cacheprovider", ""), encoding="utf-8")
    project.pytester.makeconftest(
        "import importlib\n"
        "accuracy = importlib.import_module('pytest_ptq.measure.accuracy')\n"
        "real = accuracy.collect_logits\n\n\n"
        "def pytest_configure():\n"
        "    def told(model, batches):\n"
        "        print('evaluated', getattr(model, 'stage', 'deployed'))\n"
        "        return real(model, batches)\n\n"
        "    accuracy.collect_logits = told\n\n\n"
        "def pytest_unconfigure():\n"
        "    accuracy.collect_logits = real\n"
    )
    first, second = (project.gates("-s").stdout.str() for _ in range(2))
    assert first.count("evaluated frozen") == 1
    assert second.count("evaluated frozen") == 0
    assert second.count("evaluated deployed") == 1
    assert len(list((project.path / ".pytest_cache" / "d" / "ptq-fp32").glob("*.safetensors"))) == 1
