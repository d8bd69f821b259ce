"""`rankviz validate` and `rankviz verdict`: tables of measurements and of losses."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import Force, Json, print_json, require_new, table
from rankviz.core.accuracy.report import ReportRow, Score, TimeScore
from rankviz.errors import InvalidSettingError
from rankviz.units import NOT_KNOWN, counted
from rankviz.units import rounded_percent as percent

if TYPE_CHECKING:
    from rankviz.verdict import RankLoss, Verdict
    from rankviz.verdict.judge import AboveBest


def validate(
    file: Annotated[Path | None, typer.Argument(help="CSV file of measured runs; RankViz's own by default.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Also write the JSON to this file.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Predict measured runs: error by source, and the share inside the range."""
    if output:
        require_new(output, force=force)
    accuracy = Api().accuracy
    report = accuracy.of_file(file) if file else accuracy.remake()
    if output:
        output.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    if as_json:
        return print_json(asdict(report))
    overall = [report.overall] if report.overall else []
    if unseen := report.left_out:
        _print_scores("Peak memory: each source predicted without its own rows", [*unseen.origins, unseen.overall])
        if unseen.without_own_kind:
            print(f"No other source has the kind of setup of: {', '.join(unseen.without_own_kind)}.\n")
    seen = "Peak memory, counted rows (tiers A and B)" + (", with their sources seen" if unseen else "")
    _print_scores(seen, [*report.groups, *overall])
    if report.bounds:
        table(
            "Rows whose length is only a cap: the measured peak is at most the upper end",
            ["Table", "Rows", "Setups", "At most the upper end"],
            [[s.group, str(s.rows), str(s.settings), percent(s.inside_band)] for s in report.bounds],
        )
    if report.not_scored:
        _print_scores("Rows that are predicted and not counted (--json says why)", report.not_scored)
    if unseen and unseen.time:
        _print_time("Time, each source predicted without its own rows", unseen.time)
    if report.time:
        _print_time("Time, with their sources seen" if unseen else "Time", report.time)
    if report.probes:
        _print_two_depths(report.probes)
    if report.without_prediction:
        table(
            f"{counted(len(report.without_prediction), 'row')} without a prediction",
            ["Row", "Source", "Reason"],
            [[row.row_id, row.group, row.reason or ""] for row in report.without_prediction],
        )


def _print_time(title: str, time: TimeScore) -> None:
    print(
        f"{title}: {time.rows} rows, mean error {percent(time.mean_abs_error)}, {percent(time.inside_range)} inside "
        f"the range.\nThe high end of a range is at most {time.widest_high_over_low:.2f} times the low end.\n"
    )


def _print_scores(title: str, scores: Sequence[Score]) -> None:
    table(
        title,
        ["Source", "Rows", "Setups", "Mean error", "Largest error", "Inside the range", "Range"],
        [
            [
                score.group,
                str(score.rows),
                str(score.settings),
                percent(score.mean_abs_error),
                f"{100 * score.worst_error:+.1f} %",
                percent(score.inside_band),
                f"±{percent(score.mean_half_width)}",
            ]
            for score in scores
        ],
    )


def _print_two_depths(rows: Sequence[ReportRow]) -> None:
    table(
        "Probes: two small depths compared with the whole model",
        ["Model", "Setup", "Memory", "From two depths", "Step", "From two depths"],
        [
            [
                row.model_id,
                row.setting,
                units.memory_size(row.measured_bytes),
                _signed(row.two_depth_error),
                units.duration(row.measured_seconds_per_step),
                _signed(row.two_depth_time_error),
            ]
            for row in rows
        ],
    )


def _signed(share: float | None) -> str:
    return NOT_KNOWN if share is None else f"{100 * share:+.1f} %"


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
