import pytest

from pytest_ptq import metrics as m
from pytest_ptq.judge.gates import judge
from pytest_ptq.metrics import Limit, Measurement
from pytest_ptq.store.record import QConfigRecord

LIMITS = {m.ACCURACY_DROP.key: 1.0, m.SIZE_REDUCTION.key: 3.5, m.LATENCY_RATIO.key: 0.6}
SOURCE = "baselines/resnet50.json:12"
RECORDED = {"date": "2026-01-31", "commit": "0123456789abcdef", "versions": "torch 2.15.0"}


def held(measurement, recorded=None):
    """`measurement` against its usual limit, and a record of that value."""
    metric = measurement.metric
    then = None if recorded is None else Measurement(metric, recorded, recorded, recorded, 500, RECORDED)
    return judge(measurement, Limit(metric, LIMITS[metric.key], SOURCE), then)


@pytest.fixture
def row():
    """A row like those of a real run; `drop` and `ratio` decide its verdict."""

    def make(qconfig="x86", drop=0.13, ratio=0.33, suite="resnet50", recorded=None, **more):
        measured = [
            Measurement(m.TOP1_FP32, 91.23),
            Measurement(m.TOP1_INT8, 91.23 - drop),
            Measurement(m.ACCURACY_DROP, drop, drop - 0.2, drop + 0.2, 10000, {"lost_images": 33, "mcnemar_p": 0.0125}),
            Measurement(m.FLIPS, 1.23),
            Measurement(m.SQNR, 28.34),
            Measurement(m.SIZE_FP32, 90 * 2**20),
            Measurement(m.SIZE_INT8, 22.5 * 2**20),
            Measurement(m.SIZE_REDUCTION, 4.0),
            Measurement(m.LATENCY_FP32, 19.512),
            Measurement(m.LATENCY_INT8, 6.42),
            Measurement(m.LATENCY_RATIO, ratio, ratio - 0.02, ratio + 0.02, 320),
        ]
        measurements = {x.metric.key: x for x in measured}
        then = recorded or {}
        judgements = {key: held(measurements[key], then.get(key)) for key in LIMITS}
        return QConfigRecord(suite, "embedded", qconfig, False, measurements, judgements, **more)

    return make
