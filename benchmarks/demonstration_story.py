"""Sixty commits of a made-up team, each with what it changes of how the team's model is quantized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

APP, KIOSK = "app", "kiosk"
PLANTED = "Simplify app: one scale for each weight"
"""Costs 11 dB and 0.9 points, and passes: its author recorded the baseline anew, and the limit is one point."""
TOO_LARGE = "Keep the last block of kiosk in fp32"
"""Breaks the limit on size, and is taken back three commits later."""


@dataclass(frozen=True)
class State:
    """What the suite says: calibration images in all and in a batch, and the fields of both qconfigs.

    Latency is timed on every `timed_every`th commit.
    """

    calibration: int = 256
    batch_size: int = 64
    timed_every: int = 1
    qconfigs: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {APP: {}, KIOSK: {"activation_observer": "minmax"}}
    )

    def merged(self, qconfig: str, fields: Mapping[str, Any]) -> State:
        """With other fields of one qconfig; None takes one out."""
        both = {**self.qconfigs[qconfig], **fields}
        kept = {name: value for name, value in both.items() if value is not None}
        return replace(self, qconfigs={**self.qconfigs, qconfig: kept})

    def kernels(self, qconfig: str) -> tuple[object, ...]:
        """What its speed may depend on: which layers are in int8 and how many scales they have, and no range."""
        fields = self.qconfigs[qconfig]
        return fields.get("fp32_layers"), fields.get("weight_granularity")


@dataclass(frozen=True)
class Commit:
    """One commit.

    Args:
        subject: its message.
        calibration, batch_size, timed_every: new numbers.
        app, kiosk: new fields of a qconfig; None takes one out.
        records: whether its author recorded accuracy, size and coverage as the new baseline.
        note: a line of the README; of commits that change nothing else.
    """

    subject: str
    calibration: int | None = None
    batch_size: int | None = None
    timed_every: int | None = None
    app: Mapping[str, Any] = field(default_factory=dict)
    kiosk: Mapping[str, Any] = field(default_factory=dict)
    records: bool = False
    note: str = ""

    def applied(self, state: State) -> State:
        numbers = {name: getattr(self, name) for name in ("calibration", "batch_size", "timed_every")}
        changed = replace(state, **{name: number for name, number in numbers.items() if number is not None})
        return changed.merged(APP, self.app).merged(KIOSK, self.kiosk)


def _calibrate(images: int) -> Commit:
    return Commit(f"Calibrate on {images} images", calibration=images)


def _docs(subject: str, note: str) -> Commit:
    return Commit(subject, note=note)


def _range(observer: str, percentile: float | None = None) -> dict[str, Any]:
    return {"activation_observer": observer, "percentile": percentile}


FIRST = ("features.0.0",)
LAST = ("features.18",)

COMMITS: tuple[Commit, ...] = (
    Commit("Gate the garment model on accuracy, size and speed", records=True),
    _docs("Say how to run the gates", "Run `pytest`."),
    _calibrate(320),
    _docs("Name who looks after the suite", "The model team looks after the suite."),
    Commit("Let kiosk clip what one value in 100,000 needs", kiosk=_range("percentile", 99.999)),
    _docs("Mend a link", "Models are built by the training pipeline."),
    _calibrate(384),
    Commit("Time models on every fourth commit only", timed_every=4),
    Commit("Let kiosk clip what one value in 10,000 needs", kiosk=_range("percentile", 99.99)),
    _calibrate(448),
    _docs("List the garments", "Ten kinds of garments, from shirts to boots."),
    Commit("Try ranges of least squared error in app", app=_range("mse")),
    _docs("Describe the kiosk", "A kiosk has two cores and no screen saver."),
    Commit("Take app's histograms back", app=_range("histogram")),
    Commit("Calibrate in batches of 32", batch_size=32),
    _docs("Say where images come from", "Images come from the catalogue."),
    Commit("Correct the biases of kiosk", kiosk={"bias_correction": True}),
    _calibrate(512),
    _docs("Spell garment alike everywhere", "It is a garment, never an article."),
    Commit("Keep app's first layer in fp32", app={"fp32_layers": FIRST}, records=True),
    _docs("Note what fp32 costs", "A layer in fp32 costs time and bytes."),
    Commit("Choose kiosk's ranges by entropy", kiosk=_range("entropy")),
    _docs("Write down the meeting of March", "March: no new garments before summer."),
    Commit("Give app an int8 first layer again", app={"fp32_layers": None}, records=True),
    _calibrate(384),
    _docs("Thank the photographers", "Thanks to the studio for its photographs."),
    Commit("Leave the biases of kiosk as they are", kiosk={"bias_correction": None}),
    _docs("Shorten the README", "More is in the handbook."),
    _calibrate(512),
    _docs("Say what a kiosk run costs", "A run takes half a minute."),
    Commit(PLANTED, app={"weight_granularity": "per_tensor"}, records=True),
    _docs("Describe the exporter", "The exporter writes one scale for each weight of app."),
    _calibrate(640),
    _docs("Mend a typo", "The handbook is kept with the exporter."),
    Commit("Back to batches of 64", batch_size=64),
    _calibrate(576),
    _docs("Add a picture of the shop", "The shop has three kiosks."),
    Commit("Take the extremes as kiosk's ranges", kiosk=_range("minmax")),
    _docs("Say who answers in summer", "In summer, ask the duty desk."),
    _calibrate(512),
    _docs("Sort the list of garments", "Garments are sorted by how often they are sold."),
    Commit("Let kiosk clip weights where that helps", kiosk={"weight_observer": "mse"}),
    _docs("Explain flips", "A flip: int8 gives another answer than fp32."),
    Commit("Take kiosk's weights whole again", kiosk={"weight_observer": None}),
    _calibrate(640),
    Commit(TOO_LARGE, kiosk={"fp32_layers": LAST}),
    _docs("Describe what a release needs", "A release needs green gates."),
    _docs("Ask for reviews", "Two reviews before a merge."),
    Commit("Give kiosk an int8 last block again", kiosk={"fp32_layers": None}),
    _calibrate(576),
    _docs("Say what SQNR is", "SQNR: how far the answers are above their noise, in dB."),
    Commit("Take the extremes as app's ranges", app=_range("minmax")),
    _docs("Tidy the headings", "Headings are in sentence case."),
    _calibrate(704),
    Commit("Histograms for app after all", app=_range("histogram")),
    _docs("Note the licence of the images", "Images stay in the house."),
    _calibrate(640),
    _docs("Say when the next release is", "The next release is in May."),
    Commit("Let kiosk average its batches", kiosk=_range("moving_average")),
    _docs("Ask why app has become worse", "Shops say that app mistakes coats more often: since when?"),
)


def states() -> Iterator[tuple[Commit, State]]:
    """Every commit with what the suite says after it."""
    state = State()
    for commit in COMMITS:
        state = commit.applied(state)
        yield commit, state


def position(subject: str) -> int:
    """Of a commit, from 0."""
    return next(i for i, commit in enumerate(COMMITS) if commit.subject == subject)
