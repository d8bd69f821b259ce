"""What a verdict is made of: a value of each held-out example in each run, from a sweep or from a CSV file.

A value is a loss in nats, or errors in points, so that lower is better. Of exact match an example's errors are 0 or
100. Of token accuracy they are 100 times its wrong tokens over the tokens of an example on average: an example weighs
as much as it has tokens, and the mean over examples is 100 minus the run's token accuracy in percent.

So it is with the loss: an example weighs as much as it has target tokens, and the mean over examples is the held-out
loss that the run reports. Where a run kept no token counts, and in a file without the column target_tokens, each
example counts once, so the mean differs a little from the reported loss.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean

from rankviz.core.bounds import UNPRINTABLE
from rankviz.core.runs.events import Evaluated
from rankviz.core.runs.metric import CORRECT, EXACT_MATCH, LOSS, TOKEN_ACCURACY, Metric
from rankviz.core.runs.record import RunRecord
from rankviz.errors import BadDataError

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
WHOLE_RUN = "the whole held-out set"
"""The one example of runs that kept no losses of single examples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLosses:
    """One run's held-out losses in nats a token, or its errors in points."""

    r: int
    seed: str
    learning_rate: float | None = None
    losses: Mapping[str, float]
    """By example."""

    @property
    def diverged(self) -> bool:
        return not all(map(math.isfinite, self.losses.values()))

    @property
    def name(self) -> str:
        rate = "" if self.learning_rate is None else f" at learning rate {self.learning_rate:g}"
        return f"r = {self.r}, seed {self.seed}{rate}"


def losses_of(runs: Iterable[RunRecord], metric: Metric = LOSS) -> tuple[RunLosses, ...]:
    """Of runs that have been evaluated after training, those that measured the metric.

    Where a run kept no values of single examples, or another number of them than the other runs, the whole
    run counts as one example.
    """
    runs = [run for run in runs if run.loss_after and _counted(run.loss_after, metric)]
    by_tokens = _have_tokens(runs)
    values = [_by_example(run.loss_after, metric, by_tokens) for run in runs]
    by_example = all(values) and len({len(each) for each in values}) == 1
    return tuple(
        RunLosses(
            r=run.request.r,
            seed=str(run.request.seed),
            learning_rate=run.request.learning_rate,
            losses=each if by_example else {WHOLE_RUN: _of_whole(run.loss_after, metric)},
        )
        for run, each in zip(runs, values, strict=True)
    )


def base_loss_of(runs: Iterable[RunRecord], metric: Metric = LOSS) -> float | None:
    """The untrained base's loss or errors, over examples as in losses_of; None where it wasn't measured."""
    runs = list(runs)
    before = next((run.loss_before for run in runs if run.loss_before), None)
    if before is None or not _counted(before, metric):
        return None
    values = _by_example(before, metric, bool(before.example_tokens) and _have_tokens(runs))
    return fmean(values.values()) if values else _of_whole(before, metric)


def _have_tokens(runs: Iterable[RunRecord]) -> bool:
    """Whether all that have been evaluated kept their examples' token counts: losses of the two kinds don't compare."""
    return all(run.loss_after.example_tokens for run in runs if run.loss_after)


def _counted(measured: Evaluated, metric: Metric) -> bool:
    """Whether the metric was measured, if only of a run that diverged."""
    return {
        TOKEN_ACCURACY: measured.correct_tokens is not None,
        EXACT_MATCH: measured.answered > 0,
    }.get(metric, True)


def _of_whole(measured: Evaluated, metric: Metric) -> float:
    value = metric.of(measured)
    return math.nan if value is None else metric.turned(value)


def _by_example(measured: Evaluated, metric: Metric, by_tokens: bool) -> dict[str, float]:
    """Empty where nothing was kept of single examples; nan where the run diverged, since then it chose no token.

    by_tokens: whether an example's loss weighs as much as it has target tokens.
    """
    if metric is LOSS:
        losses = dict(zip(_names(len(measured.example_losses)), measured.example_losses, strict=True))
        counts = dict(zip(_names(len(measured.example_tokens)), measured.example_tokens, strict=True))
        return _weighed(losses, counts, fmean(counts.values())) if by_tokens and losses else losses
    if metric is TOKEN_ACCURACY:
        counts = measured.example_tokens
        right = zip(measured.example_correct_tokens, counts, strict=True)
        errors = {str(i): 100 * (tokens - hits) / fmean(counts) for i, (hits, tokens) in enumerate(right)}
    else:
        matches = enumerate(measured.example_exact_matches)
        errors = {str(i): metric.turned(100.0 * match) for i, match in matches if match is not None}
    return dict.fromkeys(errors, math.nan) if math.isnan(measured.loss) else errors


@lru_cache(maxsize=8)
def _names(examples: int) -> Sequence[str]:
    """By number."""
    return tuple(map(str, range(examples)))


def _weighed(losses: Mapping[str, float], tokens: Mapping[str, int], usual: float) -> dict[str, float]:
    """Losses times the tokens of their examples, in units of an example of usual length: their mean is one a token."""
    return {example: loss * (tokens[example] / usual) for example, loss in losses.items()}


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
    by_run: dict[tuple[int, float | None, str], dict[str, float]] = {}
    tokens: dict[tuple[int, float | None, str], dict[str, int | None]] = {}
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
        example = cell.text("example")
        if example in run:
            cell.refuse("example", f"{example!r} appears twice for this rank, seed and learning rate")
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
            by_run = {key: _weighed(losses, tokens[key], usual) for key, losses in by_run.items()}
    return tuple(RunLosses(r=r, learning_rate=rate, seed=seed, losses=run) for (r, rate, seed), run in by_run.items())


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
        """In points: 0 of a correct example, 100 of a wrong one."""
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
