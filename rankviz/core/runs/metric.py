"""What runs are compared by: held-out loss, token accuracy, exact match.

Everything that compares works with values of which lower is better. An accuracy is turned into errors here, 100 % minus
the accuracy, and back into an accuracy where it is read; a difference of 1 % in an accuracy is called a point.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.tradeoff import TOLERANCE_NATS

TOLERANCE_POINTS = 1.0
"""Differences of an accuracy surely smaller than this don't matter, unless another tolerance is chosen."""
TWICE = 2.0
"""A perplexity that grows by this factor or more is said as a factor, one that grows by less in percent."""
MOST_EXPLAINED = 100.0
"""Nats, beyond which a perplexity means nothing to anybody."""


class Measured(Protocol):
    """Held-out examples under an adapter, or a point of a fast curve."""

    loss: float

    @property
    def token_accuracy(self) -> float | None: ...

    @property
    def exact_match(self) -> float | None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One way to say how good an adapter is."""

    key: str
    """Of the choice, in addresses and files."""
    label: str
    title: str
    """Of an axis, with its unit and which way is better."""
    noun: str
    nouns: str
    superlative: str
    unit: str
    """Of a difference: "nat" or "point"."""
    digits: int
    """After the decimal point of a difference."""
    tolerance: float
    """What counts as equal unless something else is given."""
    higher_is_better: bool = False

    def of(self, measured: Measured | None) -> float | None:
        """Nats a token, or percent; None where it was not measured."""
        value = getattr(measured, self.key, None)
        return 100 * value if value is not None and self.higher_is_better else value

    def turned(self, value: float) -> float:
        """An accuracy in percent as errors in percent and back; a loss as it is."""
        return 100 - value if self.higher_is_better else value

    def text(self, value: float) -> str:
        """As it is read: nats, or percent."""
        return f"{value:.1f} %" if self.higher_is_better else f"{value:.4f}"

    def amount(self, difference: float, spec: str | None = None) -> str:
        """A difference with its unit: "0.011 nats", "1 point"."""
        number = format(difference, spec or f".{self.digits}f")
        return f"{number} {self.unit if number == '1' else self.units}"

    def explained(self, difference: float, spec: str | None = None) -> str:
        """The same, with what nats are in perplexity, the exponential of the loss: "0.02 nats (2 % in perplexity)"."""
        amount = self.amount(difference, spec)
        if self.higher_is_better or abs(difference) > MOST_EXPLAINED:
            return amount
        factor = math.exp(difference)
        change = f"{100 * (factor - 1):.2g} % in" if factor < TWICE else f"{factor:.2g} times the"
        return f"{amount} ({change} perplexity)"

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


def _accuracy(key: str, label: str, noun: str, nouns: str, *, of: str) -> Metric:
    return Metric(
        key=key,
        label=label,
        title=f"{of}, % (higher is better)",
        noun=noun,
        nouns=nouns,
        superlative=f"highest {noun}",
        unit="point",
        digits=1,
        tolerance=TOLERANCE_POINTS,
        higher_is_better=True,
    )


TOKEN_ACCURACY = _accuracy(
    "token_accuracy", "Token accuracy", "token accuracy", "token accuracies", of="token accuracy on held-out tokens"
)
EXACT_MATCH = _accuracy(
    "exact_match", "Exact match", "exact match", "exact matches", of="exact match of greedy answers"
)
CORRECT = _accuracy("correct", "Accuracy", "accuracy", "accuracies", of="correct examples")
"""Of a table with a column `correct`; no run measures it."""
METRICS = {metric.key: metric for metric in (LOSS, TOKEN_ACCURACY, EXACT_MATCH)}


def measured_metrics(runs: Iterable[RunRecord]) -> tuple[Metric, ...]:
    """Those that some run has after training; the loss always."""
    after = [run.loss_after for run in runs if run.loss_after]
    return tuple(m for m in METRICS.values() if m is LOSS or any(m.of(each) is not None for each in after))
