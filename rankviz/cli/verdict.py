"""`rankviz verdict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankviz.api import Api
from rankviz.cli.shared import Json, print_json, table
from rankviz.errors import InvalidSettingError
from rankviz.units import NOT_KNOWN, counted

if TYPE_CHECKING:
    from rankviz.verdict import RankLoss, Verdict
    from rankviz.verdict.judge import AboveBest

NOT_DISTINGUISHABLE = "cannot be distinguished"


def verdict(
    losses: Annotated[
        Path,
        typer.Argument(
            help="CSV with the columns rank, seed, example, and loss or correct (0 or 1); learning_rate if several."
        ),
    ],
    tolerance: Annotated[
        str | None,
        typer.Option(
            help='Differences that do not matter: nats, points of correct, or "2%" of the gain; 0.02 nats or 1 point.',
            show_default=False,
        ),
    ] = None,
    base_loss: Annotated[
        float | None, typer.Option(help="Loss of the untrained base, for a tolerance in percent.")
    ] = None,
    base_accuracy: Annotated[
        float | None, typer.Option(help="The same for a file with the column correct: percent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which ranks can be distinguished, from each held-out example's loss, or answer, in each run."""
    from rankviz.verdict import sentences, verdict_json

    if base_loss is None and base_accuracy is None and tolerance and tolerance.strip().endswith("%"):
        raise InvalidSettingError(
            "A tolerance in percent needs --base-loss or --base-accuracy; or give the tolerance in nats or points."
        )
    result = Api().verdicts.of_table(losses, tolerance, base_loss, base_accuracy)
    if as_json:
        return print_json(verdict_json(result))
    table(
        f"{losses.name}: {counted(result.seeds, 'seed')}, {counted(result.examples, 'example')}",
        [
            "Rank",
            result.metric.noun.capitalize(),
            "Learning rate",
            "Runs",
            f"{'Below' if result.metric.higher_is_better else 'Above'} the best ({result.metric.units})",
            "Compared with the best",
        ],
        [_row(rank, result) for rank in result.ranks],
        notes=sentences(result),
    )


def _row(rank: "RankLoss", result: "Verdict") -> list[str]:
    from rankviz.verdict import CANT_TELL

    above = result.above_best(rank.r)
    rate, tried = rank.learning_rate, rank.learning_rates_tried
    is_best = rank.r == result.best
    return [
        str(rank.r),
        result.metric.text(result.read(rank.loss)),
        "" if rate is None else f"{rate:g}" + (f" (best of {tried})" if tried > 1 else ""),
        str(len(rank.run_losses)),
        "" if is_best else NOT_KNOWN if above.low is None else _span(above, result),
        result.metric.superlative if is_best else NOT_DISTINGUISHABLE if rank.call == CANT_TELL else rank.call,
    ]


def _span(above: "AboveBest", result: "Verdict") -> str:
    """One digit more than the sentences have of a loss."""
    digits = 1 if result.metric.higher_is_better else 4
    return f"{above.low:+.{digits}f} to {above.high:+.{digits}f}"
