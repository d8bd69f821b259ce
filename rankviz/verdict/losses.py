"""What a verdict is made of: a value of each held-out example in each run, from a sweep or a CSV file."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

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
    """Its held-out losses in nats a token, or its errors in points."""

    losses: np.ndarray = field(compare=False)
    """Of each of its examples."""
    examples: np.ndarray = field(compare=False)
    """Which they are, ascending: an example has the same number in all runs."""

    @property
    def diverged(self) -> bool:
        return not np.isfinite(self.losses).all()


def losses_of(runs: Iterable[RunRecord], metric: Metric = LOSS) -> tuple[RunLosses, ...]:
    """Return the losses of the runs that measured the metric after training.

    Where a run kept no values of single examples, or another number of them than the other runs, the whole
    run counts as one example.
    """
    runs = [run for run in runs if run.loss_after and _counted(run.loss_after, metric)]
    by_tokens = _have_tokens(runs)
    values = [_by_example(run.loss_after, metric, by_tokens) for run in runs]
    lengths = {len(each.losses) for each in values}
    if 0 in lengths or len(lengths) > 1:
        values = [_Values(np.array([_of_whole(run.loss_after, metric)]), np.arange(1)) for run in runs]
    return tuple(
        RunLosses(
            r=run.request.r, seed=str(run.request.seed), learning_rate=run.request.learning_rate, **each._asdict()
        )
        for run, each in zip(runs, values, strict=True)
    )


def base_loss_of(runs: Iterable[RunRecord], metric: Metric = LOSS) -> float | None:
    """The untrained base's loss or errors, over examples as in losses_of; None where it wasn't measured."""
    runs = list(runs)
    before = next((run.loss_before for run in runs if run.loss_before), None)
    if before is None or not _counted(before, metric):
        return None
    values = _by_example(before, metric, bool(before.example_tokens) and _have_tokens(runs)).losses
    return fmean(values) if len(values) else _of_whole(before, metric)


def _have_tokens(runs: Iterable[RunRecord]) -> bool:
    """Tell whether all evaluated runs kept their examples' token counts: losses of the two kinds don't compare."""
    return all(run.loss_after.example_tokens for run in runs if run.loss_after)


def _counted(measured: Evaluated, metric: Metric) -> bool:
    """Tell whether the metric was measured, if only of a run that diverged."""
    return {
        TOKEN_ACCURACY: measured.correct_tokens is not None,
        EXACT_MATCH: measured.answered > 0,
    }.get(metric, True)


def _of_whole(measured: Evaluated, metric: Metric) -> float:
    value = metric.of(measured)
    return math.nan if value is None else metric.turned(value)


class _Values(NamedTuple):
    """Losses and examples, as RunLosses has them."""

    losses: np.ndarray
    examples: np.ndarray


def _by_example(measured: Evaluated, metric: Metric, by_tokens: bool) -> _Values:
    """Empty where nothing was kept of single examples; nan where the run diverged, since then it chose no token.

    by_tokens: whether an example's loss weighs as much as it has target tokens.
    """
    if metric is LOSS:
        losses = _array(measured.example_losses)
        if by_tokens and len(losses):
            tokens = _array(measured.example_tokens)
            losses *= tokens / fmean(tokens)  # their mean is then one a token
        return _Values(losses, np.arange(len(losses)))
    if metric is TOKEN_ACCURACY:
        right, tokens = _array(measured.example_correct_tokens), _array(measured.example_tokens)
        errors = 100 * (tokens - right) / fmean(tokens) if len(right) else right
    else:
        errors = metric.turned(100 * _array(measured.example_exact_matches))
    answered = np.flatnonzero(~np.isnan(errors))
    return _Values(np.full(len(answered), math.nan) if math.isnan(measured.loss) else errors[answered], answered)


def _array(values: Sequence[float | None]) -> np.ndarray:
    """Make an array in which None is nan."""
    return np.array(tuple(values), float)


COLUMNS = ("rank", "seed", "example")
VALUES = {"loss": LOSS, "correct": CORRECT}
"""The column that a file has in addition, one of them."""
RATE = "learning_rate"
TOKENS = "target_tokens"
CORRECT_WORDS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
"""pandas writes whole numbers beside an empty cell as 1.0, and truth as True."""
MAX_FILE_BYTES = 200_000_000
MAX_RANK = 65_536
MAX_LOSS = 1e9
"""Either way: no run that has not diverged is near it, and squares of it still add up."""
MAX_RATE = 1e6
MAX_TOKENS = 10**9
MAX_TEXT = 200
MAX_RUNS = 5000
MAX_RANKS = 200
"""Every two of them are compared."""


def read_losses(path: Path) -> tuple[RunLosses, ...]:
    """The runs of a CSV file; `read_table` says which metric they are in."""
    return read_table(path)[0]


def read_table(path: Path) -> tuple[tuple[RunLosses, ...], Metric]:
    """A CSV file with the columns rank, seed, example, then loss or correct, and learning_rate if there were several.

    A loss that is nan or inf marks a run that diverged; correct is 0 or 1. With target_tokens in all rows, as an export
    has them, losses weigh as many tokens as their examples have. BadDataError names file, row and column.
    """
    if not path.is_file():
        raise BadDataError(
            f"No file {str(path)!r}: give a CSV file with the columns {', '.join(COLUMNS)}, and loss or correct."
        )
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise BadDataError(
            f"{path.name} has {size:,} bytes, more than the {MAX_FILE_BYTES:,} allowed: give fewer examples."
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = [(name or "").strip() for name in reader.fieldnames or ()]
            given = [name for name in VALUES if name in names]
            if twice := next((name for name in (*COLUMNS, *VALUES, RATE, TOKENS) if names.count(name) > 1), None):
                raise BadDataError(f"{path.name} has the column {twice} twice: rename one of the two.")
            missing = [name for name in COLUMNS if name not in names] + ([] if given else ["loss"])
            if missing:
                raise BadDataError(
                    f"{path.name} has no column {', '.join(missing)}: the first line must name {', '.join(COLUMNS)}, "
                    f"loss or correct, and {RATE} if several were tried."
                )
            if len(given) > 1:
                raise BadDataError(
                    f"{path.name} has the columns loss and correct: keep the one that ranks are compared by."
                )
            reader.fieldnames = names
            return _runs(path.name, reader, given[0]), VALUES[given[0]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{path.name} is not a CSV file in UTF-8 ({error}): save it as one.") from None


def _runs(file: str, reader: csv.DictReader, column: str) -> tuple[RunLosses, ...]:
    by_run: dict[tuple[int, float | None, str], dict[int, float]] = {}
    tokens: dict[tuple[int, float | None, str], dict[int, int | None]] = {}
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    rates_given = set()
    for cells in reader:
        cell = _Cells(file, reader.line_num, cells)
        rate = cell.rate()
        rates_given.add(rate is not None)
        if len(rates_given) > 1:
            cell.refuse(RATE, "is empty in some rows and filled in others: fill it in for all rows, or for none")
        key = cell.rank(), rate, cell.text("seed")
        run = by_run.setdefault(key, {})
        if len(by_run) > MAX_RUNS:
            raise BadDataError(f"{file} has more than {MAX_RUNS:,} runs: give fewer.")
        name = cell.text("example")
        example = numbers[name]
        if example in run:
            cell.refuse("example", f"{name!r} appears twice for this rank, seed and learning rate")
        run[example] = cell.loss() if column == "loss" else cell.error()
        tokens.setdefault(key, {})[example] = cell.tokens()
    if not by_run:
        raise BadDataError(f"{file} has no rows: give one row per example and run.")
    if (ranks := len({r for r, _, _ in by_run})) > MAX_RANKS:
        raise BadDataError(f"{file} has {ranks:,} ranks, at most {MAX_RANKS} are compared: give fewer.")
    if column == "loss" and all(count for counts in tokens.values() for count in counts.values()):
        shared = set.intersection(*map(set, tokens.values()))
        if shared:
            usual = fmean(next(iter(tokens.values()))[example] for example in shared)
            by_run = {
                key: {example: loss * (tokens[key][example] / usual) for example, loss in losses.items()}
                for key, losses in by_run.items()
            }
    return tuple(
        RunLosses(
            r=r,
            learning_rate=rate,
            seed=seed,
            losses=np.array([run[example] for example in sorted(run)]),
            examples=np.array(sorted(run)),
        )
        for (r, rate, seed), run in by_run.items()
    )


class _Cells:
    """One row; a cell that cannot be read is an error with file, row and column."""

    def __init__(self, file: str, row: int, cells: Mapping[str | None, str | Sequence[str] | None]):
        self.file, self.row, self.cells = file, row, cells
        if None in cells:
            raise BadDataError(f"{file}, row {row}: more cells than columns; quote what contains a comma.")

    def refuse(self, column: str, why: str) -> None:
        raise BadDataError(f"{self.file}, row {self.row}, column {column}: {why}.")

    def text(self, column: str) -> str:
        text = (self.cells[column] or "").strip()
        if not text:
            self.refuse(column, "is empty; fill it in or remove the row")
        if len(text) > MAX_TEXT or UNPRINTABLE.search(text):
            self.refuse(column, f"is not a text of at most {MAX_TEXT} printable characters")
        return text

    def rank(self) -> int:
        text = self.text("rank")
        try:
            r = float(text)  # pandas and spreadsheets write whole numbers as 4.0
        except ValueError:
            r = math.nan
        if not (r >= 1 and r.is_integer()):
            self.refuse("rank", f"{text!r} is not a whole number above 0")
        if r > MAX_RANK:
            self.refuse("rank", f"{text!r} is above {MAX_RANK:,}")
        return int(r)

    def loss(self) -> float:
        text = self.text("loss")
        try:
            loss = float(text)
        except ValueError:
            self.refuse("loss", f"{text!r} is not a number; write nan for a run that diverged")
        if MAX_LOSS < abs(loss) < math.inf:
            self.refuse("loss", f"{text!r} is beyond {MAX_LOSS:,.0f}; write nan for a run that diverged")
        return loss

    def error(self) -> float:
        """Error of the example in points: 0 where it is correct, 100 where it is wrong."""
        text = self.text("correct")
        if text.lower() not in CORRECT_WORDS:
            self.refuse("correct", f"{text!r} is not 0 or 1")
        return CORRECT.turned(100.0 * CORRECT_WORDS[text.lower()])

    def tokens(self) -> int | None:
        text = (self.cells.get(TOKENS) or "").strip()
        if text and not (text.isascii() and text.isdigit() and len(text) < 11 and 0 < int(text) <= MAX_TOKENS):
            self.refuse(
                TOKENS, f"{text[:MAX_TEXT]!r} is not a whole number above 0; leave the column empty if it is not known"
            )
        return int(text) if text else None

    def rate(self) -> float | None:
        text = (self.cells.get(RATE) or "").strip()
        if not text:
            return None
        try:
            rate = float(text)
        except ValueError:
            rate = math.nan
        if not 0 < rate <= MAX_RATE:
            self.refuse(RATE, f"{text[:MAX_TEXT]!r} is not a number above 0")
        return rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The runs that are compared."""

    ranks: tuple[int, ...]
    seeds: tuple[str, ...]
    """All that any of them ran with."""
    examples: int
    """Common to all runs."""
    losses: dict[tuple[int, str], np.ndarray]
    """Of (rank, seed), over the examples in one order."""
    rates: dict[int, float | None]
    rates_tried: dict[int, int]
    diverged: tuple[Run, ...]
    notes: tuple[str, ...]
    """What was left out and why, in sentences."""
    means: dict[tuple[int, str], float] = field(init=False, repr=False)
    """Of (rank, seed), over the examples."""
    _seeds_of: dict[int, tuple[str, ...]] = field(init=False, repr=False)

    def __post_init__(self):
        of = {r: tuple(seed for seed in self.seeds if (r, seed) in self.losses) for r in self.ranks}
        object.__setattr__(self, "_seeds_of", of)
        object.__setattr__(self, "means", {cell: float(values.mean()) for cell, values in self.losses.items()})

    def seeds_of(self, r: int) -> tuple[str, ...]:
        return self._seeds_of[r]  # every two ranks are compared by them

    @property
    def balanced(self) -> bool:
        return len(self.losses) == len(self.ranks) * len(self.seeds)


def compare(runs: Sequence[RunLosses]) -> Comparison:
    """Every rank that has a finite run; BadDataError where there is none, or no example that all share."""
    finite = [run for run in runs if not run.diverged]
    diverged = tuple(Run(r=run.r, seed=run.seed, learning_rate=run.learning_rate) for run in runs if run.diverged)
    if not finite:
        raise BadDataError("No run has a finite loss on all its examples, so nothing can be compared: train again.")
    examples, runs_of = np.unique(np.concatenate([run.examples for run in finite]), return_counts=True)
    common = examples[runs_of == len(finite)]
    if not len(common):
        raise BadDataError("No example is in every run: evaluate all runs on the same examples, under the same names.")
    finite = [run if len(run.examples) == len(common) else _of(run, common) for run in finite]
    by_rank: dict[int, dict[float | None, list[RunLosses]]] = defaultdict(lambda: defaultdict(list))
    for run in finite:
        by_rank[run.r][run.learning_rate].append(run)
    chosen = {r: _best_rate(rates, diverged) for r, rates in sorted(by_rank.items())}
    kept = [run for r, rate in chosen.items() for run in by_rank[r][rate]]
    ranks = tuple(chosen)
    return Comparison(
        ranks=ranks,
        seeds=tuple(dict.fromkeys(run.seed for run in sorted(kept, key=lambda run: (len(run.seed), run.seed)))),
        examples=len(common),
        losses={(run.r, run.seed): run.losses for run in kept},
        rates=chosen,
        rates_tried={r: len({run.learning_rate for run in runs if run.r == r}) for r in ranks},
        diverged=diverged,
        notes=tuple(_notes(kept, diverged, ranks, examples=len(common), everything=len(examples))),
    )


def _of(run: RunLosses, examples: np.ndarray) -> RunLosses:
    """Reduce a run to some of its examples."""
    return replace(run, losses=run.losses[np.searchsorted(run.examples, examples)], examples=examples)


def _best_rate(rates: dict, diverged: Iterable[Run]) -> float | None:
    """The lowest mean over the seeds that the rates share. A rate at which a run diverged only where all have one."""
    if len(rates) == 1:
        return next(iter(rates))
    r = next(iter(rates.values()))[0].r
    bad = {run.learning_rate for run in diverged if run.r == r}
    steady = {rate: runs for rate, runs in rates.items() if rate not in bad} or rates
    shared = set.intersection(*({run.seed for run in runs} for runs in steady.values()))

    def mean(rate: float | None) -> float:
        runs = [run for run in steady[rate] if run.seed in shared] or steady[rate]
        return fmean(fmean(run.losses) for run in runs)

    return min(steady, key=lambda rate: (mean(rate), rate or 0))


def _notes(
    kept: Sequence[RunLosses], diverged: Sequence[Run], ranks: Sequence[int], *, examples: int, everything: int
) -> Iterable[str]:
    """everything: examples that are in any run."""
    if diverged:
        names = "; ".join(run.name for run in diverged)
        yield f"These runs diverged and are left out, so their ranks look more stable than they are: {names}."
        if gone := sorted({run.r for run in diverged} - set(ranks)):
            yield f"Every run of {_ranks(gone)} diverged: its loss is not known."
    if everything > examples:
        missing = everything - examples
        verb = "is" if missing == 1 else "are"
        yield f"{missing:,} of {counted(everything, 'example')} {verb} missing from some run and left out of all runs."
    seeds = {r: {run.seed for run in kept if run.r == r} for r in ranks}
    if len(set(map(frozenset, seeds.values()))) > 1:
        counts = ", ".join(f"{len(mine)} at r = {r}" for r, mine in seeds.items())
        yield (
            f"Not every rank ran with every seed ({counts}): two ranks are compared on the seeds they share, and "
            "losses are adjusted for the missing seeds."
        )


def _ranks(ranks: Sequence[int]) -> str:
    return " and ".join(f"r = {r}" for r in ranks)
