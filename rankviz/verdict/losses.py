"""What a verdict is made of: the held-out loss of each example in each run, from a sweep or from a CSV file.

A run's loss is here the mean over its examples, each counting once however long it is. The loss that a run reports is
the mean over target tokens, so the two differ a little; examples are what the noise is known of.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rankviz.core.runs.record import RunRecord
from rankviz.errors import BadDataError

COLUMNS = ("rank", "seed", "example", "loss")
RATE = "learning_rate"
MAX_FILE_BYTES = 200_000_000
WHOLE_RUN = "the whole held-out set"
"""The one example of runs that kept no losses of single examples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLosses:
    """One run's held-out losses, nats a token."""

    r: int
    seed: str
    learning_rate: float | None = None
    losses: Mapping[str, float]
    """By example."""

    @property
    def diverged(self) -> bool:
        return not all(math.isfinite(loss) for loss in self.losses.values())

    @property
    def name(self) -> str:
        rate = "" if self.learning_rate is None else f" at learning rate {self.learning_rate:g}"
        return f"r = {self.r}, seed {self.seed}{rate}"


def losses_of(runs: Iterable[RunRecord]) -> tuple[RunLosses, ...]:
    """Of runs that have been evaluated after training.

    Where a run kept no losses of single examples, or another number of them than the other runs, the whole
    run counts as one example.
    """
    runs = [run for run in runs if run.loss_after]
    counts = {len(run.loss_after.example_losses) for run in runs}
    by_example = len(counts) == 1 and counts != {0}
    return tuple(
        RunLosses(
            r=run.request.r,
            seed=str(run.request.seed),
            learning_rate=run.request.learning_rate,
            losses={str(i): loss for i, loss in enumerate(run.loss_after.example_losses)}
            if by_example
            else {WHOLE_RUN: run.loss_after.loss},
        )
        for run in runs
    )


def base_loss_of(runs: Iterable[RunRecord]) -> float | None:
    """The untrained base's loss, over examples as in losses_of; None where it wasn't measured."""
    before = next((run.loss_before for run in runs if run.loss_before), None)
    if before is None:
        return None
    return fmean(before.example_losses) if before.example_losses else before.loss


def read_losses(path: Path) -> tuple[RunLosses, ...]:
    """A CSV file with the columns rank, seed, example, loss, and learning_rate if there were several.

    A loss that is nan or inf marks a run that diverged. BadDataError names file, row and column.
    """
    if not path.is_file():
        raise BadDataError(f"No file {str(path)!r}: give a CSV file with the columns {', '.join(COLUMNS)}.")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise BadDataError(
            f"{path.name} has {size:,} bytes, more than the {MAX_FILE_BYTES:,} allowed: give fewer examples."
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = [(name or "").strip() for name in reader.fieldnames or ()]
            if missing := [name for name in COLUMNS if name not in names]:
                raise BadDataError(
                    f"{path.name} has no column {', '.join(missing)}: the first line must name {', '.join(COLUMNS)}, "
                    f"and {RATE} if several were tried."
                )
            reader.fieldnames = names
            return _runs(path.name, reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{path.name} is not a CSV file in UTF-8 ({error}): save it as one.") from None


def _runs(file: str, reader: csv.DictReader) -> tuple[RunLosses, ...]:
    by_run: dict[tuple[int, float | None, str], dict[str, float]] = {}
    rates_given = set()
    for cells in reader:
        cell = _Cells(file, reader.line_num, cells)
        rate = cell.rate()
        rates_given.add(rate is not None)
        if len(rates_given) > 1:
            cell.refuse(RATE, "is empty in some rows and filled in others: fill it in for all rows, or for none")
        run = by_run.setdefault((cell.rank(), rate, cell.text("seed")), {})
        example = cell.text("example")
        if example in run:
            cell.refuse("example", f"{example!r} appears twice for this rank, seed and learning rate")
        run[example] = cell.loss()
    if not by_run:
        raise BadDataError(f"{file} has no rows: give one row per example and run.")
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
        return text

    def rank(self) -> int:
        text = self.text("rank")
        try:
            r = float(text)  # pandas and spreadsheets write whole numbers as 4.0
        except ValueError:
            r = math.nan
        if not (r >= 1 and r.is_integer()):
            self.refuse("rank", f"{text!r} is not a whole number above 0")
        return int(r)

    def loss(self) -> float:
        text = self.text("loss")
        try:
            return float(text)
        except ValueError:
            self.refuse("loss", f"{text!r} is not a number; write nan for a run that diverged")

    def rate(self) -> float | None:
        text = (self.cells.get(RATE) or "").strip()
        if not text:
            return None
        try:
            rate = float(text)
        except ValueError:
            rate = math.nan
        if not (math.isfinite(rate) and rate > 0):
            self.refuse(RATE, f"{text!r} is not a number above 0")
        return rate
