"""Hooks with which a `conftest.py` adds to the tables. They are asked once, when pytest has been configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import nn

    from pytest_ptq.measure.custom import MetricSource
    from pytest_ptq.qconfig import QConfig
    from pytest_ptq.suite import DataSource, ModelSource


@pytest.hookspec
def pytest_ptq_register_datasets(config: pytest.Config) -> Mapping[str, DataSource]:  # type: ignore[empty-body]
    """Data kinds for `--ptq-data KIND[=ARGUMENT]` and `@pytest.mark.ptq(data=KIND)`.

    Every suite can be run on a registered kind. The model is the one registered under the same name by
    `pytest_ptq_register_models`, or else the suite's default one.
    """


@pytest.hookspec
def pytest_ptq_register_models(config: pytest.Config) -> Mapping[str, ModelSource | Callable[[], nn.Module]]:  # type: ignore[empty-body]
    """Models for `@pytest.mark.ptq(model=NAME)`, and for the data kind of the same name.

    Do not build the model here: give a source, or a function that returns the model in eval mode.
    """


@pytest.hookspec
def pytest_ptq_register_qconfigs(config: pytest.Config) -> Mapping[str, QConfig]:  # type: ignore[empty-body]
    """QConfigs that suites and `@pytest.mark.ptq(qconfigs=[...])` can name; the QConfig's own name is its id."""


@pytest.hookspec
def pytest_ptq_register_metrics(config: pytest.Config) -> Mapping[str, MetricSource]:  # type: ignore[empty-body]
    """Metrics of a user's own (mIoU, F1, perplexity) by key, for `Suite(metrics=...)` and the marker's `metrics`.

    The accuracy gate measures each of fp32 and int8, and the loss from one to the other. A limit on any of the three,
    in the baseline file or in the marker's `limits`, is judged; there has to be one.
    """
