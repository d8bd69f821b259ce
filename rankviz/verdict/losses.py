"""Held-out losses or errors by example and run, from a sweep or a CSV file, and the choice of runs to compare."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from statistics import fmean

import numpy as np

from rankviz.core.bounds import UNPRINTABLE
from rankviz.core.runs.events import Evaluated
from rankviz.core.runs.metric import CORRECT, EXACT_MATCH, LOSS, TOKEN_ACCURACY, Metric
from rankviz.core.runs.record import RunRecord
from rankviz.errors import BadDataError
from rankviz.units import counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run of a sweep or of a file."""

    r: int
    seed: str
    learning_rate: float | None = None

    @property
    def name(self) -> str:
        rate = "" if self.learning_rate is None else f" at learning rate {self.learning_rate:g}"
        return f"r = {self.r}, seed {self.seed}{rate}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLosses(Run):
    """One run with its held-out losses in nats per token, or its errors in points."""

    losses: np.ndarray
    examples: np.ndarray
    """Numbers of the examples, ascending; one example has one number in all runs."""

    @property
    def diverged(self) -> bool:
        return not np.isfinite(self.losses).all()


def losses_of(runs: Iterable[RunRecord], metric: Metric = LOSS) -> tuple[RunLosses, ...]:
    """Return the losses (or errors) of the runs that measured the metric after training. Where runs have no values of
    single examples, or different numbers of them, each whole run counts as one example."""
    runs = [run for run in runs if run.loss_after and _is_measured(run.loss_after, metric)]
    by_tokens = all(run.loss_after.example_tokens for run in runs)  # other losses are not comparable
    values = [_by_example(run.loss_after, metric, by_tokens) for run in runs]
    if len({len(losses) for losses, _ in values}) > 1 or not all(len(losses) for losses, _ in values):
        values = [(np.array([_of_whole(run.loss_after, metric)]), np.arange(1)) for run in runs]
    asked = [run.request for run in runs]
    return tuple(
        RunLosses(r=run.r, seed=str(run.seed), learning_rate=run.learning_rate, losses=losses, examples=examples)
        for run, (losses, examples) in zip(asked, values, strict=True)
    )


OVER_EXAMPLES = "mean over examples; in the table of runs: over tokens"


def is_over_examples(runs: Iterable[RunRecord], metric: Metric = LOSS) -> bool:
    """Tell whether losses_of counts every example alike, since runs of older versions have no numbers of tokens: its
    means then differ from the losses of the runs."""
    after = [run.loss_after for run in runs if run.loss_after]
    return metric is LOSS and any(each.example_losses and not each.example_tokens for each in after)


def base_loss_of(runs: Sequence[RunRecord], metric: Metric = LOSS) -> float | None:
    """Return the base's mean loss (or errors), with the weights of losses_of; None where it was not measured."""
    before = next((run.loss_before for run in runs if run.loss_before), None)
    if before is None or not _is_measured(before, metric):
        return None
    evaluated = (before, *(run.loss_after for run in runs if run.loss_after))
    values, _ = _by_example(before, metric, all(each.example_tokens for each in evaluated))
    return fmean(values) if len(values) else _of_whole(before, metric)


def _is_measured(measured: Evaluated, metric: Metric) -> bool:
    """Tell whether the metric was measured; True for a run that diverged too."""
    return {TOKEN_ACCURACY: measured.correct_tokens is not None, EXACT_MATCH: measured.answered > 0}.get(metric, True)


def _of_whole(measured: Evaluated, metric: Metric) -> float:
    return math.nan if (value := metric.of(measured)) is None else metric.turned(value)


def _by_example(measured: Evaluated, metric: Metric, by_tokens: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return losses (or errors) and the numbers of their examples; both empty where single examples were not measured,
    NaN where the run diverged. by_tokens: True to weigh an example's loss by its target tokens."""
    tokens = np.array(measured.example_tokens, float)
    if metric is LOSS:
        losses = np.array(measured.example_losses, float)
        return losses * (tokens / fmean(tokens)) if by_tokens and len(losses) else losses, np.arange(len(losses))
    if metric is TOKEN_ACCURACY:
        right = np.array(measured.example_correct_tokens, float)
        errors = 100 * (tokens - right) / fmean(tokens) if len(right) else right
    else:
        errors = metric.turned(100 * np.array(measured.example_exact_matches, float))
    answered = np.flatnonzero(~np.isnan(errors))
    return np.full(len(answered), math.nan) if math.isnan(measured.loss) else errors[answered], answered


MAX_FILE_BYTES = 200_000_000
MAX_TEXT = 200
MAX_RUNS, MAX_RANKS = 5000, 200
"""Most runs and ranks in a file; ranks are limited because all their pairs are compared."""
NEEDED, OPTIONAL, WHOLE = ("rank", "seed", "example"), ("learning_rate", "target_tokens"), ("rank", "target_tokens")
VALUES = {"loss": LOSS, "correct": CORRECT}
"""Metric by the name of the column with its values; a file has exactly one of these columns."""
BOUNDS = {"rank": (1, 65_536), "loss": (-1e9, 1e9), "learning_rate": (5e-324, 1e6), "target_tokens": (1, 10**9)}
CORRECT_WORDS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
"""Valid cells of `correct`. pandas writes integers as 1.0 in columns with empty cells, and booleans as True."""
EXPECTED = {
    "rank": "a whole number from 1 to 65,536",
    "seed": f"a text of 1 to {MAX_TEXT} printable characters",
    "example": f"a text of 1 to {MAX_TEXT} printable characters",
    "loss": "a number up to 1,000,000,000; write nan for a run that diverged",
    "correct": "0 or 1",
    "learning_rate": "a number above 0",
    "target_tokens": "a whole number above 0, or empty",
}
"""Content that a cell must have, in words, by column."""


def read_table(path: Path) -> tuple[tuple[RunLosses, ...], Metric]:
    """Read a CSV file; return its runs and their metric. Columns: rank, seed, example, then loss or correct;
    learning_rate if several were tried; target_tokens is optional.

    A loss of nan or inf marks a run that diverged; correct is 0 or 1. If all rows have target_tokens, as in an export,
    losses are weighed by them. Raise BadDataError, which names file, row and column, for an invalid file.
    """
    if not path.is_file():
        raise BadDataError(f"No file {str(path)!r}: give a CSV file with {', '.join(NEEDED)}, and loss or correct.")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise BadDataError(f"{path.name} has {size:,} bytes, at most {MAX_FILE_BYTES:,} are read: give fewer examples.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            reader.fieldnames = names = [(name or "").strip() for name in reader.fieldnames or ()]
            values = [name for name in VALUES if name in names]
            if missing := [name for name in NEEDED if name not in names] + ([] if values else ["loss"]):
                raise BadDataError(
                    f"{path.name} has no column {', '.join(missing)}: the first line must name {', '.join(NEEDED)}, "
                    "loss or correct, and learning_rate if several were tried."
                )
            if len(values) > 1 or len(set(names)) < len(names):
                raise BadDataError(f"{path.name} has a column twice, or loss and correct: keep one of the two.")
            return _runs(path.name, reader, values[0]), VALUES[values[0]]
    except (OSError, UnicodeDecodeError, csv.Error):
        raise BadDataError(f"{path.name} is not a CSV file in UTF-8: save it as one.") from None


def _runs(file: str, reader: csv.DictReader, column: str) -> tuple[RunLosses, ...]:
    by_run: dict[tuple[int, float | None, str], dict[int, tuple[float, int | None]]] = {}
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    columns = (*NEEDED, column, *OPTIONAL)
    for cells in reader:
        if None in cells:
            raise BadDataError(f"{file}, row {reader.line_num}: more cells than columns; quote what contains a comma.")
        row = {}
        for name in columns:
            text = (cells.get(name) or "").strip()
            try:
                row[name] = _value(name, text)
            except ValueError:
                shown = repr(text[:MAX_TEXT]) if text else "an empty cell"
                where = f"{file}, row {reader.line_num}, column {name}"
                raise BadDataError(f"{where}: {shown} is not {EXPECTED[name]}.") from None
        run = by_run.setdefault((row["rank"], row["learning_rate"], row["seed"]), {})
        if (example := numbers[row["example"]]) in run:
            raise BadDataError(
                f"{file}, row {reader.line_num}, column example: {row['example']!r} appears twice for a rank and seed."
            )
        run[example] = row[column], row["target_tokens"]
        if len(by_run) > MAX_RUNS:
            raise BadDataError(f"{file} has more than {MAX_RUNS:,} runs: give fewer.")
    if not by_run:
        raise BadDataError(f"{file} has no rows: give one row per example and run.")
    if len({rate is None for _, rate, _ in by_run}) > 1:
        raise BadDataError(f"{file}, column learning_rate: fill it in for all rows, or for none.")
    if (ranks := len({r for r, _, _ in by_run})) > MAX_RANKS:
        raise BadDataError(f"{file} has {ranks:,} ranks, at most {MAX_RANKS} are compared: give fewer.")
    shared = set.intersection(*map(set, by_run.values()))
    counted_tokens = column == "loss" and all(tokens for run in by_run.values() for _, tokens in run.values())
    first = next(iter(by_run.values()))
    usual = fmean(first[example][1] for example in shared) if counted_tokens and shared else None
    return tuple(
        RunLosses(
            r=r,
            learning_rate=rate,
            seed=seed,
            losses=np.array([run[each][0] * (run[each][1] / usual if usual else 1) for each in sorted(run)]),
            examples=np.array(sorted(run)),
        )
        for (r, rate, seed), run in by_run.items()
    )


def _value(name: str, text: str) -> float | int | str | None:
    """Return the value of a cell; raise ValueError where it is not as EXPECTED says."""
    if not text and name in OPTIONAL:
        return None
    if name == "correct":
        if text.lower() not in CORRECT_WORDS:
            raise ValueError(text)
        return CORRECT.turned(100.0 * CORRECT_WORDS[text.lower()])
    if name in ("seed", "example"):
        if not 0 < len(text) <= MAX_TEXT or UNPRINTABLE.search(text):
            raise ValueError(text)
        return text
    value, (low, high) = float(text), BOUNDS[name]
    if name == "loss" and not math.isfinite(value):
        return value
    if not low <= value <= high or (name in WHOLE and not value.is_integer()):
        raise ValueError(text)
    return int(value) if name in WHOLE else value


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs that were chosen to be compared."""

    ranks: tuple[int, ...]
    seeds: tuple[str, ...]
    """All seeds of all chosen runs."""
    examples: int
    """Number of examples that all runs have."""
    losses: dict[tuple[int, str], np.ndarray]
    """Losses over these examples, in one order for all runs, by (rank, seed)."""
    rates: dict[int, float | None]
    rates_tried: dict[int, int]
    diverged: tuple[Run, ...]
    notes: tuple[str, ...]
    """Sentences on runs and examples that were left out."""

    @cached_property
    def means(self) -> dict[tuple[int, str], float]:
        """Mean loss over examples, by (rank, seed)."""
        return {cell: float(values.mean()) for cell, values in self.losses.items()}

    @cached_property
    def seeds_of(self) -> dict[int, tuple[str, ...]]:
        """Seeds of each rank, by rank."""
        return {r: tuple(seed for seed in self.seeds if (r, seed) in self.losses) for r in self.ranks}

    def shared_seeds(self, r: int, s: int) -> tuple[str, ...]:
        """Return the seeds with which both ranks ran."""
        return tuple(seed for seed in self.seeds_of[r] if (s, seed) in self.losses)


def compare(runs: Sequence[RunLosses]) -> Comparison:
    """Choose the runs to compare: of each rank all finite runs at its best learning rate, on the examples that all runs
    have; raise BadDataError where no run is finite, or no example is common."""
    finite = [run for run in runs if not run.diverged]
    diverged = tuple(Run(r=run.r, seed=run.seed, learning_rate=run.learning_rate) for run in runs if run.diverged)
    if not finite:
        raise BadDataError("No run has a finite loss on all its examples, so nothing can be compared: train again.")
    examples, runs_of = np.unique(np.concatenate([run.examples for run in finite]), return_counts=True)
    common = examples[runs_of == len(finite)]
    if not len(common):
        raise BadDataError("No example is in every run: evaluate all runs on the same examples, under the same names.")
    by_rank: dict[int, dict[float | None, list[RunLosses]]] = defaultdict(lambda: defaultdict(list))
    for run in finite:
        losses = run.losses if len(run.examples) == len(common) else run.losses[np.searchsorted(run.examples, common)]
        by_rank[run.r][run.learning_rate].append(replace(run, losses=losses, examples=common))
    rates = {r: _best_rate(r, tried, diverged) for r, tried in sorted(by_rank.items())}
    chosen = [run for r, rate in rates.items() for run in by_rank[r][rate]]
    return Comparison(
        ranks=tuple(rates),
        seeds=tuple(dict.fromkeys(run.seed for run in sorted(chosen, key=lambda run: (len(run.seed), run.seed)))),
        examples=len(common),
        losses={(run.r, run.seed): run.losses for run in chosen},
        rates=rates,
        rates_tried={r: len({run.learning_rate for run in runs if run.r == r}) for r in rates},
        diverged=diverged,
        notes=tuple(_notes(chosen, diverged, len(common), len(examples))),
    )


def _best_rate(r: int, tried: dict[float | None, list[RunLosses]], diverged: Iterable[Run]) -> float | None:
    """Return the learning rate with the lowest mean loss over the seeds that all rates have. Rates with a diverged run
    are considered only if every rate has one."""
    bad = {run.learning_rate for run in diverged if run.r == r}
    steady = {rate: runs for rate, runs in tried.items() if rate not in bad} or tried
    shared = set.intersection(*({run.seed for run in runs} for runs in steady.values()))

    def mean(rate: float | None) -> float:
        return fmean(fmean(run.losses) for run in steady[rate] if run.seed in shared or not shared)

    return next(iter(steady)) if len(steady) == 1 else min(steady, key=lambda rate: (mean(rate), rate or 0))


def _notes(chosen: Sequence[RunLosses], diverged: Sequence[Run], common: int, all_examples: int) -> Iterable[str]:
    seeds: dict[int, set[str]] = defaultdict(set)
    for run in chosen:
        seeds[run.r].add(run.seed)
    if diverged:
        names = "; ".join(run.name for run in diverged)
        yield f"These runs diverged and are left out, so their ranks look more stable than they are: {names}."
    if missing := all_examples - common:
        yield f"Missing from some run and left out of all runs: {missing:,} of {counted(all_examples, 'example')}."
    if len(set(map(frozenset, seeds.values()))) > 1:
        counts = ", ".join(f"{len(mine)} at r = {r}" for r, mine in seeds.items())
        yield (
            f"Not every rank ran with every seed ({counts}): two ranks are compared on the seeds they share, and "
            "losses are adjusted for the missing seeds."
        )
