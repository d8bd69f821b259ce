"""Metrics of runs, and quality against cost in a sweep: the ranks that no other rank beats on both."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from rankviz.core.runs.record import RunRecord

TOLERANCE_NATS = 0.02
"""Differences surely smaller than this don't matter, unless another tolerance is chosen: about the standard deviation
of one short run."""
NOISE_NOT_MEASURED = "This sweep has too few repeats to measure the noise of one run."
"""Sentence before an assumed noise."""


class TradeoffPoint(NamedTuple):
    """One run. cost: bytes, parameters, seconds or dollars, whatever the chart's x axis shows."""

    r: int
    cost: float
    loss: float
    learning_rate: float = 0.0
    seed: int = 0
    run_id: str = ""


class RankGroup(NamedTuple):
    """One rank at the learning rate that served it best, over its seeds."""

    r: int
    cost: float
    """Mean over the runs."""
    loss: float
    """Mean over the runs."""
    spread: float | None
    """Standard deviation over the runs; None of one run: not known, not zero."""
    points: tuple[TradeoffPoint, ...]
    learning_rate: float
    learning_rates_tried: int

    @property
    def runs(self) -> int:
        return len(self.points)


HasCostAndLoss = TypeVar("HasCostAndLoss", TradeoffPoint, RankGroup)


def pareto_front(points: Iterable[HasCostAndLoss]) -> tuple[HasCostAndLoss, ...]:
    """Points that no other beats on both cost and loss, cheapest first. Of equal points the first stays."""
    front: list[HasCostAndLoss] = []
    for point in sorted(points, key=lambda p: (p.cost, p.loss)):
        if math.isfinite(point.loss) and (not front or point.loss < front[-1].loss):
            front.append(point)
    return tuple(front)


def by_rank(points: Iterable[TradeoffPoint], rates: Mapping[int, float | None]) -> tuple[RankGroup, ...]:
    """One group a rank, smallest rank first.

    Where several learning rates were tried, rates says which stands for a rank: the verdict's choice, so that the
    chart shows what the verdict judges. Runs that diverged (a loss that isn't finite) are left out.
    """
    cells: dict[int, dict[float, list[TradeoffPoint]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        if math.isfinite(point.loss):
            cells[point.r][point.learning_rate].append(point)
    return tuple(
        RankGroup(
            r=r,
            cost=statistics.fmean(p.cost for p in runs),
            loss=statistics.fmean(p.loss for p in runs),
            spread=statistics.stdev(p.loss for p in runs) if len(runs) > 1 else None,
            points=tuple(runs),
            learning_rate=rates[r],
            learning_rates_tried=len(tried),
        )
        for r, tried in sorted(cells.items())
        if (runs := tried.get(rates.get(r, math.nan)))
    )


def learning_rate_note(groups: Sequence[RankGroup]) -> str:
    """Say whether the learning rate was tuned: it moves loss more than rank does."""
    tried = [group.learning_rates_tried for group in groups]
    if not groups or min(tried) > 1:
        return f"Learning rate tuned at each rank: best of {min(tried)}." if groups else ""
    if max(tried) > 1:
        return "Learning rate tuned at some ranks only: those at one rate may look worse than they are."
    rates = ", ".join(f"{rate:g}" for rate in sorted({group.learning_rate for group in groups}))
    return f"Learning rate not tuned ({rates}): it may suit some ranks better than others."


TOLERANCE_POINTS = 1.0
"""Differences of an accuracy surely smaller than this don't matter, unless another tolerance is chosen."""
TWICE = 2.0
"""A perplexity that grows by this factor or more is said as a factor, one that grows by less in percent."""
MOST_EXPLAINED = 100.0
"""Nats, beyond which a perplexity means nothing to anybody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One way to say how good an adapter is."""

    key: str
    """Name of the metric in addresses and files."""
    label: str
    title: str
    """Title of an axis, with its unit and which way is better."""
    noun: str
    nouns: str
    superlative: str
    unit: str
    """Unit of a difference: "nat" or "point"."""
    digits: int
    """After the decimal point of a difference."""
    tolerance: float
    """Default difference that counts as equal."""
    higher_is_better: bool = False

    def of(self, measured: Any) -> float | None:
        """Nats a token, or percent, of held-out examples or a point of a fast curve; None where it was not measured."""
        value = getattr(measured, self.key, None)
        return 100 * value if value is not None and self.higher_is_better else value

    def turned(self, value: float) -> float:
        """An accuracy in percent as errors in percent and back; a loss as it is."""
        return 100 - value if self.higher_is_better else value

    def text(self, value: float) -> str:
        """A value as it is shown: nats, or percent."""
        return f"{value:.1f} %" if self.higher_is_better else f"{value:.4f}"

    def amount(self, difference: float, spec: str | None = None) -> str:
        """A difference with its unit: "0.011 nats", "1 point"."""
        number = format(difference, spec or f".{self.digits}f")
        return f"{number} {self.unit if number == '1' else self.units}"

    def explained(self, difference: float, spec: str | None = None) -> str:
        """A difference with its unit and what nats are in perplexity, the exponential of the loss: "0.02 nats (2 % in
        perplexity)"."""
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
"""Metric of a table with a column `correct`; no run measures it."""
METRICS = {metric.key: metric for metric in (LOSS, TOKEN_ACCURACY, EXACT_MATCH)}


def measured_metrics(runs: Iterable[RunRecord]) -> tuple[Metric, ...]:
    """Return the metrics that some run has after training; the loss always."""
    after = [run.loss_after for run in runs if run.loss_after]
    return tuple(m for m in METRICS.values() if m is LOSS or any(m.of(each) is not None for each in after))
