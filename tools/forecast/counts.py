"""Counts over the published points, for section "counts" of assets/forecast.json. Without a study the counts change."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rankviz.catalog.studies import FOLDER, RATES_FILE, read_table
from rankviz.core.advice.advice import FIRST_RANK
from rankviz.core.studies.lines import (
    FACETS,
    RL,
    Alpha,
    Evidence,
    Line,
    RateByRank,
    RatesTuned,
    drawn_lines,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BestRate:
    """The best of the learning rates that a sweep tried at one rank."""

    study_id: str
    base_model: str
    task: str
    method: str
    rank: int
    alpha: Alpha
    """How alpha goes with the rank: one alpha for all, alpha = r, or not stated."""
    best_learning_rate: float
    learning_rates: str
    """Those tried, as the study gives them."""
    value: str
    """What the best one reached."""
    source: str
    notes: str
    checked: str


def read_learning_rates(assets: Path) -> list[BestRate]:
    """Return the rows of learning_rates.csv. Most are of studies in points.csv; the others have no quality by rank."""
    return read_table(BestRate, assets / FOLDER / RATES_FILE)


def counts(evidence: Evidence, rates: Sequence[BestRate]) -> dict[str, Any]:
    """Return all counts as JSON; None where no line has them."""
    targets = targets_against_rank(evidence.published)
    drawn = [x for x in drawn_lines(evidence, ("lora",), FACETS) if not x.study.own and x.study.task_kind != RL]
    tuned = rates_tuned(drawn, FIRST_RANK)
    return {
        "targets_against_rank": targets,
        "rates_tuned": tuned and asdict(tuned),
        "rate_by_rank": [each._asdict() for each in rate_by_rank(rates)],
    }


def targets_against_rank(lines: Sequence[Line]) -> dict[str, int] | None:
    """How often wider targets gained more than a higher rank on narrow ones.

    Narrow and wide lines share study, base, task, metric, method and length, and their ranks from the smallest to the
    largest of the narrow one. Compared: the wide line at the smallest rank with the narrow line at its best.
    """
    by_task: dict[tuple, list[Line]] = {}
    for line in lines:
        first = line.first
        if first.role == "main" and first.method == "lora":
            key = (first.study_id, first.base_model, first.task, first.metric, first.duration, first.run_date)
            by_task.setdefault(key, []).append(line)
    compared = []
    for group in by_task.values():
        narrow, wide = min(group, key=_width), max(group, key=_width)
        common = set(narrow.ranks) & set(wide.ranks)
        if common and len(narrow.points) > 1 and _width(wide) > _width(narrow):
            start = next(point for point in wide.points if point.rank == min(common))
            compared.append(narrow.short_of_best(start.value) < 0)
    return {"more_by_targets": sum(compared), "comparisons": len(compared)} if compared else None


def _width(line: Line) -> float:
    """Count the kinds of modules that are named; "all …" is more than any list."""
    targets = line.first.target_modules
    return math.inf if targets.startswith("all") else len(targets.split(","))


def rates_tuned(lines: Sequence[Line], r: int) -> RatesTuned | None:
    """The best learning rates of tuned lines at the rank nearest to r (by ratio; of two the smaller).

    Only ranks that many models ran: at least half as many as ran the most frequent rank.
    """
    points = [
        point
        for line in lines
        if line.study.learning_rate_tuned_per_rank and line.first.method == "lora" and line.first.role == "main"
        for point in line.points
        if point.learning_rate is not None
    ]
    if not points:
        return None
    models = Counter(rank for rank, _ in {(point.rank, point.base_model) for point in points})
    often = [rank for rank, count in models.items() if 2 * count >= max(models.values())]
    near = min(often, key=lambda rank: (max(rank / r, r / rank), rank))
    rates = [point.learning_rate for point in points if point.rank == near]
    return RatesTuned((near,), min(rates), max(rates), models[near])


def rate_by_rank(rates: Iterable[BestRate]) -> tuple[RateByRank, ...]:
    """One count per policy of alpha, those with most sweeps first; sweeps of one rank say nothing."""
    sweeps: dict[tuple, list[BestRate]] = {}
    for each in rates:
        sweeps.setdefault((each.study_id, each.base_model, each.task, each.method, each.alpha), []).append(each)
    times: dict[Alpha, list[float]] = {}
    for sweep in sweeps.values():
        lowest, highest = min(sweep, key=lambda each: each.rank), max(sweep, key=lambda each: each.rank)
        if lowest.rank < highest.rank:
            times.setdefault(lowest.alpha, []).append(highest.best_learning_rate / lowest.best_learning_rate)
    counts = [RateByRank(alpha, len(x), statistics.median(x), min(x), max(x)) for alpha, x in times.items()]
    return tuple(sorted(counts, key=lambda count: -count.sweeps))
