"""The tables of docs/forecast.md, and the section on forecasts in docs/accuracy.md, from assets/forecast.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from docs.generate import quick_look
from docs.generate.markdown import percent, table
from rankviz.core.forecast.bands import ENOUGH_INSIDE, ENOUGH_POINTS, ENOUGH_PUBLICATIONS, LOSS, LeftOut
from rankviz.core.forecast.words import KINDS

SHOWN_RANKS = (0, 2, 4, 6)
"""Places of r = 1, 4, 16 and 64 in a band."""

SECTION = """\
## Quality forecast

`make forecast` forecasts each publication from the others and compares every rank with the highest rank of its line
([how](forecast.md)). CRPS is the mean error of a whole band, in points for scores and in % of the loss for losses; each
publication weighs the same there. The forecast is half the fitted curve and half the rule of thumb with a band; each
half alone is in the table too. A kind is *validated* where the 80 % band held at least {inside} of at least {points}
points and {publications} publications, whether points or publications weigh the same, and where its CRPS was no higher
than that of "no difference".

{left_out}

{without_kind} {same_data_set}

{quick_look}
"""


def section(forecast: Mapping[str, Any]) -> str:
    """For docs/accuracy.md."""
    return SECTION.format(
        inside=percent(ENOUGH_INSIDE, 0),
        points=ENOUGH_POINTS,
        publications=ENOUGH_PUBLICATIONS,
        left_out=left_out(forecast["left_out"]),
        without_kind=without_kind(forecast),
        same_data_set=_same_data_set(forecast["same_data_set"]),
        quick_look=quick_look.section(forecast["quick_look"]),
    )


def left_out(rows: Sequence[Mapping[str, Any]]) -> str:
    """One row a kind."""
    return table(
        [
            "Kind", "Publications", "Points", "Inside 50 %", "Inside 80 %", "Inside 80 %, by publication", "CRPS",
            "CRPS, no difference", "CRPS, rule of thumb with a band", "CRPS, curve alone", "Validated",
        ],
        [
            [
                KINDS[row["kind"]] if row["kind"] != "any" else "all scores",
                str(row["publications"]),
                str(row["points"]),
                *(percent(row[name], 0) for name in ("inside_50", "inside_80", "inside_80_by_publication")),
                *(f"{row[name]:.2f}" for name in ("crps", "crps_no_difference", "crps_rule", "crps_curve")),
                "yes" if LeftOut(**row).validated else "no",
            ]
            for row in rows
        ],
    )  # fmt: skip


def without_kind(forecast: Mapping[str, Any]) -> str:
    """What the kind of task adds, in a sentence."""
    known, unknown = next(row for row in forecast["left_out"] if row["kind"] == "any"), forecast["without_kind"]

    def record(row: Mapping[str, Any]) -> str:
        points, by_publication = (percent(row[name], 0) for name in ("inside_80", "inside_80_by_publication"))
        return f"a CRPS of {row['crps']:.2f} and held {points} of the points ({by_publication} by publication)"

    return (
        f"Over all scores, the band that knows the kind of task has {record(known)}; one that does not know it has "
        f"{record(unknown)}."
    )


def publications(forecast: Mapping[str, Any]) -> str:
    """One row a publication that was left out; scores first, then losses."""
    return table(
        [
            "Left out", "Points", "Inside 80 %", "CRPS", "CRPS, no difference", "CRPS, rule of thumb with a band",
            "CRPS, curve alone",
        ],
        [
            [
                row["kind"],
                str(row["points"]),
                percent(row["inside_80"], 0),
                *(f"{row[name]:.2f}" for name in ("crps", "crps_no_difference", "crps_rule", "crps_curve")),
            ]
            for row in forecast["by_publication"]
        ],
    )  # fmt: skip


def bands(forecast: Mapping[str, Any]) -> str:
    """Median and 80 % band at four ranks for each kind of score, and for three sizes of base model in loss."""
    shown = [row for row in forecast["bands"] if row["kind"] != LOSS or (row["base"] and row["parameters"] in SIZES)]
    return table(
        ["Kind", "Lines", "r = 1", "r = 4", "r = 16", "r = 64"],
        [[_name(row), str(row["lines"]), *(_cell(row["quantiles"], place) for place in SHOWN_RANKS)] for row in shown],
    )


SIZES = {1e9: "1 B", 1e10: "10 B", 1e11: "100 B"}


def _name(row: Mapping[str, Any]) -> str:
    if row["kind"] != LOSS:
        return f"{KINDS[row['kind']]} (points)"
    return f"loss of a base model of {SIZES[row['parameters']]} (%)"


def _cell(quantiles: Mapping[str, Sequence[float]], place: int) -> str:
    median, low, high = (quantiles[level][place] for level in ("50", "10", "90"))
    return f"{median:.1f} ({low:.1f} to {high:.1f})".replace("-", "−")


def _same_data_set(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    return (
        "With the data set known and a model family left out (one study of many models), the 80 % band for losses held "
        f"{percent(row['inside_80'], 0)} of {row['points']} points, CRPS {row['crps']:.2f} against "
        f"{row['crps_no_difference']:.2f} for no difference and {row['crps_rule']:.2f} for the rule of thumb. "
        "This says nothing of other data sets."
    )
