"""What stands beside the accuracy that is judged: the other measurements of the gate, each on one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_ptq import metrics as m
from pytest_ptq.judge.gates import describe
from pytest_ptq.metrics import METRICS, Judgement, Measurement
from pytest_ptq.report.where import kernels

LOSS = " loss"
"""Ends the title of what int8 loses of a user's own metric."""


def beside(measurements: Mapping[str, Measurement]) -> list[tuple[str, str]]:
    """Name and text of each, as far as it was measured: top-1, top-5, flips, SQNR, kernels, own metrics and so on."""
    found = [
        _change("top-1", measurements, m.TOP1_FP32.key, m.TOP1_INT8.key, m.ACCURACY_DROP.key),
        _change("top-5", measurements, m.TOP5_FP32.key, m.TOP5_INT8.key, m.TOP5_DROP.key),
        *((metric.title.split()[-1], _plain(measurements, metric.key)) for metric in (m.FLIPS, m.SQNR)),
        ("kernels", kernels(measurements)),
        *((name, text) for name, text, _ in own_metrics(measurements)),
        ("calibrated", calibration(measurements)),
    ]
    return [(name, text) for name, text in found if text]


def own_metrics(measurements: Mapping[str, Measurement]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Title, text and the three keys of each metric that is none of the package's."""
    by_title = {found.metric.title: key for key, found in measurements.items() if key not in METRICS}
    for title in by_title:
        name = title.removesuffix(LOSS)
        keys = tuple(by_title.get(f"{name}{end}", "") for end in (" fp32", " int8", LOSS))
        if title.endswith(LOSS) and all(keys):
            yield (*_change(name, measurements, *keys), keys)


def calibration(measurements: Mapping[str, Measurement]) -> str:
    """`on 1024 images of 10 of 10 classes (by their labels)`; empty where it was not looked at."""
    found = measurements.get(m.CALIBRATION_CLASSES.key)
    if found is None:
        return ""
    said = found.details
    text = (
        f"on {said.get('calibration_images')} images of {said.get('calibration_classes')} of {said.get('classes')} "
        f"classes (by their {said.get('class_source')})"
    )
    return f"{text}, never on {said['unseen_classes']}" if "unseen_classes" in said else text


def limits_of(keys: tuple[str, ...], judgements: Mapping[str, Judgement]) -> str:
    """What those of the metrics that are limited are held to: ` (mIoU loss: limit 1 pp)`."""
    limits = [judgements[key].limit for key in keys if key in judgements]
    texts = [f"{limit.metric.title}: limit {limit.bound:g} {limit.metric.unit}".rstrip() for limit in limits if limit]
    return f" ({', '.join(texts)})" if texts else ""


def _change(
    name: str, measurements: Mapping[str, Measurement], fp32: str, int8: str, difference: str
) -> tuple[str, str]:
    before, after, change = (measurements.get(key) for key in (fp32, int8, difference))
    if before is None or after is None or change is None:
        return name, ""
    word = change.metric.title.split()[-1]
    was = f"{before.value:.{before.metric.digits}f}"
    return name, f"{was} -> {after.metric.format(after.value)}, {word} {describe(change)}"


def _plain(measurements: Mapping[str, Measurement], key: str) -> str:
    return describe(measurements[key]) if key in measurements else ""
