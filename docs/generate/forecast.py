"""The tables of docs/forecast.md, and the section on forecasts in docs/accuracy.md, from assets/forecast.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from docs.generate.markdown import percent, table
from rankviz.core.advice.words import KINDS as KINDS_OF_TASK
from rankviz.core.forecast.bands import (
    ANY,
    ENOUGH_INSIDE,
    ENOUGH_POINTS,
    ENOUGH_PUBLICATIONS,
    KINDS,
    BandRecord,
    fact_words,
)
from rankviz.core.forecast.quick_look import APART, PICK_SHARE, SAFE_RANK

SHOWN_RANKS = (0, 2, 4, 6)
"""Places of r = 1, 4, 16 and 64 in a band."""
SHOWN_PUBLICATIONS = 2
METRICS = {"score": "scores (points)", "loss": "losses (%)"}
STATEMENTS = {
    "low_within_point": "r = 16 scored within one point of the best rank",
    "low_within_noise": "r = 16 scored within noise of the best rank, where ranks differed by more",
    "high_worse": "r = 64 was more than a point worse than r = 16",
    "high_worse_loss": "r = 64 was more than 0.5 % of a loss worse than r = 16",
}
RULES = {"advice": "RankViz's advice, left out", "capacity": "capacity rule"}

SECTION = """\
## Quality forecast

`make forecast` forecasts each publication from the others and compares every rank with the highest rank of its line
([how](forecast.md)). CRPS is the mean error of a whole band, in points for scores and in % of the loss for losses; each
publication weighs the same there. The forecast is half "no difference" with a band and half the rule of thumb with a
band; each half alone is in the table too. A kind is *validated* where the 80 % band held at least {inside} of at least
{points} points and {publications} publications, whether points or publications weigh the same, and where its CRPS was
no higher than that of "no difference".

{left_out}

The {worst} left-out publications whose forecast was furthest off by CRPS (`assets/forecast.json` has all):

{by_publication}

{quick_look}
"""
QUICK_LOOK = """\
### Quick look

Two runs, r = 4 and r = 64, and one repeat stand for a whole line: each published line of plain LoRA with four ranks or
more, the lowest at most 4, is forecast from its values at these two ranks (or its lowest or highest one). The repeat is
drawn {draws} times from the noise of the line: its published error, that of its test items, or else how far its values
lie from their neighbours. Losses are interpolated by r^-0.3 and the lowest rank within {share} of the lowest estimate
is picked; it counts as right within 0.5 % of the best rank. By a score the higher rank is picked where it is better by
more than {apart} times the noise, else r = {safe}; it counts as right within 1 point. Nothing in this was fitted to
these lines, but the form of the rule and of the curve was chosen after such lines had been seen.

{rows}

*Best between* compares with the ranks from the lower to the higher run, *best of all* also with ranks outside, of which
a quick look says nothing. The width is the mean of the 80 % bands, in ranges of the line. By a score, always r = {safe}
is right in {always} of the lines.
"""


def section(forecast: Mapping[str, Any]) -> str:
    """For docs/accuracy.md."""
    return SECTION.format(
        inside=percent(ENOUGH_INSIDE, 0),
        points=ENOUGH_POINTS,
        publications=ENOUGH_PUBLICATIONS,
        left_out=left_out(forecast["left_out"]),
        worst=SHOWN_PUBLICATIONS,
        by_publication=left_out(
            sorted(forecast["by_publication"], key=lambda row: -row["crps"])[:SHOWN_PUBLICATIONS], whole_kinds=False
        ),
        quick_look=quick_look(forecast["quick_look"]),
    )


def left_out(rows: Sequence[Mapping[str, Any]], *, whole_kinds: bool = True) -> str:
    """One row a kind, or a publication."""
    errors = ("crps", "crps_no_difference", "crps_no_difference_band", "crps_rule")
    shares = ("inside_80", "inside_80_by_publication") if whole_kinds else ("inside_80",)
    return table(
        [
            "Kind" if whole_kinds else "Left out",
            *(["Publications"] if whole_kinds else []),
            "Points",
            *("Inside 80 %", "by publication")[: len(shares)],
            *("CRPS", "no difference", "no difference, band", "rule of thumb, band"),
            *(["Validated"] if whole_kinds else []),
        ],
        [
            [
                _kind(row["kind"]),
                *([str(row["publications"])] if whole_kinds else []),
                str(row["points"]),
                *(percent(row[name], 0) for name in shares),
                *(f"{row[name]:.2f}" for name in errors),
                *(["yes" if BandRecord(**row).validated else "no"] if whole_kinds else []),
            ]
            for row in rows
        ],
    )


def _kind(kind: str) -> str:
    return "all scores" if kind == ANY else KINDS.get(kind, kind)


def bands(forecast: Mapping[str, Any]) -> str:
    """Median and 80 % band at four ranks."""
    return table(
        ["Of", "Publications", "Lines", "r = 1", "r = 4", "r = 16", "r = 64"],
        [
            [
                METRICS[metric],
                str(row["studies"]),
                str(row["lines"]),
                *(_cell(row["quantiles"], place) for place in SHOWN_RANKS),
            ]
            for metric, row in forecast["bands"].items()
        ],
    )


def _cell(quantiles: Mapping[str, Sequence[float]], place: int) -> str:
    median, low, high = (quantiles[level][place] for level in ("50", "10", "90"))
    return f"{median:.1f} ({low:.1f} to {high:.1f})".replace("-", "−")


def holds(forecast: Mapping[str, Any]) -> str:
    """One row a statement and kind, then what a learning rate cost."""
    rows = [
        [
            STATEMENTS[name] + (f" (median noise {row['noise']:.1f} points)" if "noise" in row else ""),
            _kind(row["kind"]),
            percent(row["share"], 0),
            str(row["publications"]),
            f"{percent(row['share_of_lines'], 0)} of {row['lines']}",
            "" if row["left_out_error"] is None else f"{100 * row['left_out_error']:.0f}",
        ]
        for name, rows in forecast["holds"].items()
        for row in rows
        if row["publications"]
    ]
    found = table(["Statement", "Over", "Publications in which it held", "of", "Lines", "Left out, points off"], rows)
    return "\n\n".join([found, [*fact_words(forecast, ANY)][-1]])


def regret(forecast: Mapping[str, Any]) -> str:
    """What each choice of rank cost, with 90 % intervals over publications."""

    def cell(row: Mapping[str, Any]) -> str:
        return f"{row['mean']:.2f} ({row['low']:.2f} to {row['high']:.2f})"

    def more(points: Sequence[float]) -> str:
        mean, low, high = points
        return f"{mean:.2f} ({low:.2f} to {high:.2f})".replace("-0.00", "0.00").replace("-", "−")

    def lines(row: Mapping[str, Any]) -> str:
        return f"{row['lines']} ({row['publications']})"

    more_than = "more than the advice"
    rows = table(
        ["Choice", "Mean rank", "Regret, points", more_than, "Lines", "Regret, % of the loss", more_than, "Lines"],
        [
            [
                RULES.get(row["rule"], f"always r = {row['rule']}"),
                f"{row['mean_rank']:.0f}",
                cell(row["score"]),
                "" if row["rule"] == "advice" else more(row["more"]),
                lines(row["score"]),
                cell(row["loss"]),
                "" if row["rule"] == "advice" else more(row["loss_more"]),
                lines(row["loss"]),
            ]
            for row in forecast["advice"]["alternatives"]
        ],
    )
    chosen = "; ".join(
        f"{KINDS_OF_TASK[kind]} {', '.join(f'r = {r} ({n})' for r, n in counts.items())}"
        for kind, counts in forecast["advice"]["chosen"].items()
    )
    return f"{rows}\n\nChosen for left-out publications: {chosen}."


def quick_look(check: Mapping[str, Any]) -> str:
    """How the quick look was checked, and a row a kind."""
    rows = [("all losses", check["loss"]), *check["loss_by_kind"].items(), ("all scores", check["score"])]
    return QUICK_LOOK.format(
        draws=check["draws"],
        share=percent(PICK_SHARE, 2),
        apart=APART,
        safe=SAFE_RANK,
        always=percent(check["score"]["within_always_16"], 0),
        rows=table(
            ["Lines", "Count", "Right, best between", "Right, best of all", "Inside 80 %", "Width, ranges"],
            [
                [
                    name,
                    str(row["lines"]),
                    *(percent(row[share], 0) for share in ("within", "within_of_all_ranks")),
                    percent(row["inside_80"], 0) if "inside_80" in row else "",
                    f"{row['width_in_ranges']:.2f}" if "inside_80" in row else "",
                ]
                for name, row in rows
            ],
        ),
    )
