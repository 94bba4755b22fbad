"""Metrics and what is said about them: a number never travels without its unit and direction."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_ptq.errors import MeasurementError


class Direction(enum.Enum):
    LOWER_IS_BETTER = "lower"
    HIGHER_IS_BETTER = "higher"


class Verdict(enum.Enum):
    PASS = "pass"
    FAIL = "FAIL"
    INCONCLUSIVE = "inconclusive"
    NO_BASELINE = "no baseline"
    XFAIL = "xfail"
    """Fails, as somebody wrote down that it would."""


@dataclass(frozen=True)
class Metric:
    """What is measured. `key` carries the unit, so that a bare file can be read without this table."""

    key: str
    title: str
    unit: str
    direction: Direction
    digits: int = 2

    def format(self, value: float) -> str:
        return f"{value:.{self.digits}f} {self.unit}".rstrip()

    def worse(self, value: float, bound: float) -> bool:
        """True when `value` lies on the wrong side of `bound`. NaN is always worse: nothing fails open."""
        if math.isnan(value) or math.isnan(bound):
            return True
        return value > bound if self.direction is Direction.LOWER_IS_BETTER else value < bound


_LOWER, _HIGHER = Direction.LOWER_IS_BETTER, Direction.HIGHER_IS_BETTER

TOP1_FP32 = Metric("top1_fp32_percent", "top-1 fp32", "%", _HIGHER)
TOP1_INT8 = Metric("top1_int8_percent", "top-1 int8", "%", _HIGHER)
ACCURACY_DROP = Metric("accuracy_drop_pp", "accuracy drop", "pp", _LOWER)
TOP5_FP32 = Metric("top5_fp32_percent", "top-5 fp32", "%", _HIGHER)
TOP5_INT8 = Metric("top5_int8_percent", "top-5 int8", "%", _HIGHER)
TOP5_DROP = Metric("top5_drop_pp", "top-5 drop", "pp", _LOWER)
CALIBRATION_CLASSES = Metric("calibration_classes_percent", "classes seen in calibration", "%", _HIGHER)
FLIPS = Metric("flips_percent", "flips", "%", _LOWER)
SQNR = Metric("sqnr_db", "logit SQNR", "dB", _HIGHER, 1)
SIZE_FP32 = Metric("size_fp32_bytes", "size fp32", "B", _LOWER, 0)
SIZE_INT8 = Metric("size_int8_bytes", "size int8", "B", _LOWER, 0)
SIZE_REDUCTION = Metric("size_reduction_x", "size reduction", "x", _HIGHER)
LATENCY_EAGER = Metric("latency_eager_ms", "latency fp32 eager", "ms", _LOWER, 3)
LATENCY_FP32 = Metric("latency_fp32_ms", "latency fp32", "ms", _LOWER, 3)
LATENCY_INT8 = Metric("latency_int8_ms", "latency int8", "ms", _LOWER, 3)
LATENCY_RATIO = Metric("latency_ratio", "int8/fp32 latency", "", _LOWER, 3)
INT8_MACS = Metric("int8_macs_percent", "multiply-accumulates in int8", "%", _HIGHER)
INT8_KERNELS = Metric("int8_kernels_count", "convolutions and products in int8 kernels", "", _HIGHER, 0)
INT8_SHARE = Metric("int8_kernels_percent", "convolutions and products in int8", "%", _HIGHER)
AGREEMENT_FLIPS = Metric("agreement_flips_percent", "flips against torch", "%", _LOWER, 3)
AGREEMENT_STEPS = Metric("agreement_steps", "largest difference from torch", "steps", _LOWER)
QDQ_PAIRS = Metric("qdq_pairs_count", "quantize/dequantize pairs between int8 neighbours", "", _LOWER, 0)

METRICS: Mapping[str, Metric] = {
    m.key: m
    for m in (
        TOP1_FP32, TOP1_INT8, ACCURACY_DROP, TOP5_FP32, TOP5_INT8, TOP5_DROP, FLIPS, SQNR, CALIBRATION_CLASSES,
        SIZE_FP32, SIZE_INT8, SIZE_REDUCTION,
        LATENCY_EAGER, LATENCY_FP32, LATENCY_INT8, LATENCY_RATIO, INT8_MACS, QDQ_PAIRS,
        INT8_KERNELS, INT8_SHARE,
        AGREEMENT_FLIPS, AGREEMENT_STEPS,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """A measured value of a metric, with its 95 % interval and sample count where it has them.

    `details` holds what belongs to the value and nowhere else: p-values, resolvable drop, load, drift.
    """

    metric: Metric
    value: float
    low: float | None = None
    high: float | None = None
    samples: int | None = None
    details: Mapping[str, float | int | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise MeasurementError(f"{self.metric.title} is {self.value}", remedy="A gate never judges such a value.")


PROCESSES = "processes"
STANDARD_ERROR = "log_standard_error"
LOOKS = "looks"
NOISE_FLOOR = "noise_floor_percent"
PROBE = "probe_us"
EXCHANGE = "exchange_us"
"""How fast the machine ran while a latency was measured: how long a fixed piece of plain Python took, and how long
data take from one core to another."""
TIMED_BY = {"int8": "int8_kernels", "fp32": "fp32_kernels"}
TIMED_NOT_NATIVE = {"int8": "int8_not_native", "fp32": "fp32_not_native"}
"""Beside a latency: with which kernels, and called how, each of the two models was timed: `native program`; and why
that was no program of compiled kernels, missing where it was one."""
KERNELS = "kernels"
"""Beside SQNR: with which kernels, and called how, the int8 model was judged: `native program`. In another runtime,
and there beside coverage too: what that counts in its own graph."""
NOT_NATIVE = "not_native"
"""Beside SQNR: why the int8 model was no program of compiled kernels, a clause; missing where it was one."""
NOT_INT8 = "not_int8"
"""Beside coverage: layers that are quantized and that the runtime computes in float none the less."""
UNFIT = "unfit"
MOVED = "moved_log"
"""Keys of a latency's details that a judge reads: fresh processes, standard error of the mean log ratio, looks taken
at the data, how far fp32 may differ from itself, why nothing can be judged by it, and by how much the log ratio surely
moved while it was measured."""


@dataclass(frozen=True)
class Limit:
    """A bound that a metric has to keep, and where it was written (`baselines/resnet50.json:12`, `marker`, ...)."""

    metric: Metric
    bound: float
    source: str


@dataclass(frozen=True)
class Judgement:
    """One gate's answer: verdict, what was measured, what it was held against, and why in one sentence."""

    verdict: Verdict
    measurement: Measurement
    limit: Limit | None
    reason: str
    recorded: Measurement | None = None
    """What the baseline recorded on a machine of the same key; None when drift was not judged."""


@dataclass(frozen=True)
class LayerError:
    """One int8 layer held against the float model. A figure that does not apply, or is not finite, is None.

    Args:
        name: its path in the user's model.
        kind: its operation.
        sqnr_db: SQNR of its output in the int8 model, so with all that was lost before it.
        gain_db: what the model's output gains when it stays in fp32.
        weight_db: SQNR of its weights, every output channel counting alike.
        input_db: SQNR of its inputs as they are stored, the worst of several.
        alone_db: SQNR of its output when everything before it is exact.
        pairs: sums of two neighbouring products, as a CPU without VNNI would take them.
        overflowing_pairs: of these, how many do not fit into int16.
        possible_pairs: of these, how many might not, by the range of what it reads.
        channels, dead_channels: of its output, and how many of them always say the same.
        clipped_percent: share of its output that lies beyond the range in which it is stored.
        scale, zero_point: how its output is stored.
    """

    name: str
    kind: str
    sqnr_db: float | None = None
    gain_db: float | None = None
    weight_db: float | None = None
    input_db: float | None = None
    alone_db: float | None = None
    pairs: int | None = None
    overflowing_pairs: int | None = None
    possible_pairs: int | None = None
    channels: int | None = None
    dead_channels: int | None = None
    clipped_percent: float | None = None
    scale: float | None = None
    zero_point: int | None = None

    def __post_init__(self) -> None:
        for key in ("sqnr_db", "gain_db", "weight_db", "input_db", "alone_db", "clipped_percent", "scale"):
            value = getattr(self, key)
            if value is not None and not math.isfinite(value):
                object.__setattr__(self, key, None)

    def rank(self) -> float:
        """Where it stands among the worst: dB alone where that is known, else so far; last without either."""
        known = (self.alone_db, self.sqnr_db)
        return next((value for value in known if value is not None), math.inf)


@dataclass(frozen=True)
class LayerTime:
    """One layer of an int8 model, timed by itself.

    Args:
        name: its path in the model.
        kernel: the operators that it calls, or the steps that it is in a program of compiled kernels, in order; empty
            for what computes nothing.
        shape: of its output.
        ms: median of its times.
        macs: its multiply-accumulates.
    """

    name: str
    kernel: str
    shape: tuple[int, ...]
    ms: float
    macs: int

    @property
    def gmacs_per_s(self) -> float | None:
        """Billions of multiply-accumulates a second; None for a layer without any."""
        return self.macs / (1e6 * self.ms) if self.macs and self.ms > 0 else None


@dataclass(frozen=True)
class Profile:
    """Where the time of one int8 model goes, in the order of its graph.

    A layer of a program of compiled kernels is the sum of its steps; one that moves nothing has none, and is left out.

    Args:
        suite, qconfig: whose model it is.
        shape: of the input.
        threads: it was timed with.
        repeats: medians are taken of.
        layers: each timed by itself.
        whole_ms: median of the model run as a whole, in between, in the form that is timed.
        walk_ms: median of a pass that times layer by layer.
        limit_gmacs_per_s: the most that was reached on this machine in the same run, with as many threads.
        limit_layer: by what: instructions on registers, or else a large int8 layer.
        limit_kernel: and by which kernel.
        form: `program`, the deployed form, timed step by step; or `graph`, called layer by layer from Python.
        not_native: why the deployed form is no program of compiled kernels; empty where it is.
    """

    suite: str
    qconfig: str
    shape: tuple[int, ...]
    threads: int
    repeats: int
    layers: tuple[LayerTime, ...]
    whole_ms: float
    walk_ms: float
    limit_gmacs_per_s: float
    limit_layer: str
    limit_kernel: str
    form: str
    not_native: str


@dataclass(frozen=True)
class Parting:
    """Where two runtimes part: the first layer in graph order that makes something else of the same inputs.

    Args:
        parts_at: its path; `NOWHERE` where none does.
        kind: its operation.
        values: how many of its integers differ by more than one step.
        of_values: how many it has.
        most_steps: by how many they differ at most.
        layers: how many layers were held against each other, up to and with this one.
        rounded_percent: the largest share of integers of any layer before it that differ by one step.
        rounded_at: that layer; empty where all integers are the same.
        images: how many they were looked at on.
    """

    parts_at: str
    kind: str
    values: int
    of_values: int
    most_steps: int
    layers: int
    rounded_percent: float
    rounded_at: str
    images: int

    def details(self) -> dict[str, float | int | str]:
        """As what stands beside a measurement."""
        return {f"{PARTING}{key}": value for key, value in vars(self).items()}

    @classmethod
    def of(cls, measurement: Measurement) -> Parting | None:
        """The one that stands beside a measurement; None without."""
        found = {k.removeprefix(PARTING): v for k, v in measurement.details.items() if k.startswith(PARTING)}
        return cls(**found) if found else None  # type: ignore[arg-type]  # as `details` wrote them

    def __str__(self) -> str:
        held = f"{self.layers} layers held against torch, each on the same inputs, {self.images} images"
        where = f" ({self.rounded_at})" if self.rounded_at else ""
        rounded = f"{self.rounded_percent:.3g} % of a layer's integers differ by one step{where}"
        if self.parts_at == NOWHERE:
            return f"{NOWHERE}: at most {rounded}; {held}"
        most = f"{self.values} of {self.of_values} integers differ by up to {self.most_steps} steps"
        return f"at {self.parts_at} ({self.kind}): {most}; before it at most {rounded}; {held}"


PARTING = "parting_"
"""What the keys of a parting begin with, among the details of a measurement."""
NOWHERE = "nowhere"


def parts_per_million(part: int | None, whole: int | None) -> str:
    """Parts in a million; what is nearly nothing is told from nothing."""
    if part is None or not whole:
        return "-"
    if not part:
        return "0"
    ppm = 1e6 * part / whole
    return f"{ppm:.0f} ppm" if ppm >= 10 else f"{ppm:.2g} ppm"
