"""`rankviz validate`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rankviz.api import Api
from rankviz.cli.shared import Json, print_json, table


def validate(
    file: Annotated[Path | None, typer.Argument(help="Measured rows as CSV; without it, those that ship.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the JSON into this file too.")] = None,
    as_json: Json = False,
) -> None:
    """Predict measured rows: error by group, and how many lie inside the band."""
    found = Api().validate(file) if file else Api().validate_shipped()
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


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
