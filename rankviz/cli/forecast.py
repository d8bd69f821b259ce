"""`rankviz forecast`."""

from typing import TYPE_CHECKING, Annotated

import typer

from rankviz.api import Api
from rankviz.cli.shared import Json, print_json, table
from rankviz.core.advice.use_case import DEFAULT, NAMES

if TYPE_CHECKING:
    from rankviz.core.forecast.bands import Forecast
    from rankviz.core.forecast.quick_look import BentForecast


def forecast(
    model: Annotated[str, typer.Argument(help="Any name, or a model with the sweep of --runs.")] = "",
    use_case: Annotated[str, typer.Option(help=f"{', '.join(NAMES)}.")] = DEFAULT,
    parameters: Annotated[
        float | None, typer.Option(help="Parameters of a model that has no name here, such as 125e6.")
    ] = None,
    base: Annotated[bool, typer.Option("--base/--instruct", hidden=True)] = False,
    metric: Annotated[str | None, typer.Option(help="score (points, the default) or loss (% of the loss).")] = None,
    runs: Annotated[
        str | None, typer.Option(help="A sweep with finished runs at two ranks or more: adds their own forecast.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Forecast quality by rank from published studies, and between the ranks of your own runs.

    The published forecast is the same for every model, so the model need not be one that can be read.
    """
    from rankviz.core.forecast.bands import forecast_json
    from rankviz.core.forecast.quick_look import bent_json

    answer, bent = Api().forecasts.answer(model, use_case, metric=metric, runs=runs, parameters=parameters)
    if as_json:
        own = {"bent": bent_json(bent)} if bent else {}
        return print_json(forecast_json(answer) | own)
    _print(answer)
    if bent:
        print_bent(bent)


def _print(answer: "Forecast") -> None:
    from rankviz.core.forecast.bands import UNIT_WORDS

    print(answer.heading)
    for fact in answer.facts:
        print(f"- {fact}")
    if not answer.ranks:
        return
    table(
        f"Shortfall from r = {answer.reference_rank}, {UNIT_WORDS[answer.unit]}",
        ["Rank", "Median", "50 % band", "80 % band", "Published lines"],
        [
            [
                str(rank.r),
                _signed(f"{rank.median:.2f}"),
                _signed(f"{rank.low_50:.2f} to {rank.high_50:.2f}"),
                _signed(f"{rank.low_80:.2f} to {rank.high_80:.2f}"),
                "extrapolated" if rank.extrapolated else str(rank.lines_at_rank),
            ]
            for rank in answer.ranks
        ],
        notes=list(answer.sentences[1 + len(answer.facts) :]),
    )


def _signed(numbers: str) -> str:
    return numbers.replace("-", "−")


def print_bent(bent: "BentForecast") -> None:
    """The band between a sweep's runs as a table, and what it rests on."""
    table(
        f"Sweep {bent.sweep_id}: held-out loss, {bent.unit}",
        ["Rank", "Measured", "Median", "50 % band", "80 % band"],
        [
            [
                str(rank.r),
                "" if rank.measured is None else f"{rank.measured:.4f}",
                f"{rank.median:.4f}",
                *(
                    "" if low is None else f"{low:.4f} to {high:.4f}"
                    for low, high in ((rank.low_50, rank.high_50), (rank.low_80, rank.high_80))
                ),
            ]
            for rank in bent.ranks
        ],
        notes=list(bent.sentences),
    )
