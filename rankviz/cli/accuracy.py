"""`rankviz validate`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import Force, Json, print_json, require_new, table
from rankviz.core.accuracy.report import ReportRow, Score, TimeScore
from rankviz.core.accuracy.report import as_json as report_json
from rankviz.units import NOT_KNOWN, counted
from rankviz.units import rounded_percent as percent


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
        output.write_text(json.dumps(report_json(report), indent=1) + "\n", encoding="utf-8")
    if as_json:
        return print_json(report_json(report))
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
