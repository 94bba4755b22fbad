"""Shared by all tests. Imports no torch: a run that only collects stays light."""

from __future__ import annotations

from hypothesis import settings

# The same examples on every run, and no limit in time: machines differ.
settings.register_profile("ptq", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("ptq")

pytest_plugins = ["pytester"]
