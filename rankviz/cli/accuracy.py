"""`rankviz validate`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import Json, print_json, table
from rankviz.core.accuracy.report import as_json as report_json


def validate(
    file: Annotated[Path | None, typer.Argument(help="Measured rows as CSV; without it, those that ship.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the JSON into this file too.")] = None,
    as_json: Json = False,
) -> None:
    """Predict measured rows: error by group, and how many lie inside the band."""
    found = report_json(Api().accuracy.of_file(file) if file else Api().accuracy.remake())
    if output:
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if as_json:
        return print_json(found)
    _print_scores("Peak memory, rows of tier A and B", [*found["groups"], *filter(None, [found["overall"]])])
    if found["not_scored"]:
        _print_scores("Shown, not counted: something of these rows is not known", found["not_scored"])
    if time := found["time"]:
        inside, widest = _percent(time["inside_range"]), time["widest_high_over_low"]
        print(f"Time: {time['rows']} rows, mean error {_percent(time['mean_abs_error'])}, {inside} inside the range,")
        print(f"whose high end is at most {widest:.2f} times the low one.\n")
    if probes := [row for row in found["rows"] if row["two_depth_bytes"]]:
        _print_two_depths(probes)
    left_out = [row for row in found["rows"] if row["reason"] and row["predicted_bytes"] is None]
    if left_out:
        table(
            f"{len(left_out)} rows without a peak to compare",
            ["Row", "Group", "Why"],
            [[row["row_id"], row["group"], row["reason"]] for row in left_out],
        )


def _print_scores(title: str, scores: list[dict]) -> None:
    table(
        title,
        ["Group", "Rows", "Settings", "Mean error", "Worst", "Inside the band", "Band"],
        [
            [
                score["group"],
                str(score["rows"]),
                str(score["settings"]),
                _percent(score["mean_abs_error"]),
                f"{100 * score['worst_error']:+.1f} %",
                _percent(score["inside_band"]),
                f"±{_percent(score['mean_half_width'])}",
            ]
            for score in scores
        ],
    )


def _print_two_depths(rows: list[dict]) -> None:
    def off(row: dict, from_two: str, measured: str) -> str:
        return f"{100 * (row[from_two] / row[measured] - 1):+.1f} %" if row[from_two] else "not known"

    table(
        "Probes: two shallow depths against the whole model",
        ["Model", "Setting", "Memory", "From two depths", "Step", "From two depths"],
        [
            [
                row["model_id"],
                row["setting"],
                units.memory_size(row["measured_bytes"]),
                off(row, "two_depth_bytes", "measured_bytes"),
                units.duration(row["measured_seconds_per_step"]),
                off(row, "two_depth_seconds", "measured_seconds_per_step"),
            ]
            for row in rows
        ],
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
