"""Real predictions of a suite's int8 model, some of them made wrong on purpose: what the accuracy gate says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

from benchmarks.gates_pool import SUITE
from pytest_ptq.judge.gates import judge
from pytest_ptq.measure.accuracy import collect_logits, compare
from pytest_ptq.metrics import ACCURACY_DROP, Limit, Verdict
from pytest_ptq.qconfig import X86
from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import load_suite, packaged_suites

if TYPE_CHECKING:
    from torch import Tensor

LOST_PP = (0.0, 0.25, 0.5, 1.0, 2.0)
IMAGES = (1000, 10_000)
REPEATS = 100
LIMIT_PP = 0.5


def table() -> str:
    """One row a loss and a number of images: how often the gate fails, and how often McNemar's test sees it."""
    import torch

    run = SuiteRun(load_suite(SUITE, [packaged_suites()]))
    fp32, labels = collect_logits(run.fp32, run.dataset.evaluation())
    int8, _ = collect_logits(run.quantized(X86), run.dataset.evaluation())
    limit = Limit(ACCURACY_DROP, LIMIT_PP, "")
    generator = torch.Generator().manual_seed(0)
    rows = []
    for count in IMAGES:
        for lost in LOST_PP:
            failed = seen = 0
            resolvable = 0.0
            for _ in range(REPEATS):
                chosen = torch.randperm(len(labels), generator=generator)[:count]
                spoilt = spoil(int8[chosen], labels[chosen], lost, generator)
                drop = compare(fp32[chosen], spoilt, labels[chosen])[ACCURACY_DROP.key]
                failed += judge(drop, limit).verdict is Verdict.FAIL
                seen += float(drop.details["mcnemar_p"]) < 0.05 and drop.value > 0
                resolvable += float(drop.details["resolvable_drop_pp"]) / REPEATS
            rows.append(
                [
                    count,
                    f"{lost:g}",
                    f"{100 * failed / REPEATS:.0f} %",
                    f"{100 * seen / REPEATS:.0f} %",
                    f"{resolvable:.2f}",
                ]
            )
    heads = [
        "images",
        "pp lost on purpose",
        f"fails a limit of {LIMIT_PP:g} pp",
        "McNemar p < 0.05",
        "resolvable drop pp",
    ]
    return tabulate(rows, heads, "github")


def spoil(logits: Tensor, labels: Tensor, lost_pp: float, generator: object) -> Tensor:
    """Logits with `lost_pp` percent of the images no longer right: their best class and their worst change places."""
    import torch

    right = (logits.argmax(1) == labels).nonzero().flatten()
    count = round(len(labels) * lost_pp / 100)
    chosen = right[torch.randperm(len(right), generator=generator)[:count]]  # type: ignore[call-overload]
    found = logits.clone()
    best, worst = logits[chosen].argmax(1), logits[chosen].argmin(1)
    found[chosen, best], found[chosen, worst] = logits[chosen, worst], logits[chosen, best]
    return found
