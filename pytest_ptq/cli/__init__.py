"""`pytest-ptq`: what a person asks outside of a test run. Importing it, and listing suites, imports no torch."""

from __future__ import annotations

from pytest_ptq.cli.app import main

__all__ = ["main"]
