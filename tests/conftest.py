"""Shared by all tests. Imports no torch: a run that only collects stays light."""

from __future__ import annotations

pytest_plugins = ["pytester"]
