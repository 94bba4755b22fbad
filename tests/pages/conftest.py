"""The fixtures of the plugin's tests serve the pages as well."""

import pytest
from plugin.conftest import _heavy, _nowhere, clockwork
from plugin.project import Project

__all__ = ["_heavy", "_nowhere", "clockwork"]


@pytest.fixture
def project(_heavy: None, pytester: pytest.Pytester) -> Project:
    return Project(pytester)
