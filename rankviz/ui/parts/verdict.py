"""A sweep's verdict on a page: its sentences, and how far each rank lies above the best."""

from collections.abc import Mapping
from typing import Any

from rankviz.figures import Difference, verdict_figure
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value

EMPTY = "No verdict yet: it needs finished runs."
SOURCE = (
    "Differences paired on held-out examples within a seed; 95 % intervals over runs and examples, all pairs at once."
)


def verdict_html(said: Mapping[str, Any] | None) -> str:
    """What Api.verdict_of_sweep or verdict_of_table returned: the first sentence large, the others under it."""
    if said is None:
        return html.paragraphs(EMPTY, css="rv-empty")
    first, *rest = said["sentences"]
    more = html.bullet_list(rest) if rest else ""
    return f'<div class="rv-verdict">{html.paragraphs(first, css="rv-said")}{more}</div>'


def verdict_chart(said: Mapping[str, Any] | None, *, height: int = 260) -> str:
    """The same as a figure, with its data as CSV."""
    if said is None or len(said["ranks"]) < 2:
        return chart_value(verdict_figure([], best=0, tolerance_nats=0.0, height=height), [], file="verdict")
    differences = [
        Difference(
            r=rank["r"],
            value=rank["above_best"],
            low=rank["above_best_low"],
            high=rank["above_best_high"],
            call="lowest loss" if rank["r"] == said["best"] else rank["call"],
        )
        for rank in said["ranks"]
    ]
    figure = verdict_figure(differences, best=said["best"], tolerance_nats=said["tolerance_nats"], height=height)
    return chart_value(figure, [_csv_row(rank, said) for rank in said["ranks"]], file="verdict", source=SOURCE)


def _csv_row(rank: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, object]:
    names = ("r", "loss", "seeds", "learning_rate", "learning_rates_tried", "above_best", "above_best_low")
    row = {name: rank[name] for name in (*names, "above_best_high", "call")}
    row |= {"best": said["best"], "tolerance_nats": said["tolerance_nats"], "examples": said["examples"]}
    return {name: "" if value is None else value for name, value in row.items()}
