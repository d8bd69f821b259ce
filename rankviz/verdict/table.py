"""The same from a CSV file: a row a held-out example of a run. Without the column target_tokens each counts once."""

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import fmean

import numpy as np

from rankviz.core.bounds import UNPRINTABLE
from rankviz.core.runs.metric import CORRECT, LOSS, Metric
from rankviz.errors import BadDataError
from rankviz.verdict.losses import RunLosses

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
