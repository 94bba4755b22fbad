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
