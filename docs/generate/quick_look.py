"""The check of the quick look in docs/accuracy.md, from section "quick_look" of assets/forecast.json."""

from collections.abc import Mapping
from typing import Any

from docs.generate.markdown import percent, table
from rankviz.core.forecast.quick_look import APART, PICK_SHARE, SAFE_RANK

SECTION = """\
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


def section(check: Mapping[str, Any]) -> str:
    """Its method in words, and a row a kind and a study."""
    rows = [("all losses", check["loss"]), *check["loss_by_kind"].items(), ("all scores", check["score"])]
    rows += [(f"{row['kind']}, {row['group']}", row) for row in check["groups"]]
    return SECTION.format(
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
