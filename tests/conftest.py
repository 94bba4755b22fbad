"""Shared by all tests. Imports no torch: a run that only collects stays light."""

from __future__ import annotations

import signal

from hypothesis import settings

# The same examples on every run, and no limit in time: machines differ.
settings.register_profile("ptq", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("ptq")

# A shell starts what runs in the background deaf to Ctrl-C, and so would be every process that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]
