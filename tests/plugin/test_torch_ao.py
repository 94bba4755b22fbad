"""A QConfig of torch.ao wherever a qconfig is accepted: in a suite, and on the marker."""

from __future__ import annotations

from plugin.project import Project

OBSERVERS = """
from functools import partial
from types import SimpleNamespace


class MinMaxObserver: ...


weight = partial(MinMaxObserver, dtype="torch.qint8", qscheme="torch.per_tensor_symmetric")
theirs = SimpleNamespace(activation=partial(MinMaxObserver, reduce_range=True), weight=weight)
"""


def test_in_a_suite_and_on_the_marker(project: Project) -> None:
    project.edit_suite("CALIBRATION, ", f"{OBSERVERS}\nCALIBRATION, ")
    project.edit_suite('variants={"emb', 'qconfigs=(theirs,), variants={"emb')
    listed = project.run("--collect-only", "-q")
    listed.stdout.fnmatch_lines(["*test_accuracy?torch_ao-minmax-per_tensor-reduced?"])
    marked = f"""
import pytest
{OBSERVERS}

@pytest.mark.ptq(qconfigs=[theirs, "x86"])
def test_mine(ptq_qconfig): assert ptq_qconfig
"""
    project.tests(marked, "-v").stdout.fnmatch_lines(["*test_mine?torch_ao-minmax-per_tensor-reduced? PASSED*"])
