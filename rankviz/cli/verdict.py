"""`rankviz verdict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankviz.api import Api
from rankviz.cli.shared import Json, print_json, table


def verdict(
    losses: Annotated[Path, typer.Argument(help="CSV: rank, seed, example, loss; learning_rate if several.")],
    tolerance: Annotated[str, typer.Option(help='Differences that don\'t matter: nats, or "2%" of the gain.')] = "0.02",
    base_loss: Annotated[float | None, typer.Option(help="The untrained base's loss, for a share of the gain.")] = None,
    as_json: Json = False,
) -> None:
    """Which ranks can be told apart, from each held-out example's loss in each run."""
    from rankviz.verdict import verdict_json

    said = verdict_json(Api().verdicts.of_table(losses, tolerance, base_loss))
    if as_json:
        return print_json(said)
    table(
        f"{losses.name}: {said['seeds']} seeds, {said['examples']:,} examples",
        ["Rank", "Loss", "Learning rate", "Runs", "Above the best, nats", "Against the best"],
        [_row(rank, said["best"]) for rank in said["ranks"]],
        notes=said["sentences"],
    )


def _row(rank: dict[str, Any], best: int) -> list[str]:
    low, high = rank["above_best_low"], rank["above_best_high"]
    span = "not known" if low is None else f"{low:+.4f} to {high:+.4f}"
    rate, tried = rank["learning_rate"], rank["learning_rates_tried"]
    is_best = rank["r"] == best
    return [
        str(rank["r"]),
        f"{rank['loss']:.4f}",
        "" if rate is None else f"{rate:g}" + (f" (best of {tried})" if tried > 1 else ""),
        str(rank["seeds"]),
        "" if is_best else span,
        "lowest loss" if is_best else rank["call"],
    ]
