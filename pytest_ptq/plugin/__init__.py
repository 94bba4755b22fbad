"""The pytest plugin: options, and the rest when a run begins. Importing it imports no torch.

Every run of pytest loads this file, also where nobody uses it: whatever it does not need stands in `hooks`.
"""

from __future__ import annotations

import pytest

from pytest_ptq.plugin import command_line, hookspecs


def pytest_addoption(parser: pytest.Parser) -> None:
    command_line.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if config.getoption("ptq_list_suites"):
        from pytest_ptq.plugin import selection, summary

        print(summary.suite_list(selection.search_folders(config)))
        return 0
    if config.getoption("ptq_isa") is None:
        return None
    from pytest_ptq.plugin import hooks

    return hooks.run_held(config)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.help:  # pytest configures for it, and then runs nothing
        return
    from pytest_ptq.plugin import hooks

    hooks.start(config)
    config.pluginmanager.register(hooks, "ptq-hooks")
