"""Metrics of runs: the held-out loss and accuracies, with their units, words and tolerances."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rankviz.core.runs.record import RunRecord

TOLERANCE_NATS = 0.02
"""Default tolerance for the loss: smaller differences do not matter. About the standard deviation of a short run."""
NOISE_NOT_MEASURED = "This sweep has too few repeats to measure the noise of one run."
TOLERANCE_POINTS = 1.0
"""Default tolerance for accuracies, in points: two ranks are equal if the interval of their difference is within it."""
TWICE = 2.0
"""Growth of perplexity from which it is written as a factor; smaller growth is written in percent."""
MOST_EXPLAINED = 100.0
"""Difference in nats above which no perplexity is given: such a factor means nothing to a reader."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A measure of an adapter's quality on held-out examples: loss or an accuracy."""

    key: str
    """Name of the metric in URLs and files."""
    label: str
    title: str
    """Title of a chart's axis, with the unit and the better direction."""
    noun: str
    nouns: str
    superlative: str
    unit: str
    """Unit of a difference: "nat" or "point"."""
    digits: int
    """Decimal places of a difference in text."""
    tolerance: float
    higher_is_better: bool = False

    def of(self, measured: Any) -> float | None:
        """Return the metric in nats per token or percent; None where `measured`, a HeldOut or CurvePoint, lacks it."""
        value = getattr(measured, self.key, None)
        return 100 * value if value is not None and self.higher_is_better else value

    def turned(self, value: float) -> float:
        """Convert a value to one of which lower is better, or back: accuracies to percent of errors, losses as is."""
        return 100 - value if self.higher_is_better else value

    def text(self, value: float) -> str:
        """Format a value: four decimals for nats, one for percent."""
        return f"{value:.1f} %" if self.higher_is_better else f"{value:.4f}"

    def amount(self, difference: float, spec: str | None = None) -> str:
        """Format a difference with its unit: "0.011 nats", "1 point"."""
        number = format(difference, spec or f".{self.digits}f")
        return f"{number} {self.unit if number == '1' else self.units}"

    def explained(self, difference: float, spec: str | None = None) -> str:
        """Format a difference with its unit; for a loss also in perplexity: "0.02 nats (2 % in perplexity)"."""
        amount = self.amount(difference, spec)
        if self.higher_is_better or abs(difference) > MOST_EXPLAINED:
            return amount
        factor = math.exp(difference)
        return (
            f"{amount} ({f'{100 * (factor - 1):.2g} % in' if factor < TWICE else f'{factor:.2g} times the'} perplexity)"
        )

    @property
    def units(self) -> str:
        return f"{self.unit}s"


LOSS = Metric(
    key="loss",
    label="Held-out loss",
    title="held-out loss, nats per token (lower is better)",
    noun="loss",
    nouns="losses",
    superlative="lowest loss",
    unit="nat",
    digits=3,
    tolerance=TOLERANCE_NATS,
)


def _accuracy(key: str, label: str, nouns: str, *, of: str) -> Metric:
    return Metric(
        key=key,
        label=label,
        title=f"{of}, % (higher is better)",
        noun=label.lower(),
        nouns=nouns,
        superlative=f"highest {label.lower()}",
        unit="point",
        digits=1,
        tolerance=TOLERANCE_POINTS,
        higher_is_better=True,
    )


TOKEN_ACCURACY = _accuracy(
    "token_accuracy", "Token accuracy", "token accuracies", of="token accuracy on held-out tokens"
)
EXACT_MATCH = _accuracy("exact_match", "Exact match", "exact matches", of="exact match of greedy answers")
CORRECT = _accuracy("correct", "Accuracy", "accuracies", of="correct examples")
"""Metric of an uploaded table with a column `correct`; runs do not measure it."""
METRICS = {metric.key: metric for metric in (LOSS, TOKEN_ACCURACY, EXACT_MATCH)}


def measured_metrics(runs: Iterable[RunRecord]) -> tuple[Metric, ...]:
    """Return the metrics that at least one of the runs measured after training; the loss is always among them."""
    after = [run.loss_after for run in runs if run.loss_after]
    return tuple(m for m in METRICS.values() if m is LOSS or any(m.of(each) is not None for each in after))
