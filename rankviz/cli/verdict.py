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

NOT_DISTINGUISHABLE = "cannot be distinguished"


def verdict(
    losses: Annotated[
        Path, typer.Argument(help="CSV with the columns rank, seed, example, loss; learning_rate if several.")
    ],
    tolerance: Annotated[str, typer.Option(help='Differences that do not matter: nats, or "2%" of the gain.')] = "0.02",
    base_loss: Annotated[
        float | None, typer.Option(help="Loss of the untrained base, for a tolerance in percent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which ranks can be distinguished, from each held-out example's loss in each run."""
    from rankviz.verdict import sentences, verdict_json

    if base_loss is None and tolerance.strip().endswith("%"):
        raise InvalidSettingError("A tolerance in percent needs --base-loss; or give the tolerance in nats.")
    result = Api().verdicts.of_table(losses, tolerance, base_loss)
    if as_json:
        return print_json(verdict_json(result))
    table(
        f"{losses.name}: {counted(result.seeds, 'seed')}, {counted(result.examples, 'example')}",
        ["Rank", "Loss", "Learning rate", "Runs", "Above the best (nats)", "Compared with the best"],
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
        f"{rank.loss:.4f}",
        "" if rate is None else f"{rate:g}" + (f" (best of {tried})" if tried > 1 else ""),
        str(len(rank.run_losses)),
        "" if is_best else NOT_KNOWN if above.low is None else f"{above.low:+.4f} to {above.high:+.4f}",
        "lowest loss" if is_best else NOT_DISTINGUISHABLE if rank.call == CANT_TELL else rank.call,
    ]
