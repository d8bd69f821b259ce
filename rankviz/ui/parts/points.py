"""Shows the trade-off figure and the choice of its axes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from rankviz.core.runs.metric import LOSS, measured_metrics
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.figures import COST_AXES, QUALITY_AXES, tradeoff_figure, tradeoff_info
from rankviz.figures.sweep.tradeoff import NONE_KNOWN
from rankviz.ui.parts.charts import chart_value
from rankviz.verdict import Verdict

X_CHOICES = [(axis.label, name) for name, axis in COST_AXES.items()]
X_WITHOUT_PRICE = [(label, name) for label, name in X_CHOICES if name != "money"]
"""Where no price is asked for."""
LOSS_CHOICES = [(axis.label, name) for name, axis in QUALITY_AXES.items() if axis.metric is LOSS]


def quality_choices(runs: Iterable[RunRecord]) -> list[tuple[str, str]]:
    """The quality axes that these runs have a value for."""
    known = measured_metrics(runs)
    return [(axis.label, name) for name, axis in QUALITY_AXES.items() if axis.metric in known]


class Drawn(NamedTuple):
    chart: str
    caption: str
    """Plain text; it names files, so whoever shows it escapes it."""


def tradeoff_chart(
    sweeps: Sequence[Sweep],
    *,
    x: str,
    y: str,
    run_ids: Collection[str] | None = None,
    usd_per_hour: float | None = None,
    tolerance: float | None = None,
    verdicts: Mapping[str, Verdict] = NONE_KNOWN,
    height: int = 380,
) -> Drawn:
    """The figure with its data, and what it shows in sentences. Arguments as for tradeoff_info."""
    shown = {"x": x, "y": y, "run_ids": run_ids, "usd_per_hour": usd_per_hour}
    info = tradeoff_info(sweeps, **shown, tolerance=tolerance, verdicts=verdicts)
    caption = " ".join(info.notes)
    return Drawn(
        chart_value(tradeoff_figure.drawing(info, height=height), info.rows, file="tradeoff", source=caption), caption
    )
