"""Shows the held-out loss by rank of one sweep: a figure, what follows from it, and its verdict."""

from collections.abc import Sequence
from typing import NamedTuple

from rankviz import units
from rankviz.api import Api
from rankviz.core.forecast.decision import Decision
from rankviz.core.quantity import Range
from rankviz.core.runs.fast_curve import Fidelity, Reading, SettingFidelity
from rankviz.core.runs.metric import LOSS, METRICS, Metric
from rankviz.core.runs.record import Sweep
from rankviz.core.runs.words import still_training
from rankviz.errors import BusyError, LimitError
from rankviz.figures import rank_curve_figure, rank_curve_info, verdict_figure, verdict_info
from rankviz.figures.rank_curve import WHAT_A_FAST_CURVE_IS, file_text, how_made
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, exact, exact_span, rounded
from rankviz.ui.wiring import notice_html
from rankviz.verdict import Answer, Shipped, Verdict, sentences, shipped, summary


def decision_html(decision: Decision) -> str:
    """The two answers said apart, then the forecast in words and as a table."""
    answers = [("What to train", decision.train_sentences), ("What to ship", decision.ship_sentences)]
    columns = "".join(
        f"<div>{html.titled(title, html.paragraphs(first, css='rv-headline') + html.bullet_list(rest))}</div>"
        for title, sentences in answers
        if sentences
        for first, *rest in [sentences]
    )
    forecast = html.bullet_list(decision.forecast.sentences)
    return (
        f'<div class="rv-verdict"><div class="rv-halves">{columns}</div>'
        f"{html.titled('Forecast between the runs', forecast)}"
        f"{html.folded('Forecast by rank', forecast_table(decision))}</div>"
    )


def forecast_table(decision: Decision) -> str:
    """The band at each rank, the one to train in bold."""
    rows = [
        html.Row(
            [
                f"r = {rank.r}",
                rounded(NATS, rank.median, PER_TOKEN),
                _band(rank.low_50, rank.median, rank.high_50),
                _band(rank.low_80, rank.median, rank.high_80),
                "" if rank.measured is None else rounded(NATS, rank.measured, PER_TOKEN),
            ],
            chosen=rank.r == decision.train_rank,
        )
        for rank in decision.forecast.ranks
    ]
    headers = ["Rank", "Estimated loss", "50 % band", "80 % band", "Measured runs"]
    return html.table(headers, rows, label="Forecast by rank, nats per token")


def _band(low: float | None, median: float, high: float | None) -> Cell | str:
    return "" if low is None else Cell(f"{low:.4f} – {high:.4f}", title=exact_span(Range(low, median, high), PER_TOKEN))


EMPTY = "No verdict yet. A verdict needs finished runs."


def summary_html(answers: Sequence[Answer]) -> str:
    """The answers side by side, each with its sentence; nothing where there is none."""
    if not answers:
        return ""
    return html.figures([html.Figure(each.about, _value(each), each.sentence) for each in answers])


def _value(answer: Answer) -> html.Cell:
    """With the exact size of the file on hover."""
    return html.Cell(answer.value, title="" if answer.file_bytes is None else html.exact(answer.file_bytes, "bytes"))


def verdict_html(verdict: Verdict | None) -> str:
    """The first sentence large, the others under it."""
    if verdict is None:
        return html.paragraphs(EMPTY, css="rv-empty")
    first, *rest = sentences(verdict)
    return f'<div class="rv-verdict">{html.paragraphs(first, css="rv-headline")}{html.bullet_list(rest)}</div>'


def verdict_chart(verdict: Verdict | None, *, height: int = 260) -> str:
    """The same as a figure, with its data as CSV."""
    info = verdict_info(verdict)
    return chart_value(verdict_figure.drawing(info, height=height), info.rows, file="verdict", source=info.source)


NOT_RECORDED = "The recording does not include this adapter."
NOT_IMPORTED = "The files of this adapter are not on this machine."


class Curve(NamedTuple):
    chart: str
    summary: str
    """What to train next, what to ship now and how sure that is, in at most three sentences."""
    details: str
    """All sentences, and the forecast by rank."""
    verdict: Verdict | None
    """Of several ranks that ran by themselves; None of a fast curve alone, which has nothing to compare."""
    within: float
    """What counts as equal, in nats or points."""
    reading: Reading | None
    """Of the best fast curve; None of a sweep without one."""
    truncated: str
    """The best fast curve as a table; nothing where there is none."""
    decision: Decision | None
    """Of a sweep with finished runs at two ranks, by loss; None where another metric is shown."""
    ship: Shipped | None
    """What the summary says to ship; None where it says nothing of it, or where its files are not here."""
    why_not: str = ""
    """Why its runs cannot be compared here or now."""
    is_busy: bool = False
    """Whether that passes by itself: it is to be drawn again."""

    @property
    def words(self) -> str:
        """The summary, and the details folded under it."""
        return self.summary + (html.folded("Details", self.details) if self.details else "")


def curve(
    api: Api, sweep: Sweep, tolerance: float | str | None = None, *, height: int = 320, metric: Metric = LOSS
) -> Curve:
    """As far as the sweep has got. tolerance: what counts as equal, as api.verdicts.of_sweep takes it. A fast curve is
    read by its loss in every metric, with the usual tolerance where another metric is shown."""
    try:
        return _judged(api, sweep, tolerance, height=height, metric=metric)
    except LimitError as error:
        return _unjudged(error, metric)


def _judged(api: Api, sweep: Sweep, tolerance: float | str | None, *, height: int, metric: Metric) -> Curve:
    judged = api.verdicts.of_sweep(sweep.sweep_id, tolerance, metric.key)
    by_loss = judged if metric is LOSS else None
    reading = api.verdicts.fast_curve(sweep.sweep_id, tolerance if metric is LOSS else None, by_loss)
    verdict = judged.verdict if judged else None
    compares = verdict is not None and (len(verdict.ranks) > 1 or reading is None)
    decision = api.decisions.of(sweep.sweep_id, tolerance, by_loss) if metric is LOSS else None
    ship = shipped(verdict, decision, reading)
    here = ship is None or api.adapters.is_here(ship.run_id, ship.r)
    score = api.decisions.score(sweep.sweep_id, metric)
    answers = summary(
        verdict,
        decision,
        reading,
        steps=min((run.request.max_steps for run in sweep.runs if run.loss_after), default=0),
        rate=api.decisions.rate(sweep.sweep_id),
        score=score,
        not_here="" if here else NOT_RECORDED if sweep.recorded else NOT_IMPORTED,
    )
    details = [
        decision_html(decision) if decision else "",
        fast_curve_html(reading, api.accuracy.fidelity()) if reading else "",
        verdict_html(verdict) if compares else "",
    ]
    judged_by_seeds = compares and not verdict.unknown
    if judged_by_seeds:
        details.reverse()
    info = rank_curve_info(
        sweep,
        verdict,
        metric=metric,
        forecast=decision.forecast if decision else None,
        picked=score.pick if score else decision.train_rank if decision and not judged_by_seeds else None,
    )
    return Curve(
        chart=chart_value(
            rank_curve_figure.drawing(info, height=height), info.rows, file="rank-curve", source=info.source
        ),
        summary=_going(sweep) if not sweep.ended else summary_html(answers),
        details="".join(details),
        verdict=verdict if compares else None,
        within=verdict.within if verdict else metric.tolerance,
        reading=reading,
        truncated=truncated_table(reading) if reading else "",
        decision=decision,
        ship=ship if here else None,
    )


def _going(sweep: Sweep) -> str:
    """That it is not judged yet; nothing before there is anything to judge."""
    return html.paragraphs(still_training(sweep)) if any(run.loss_after for run in sweep.runs) else ""


def _unjudged(why: LimitError, metric: Metric) -> Curve:
    """Of runs that cannot be compared here or now."""
    return Curve(
        chart="",
        summary=notice_html(str(why), kind="error"),
        details="",
        verdict=None,
        within=metric.tolerance,
        reading=None,
        truncated="",
        decision=None,
        ship=None,
        why_not=str(why),
        is_busy=isinstance(why, BusyError),
    )


def fast_curve_html(reading: Reading, fidelity: Fidelity | None) -> str:
    """Of the best curve; others, of other seeds and rates, are in the figure."""
    first, *rest = reading.sentences
    rest += [WHAT_A_FAST_CURVE_IS, *fidelity_words(fidelity)]
    body = html.paragraphs(first, css="rv-headline") + html.bullet_list(rest) + fidelity_table(fidelity)
    return f'<div class="rv-verdict">{body}</div>'


def truncated_table(reading: Reading) -> str:
    """Every rank of a fast curve, the one that it names in bold."""
    points = reading.curve.points
    accuracies = [m for m in METRICS.values() if m is not LOSS and any(m.of(point) is not None for point in points)]
    rows = [
        html.Row(
            [
                f"r = {point.r}",
                html.Cell(how_made(point, reading.curve), kind="left"),
                rounded(NATS, point.loss, PER_TOKEN),
                rounded(NATS, reading.above_lowest(point), PER_TOKEN),
                *("–" if (value := m.of(point)) is None else m.text(value) for m in accuracies),
                f"{point.parameters:,}",
                Cell(file_text(point, reading.curve), title=exact(point.adapter_bytes, "bytes")),
            ],
            chosen=point is reading.chosen,
        )
        for point in points
    ]
    headers = ["Rank", "Made by", "Held-out loss", "Above the lowest", *(m.label for m in accuracies)]
    headers += ["Parameters", "Adapter file"]
    return html.titled("Fast curve by rank", html.table(headers, rows, label="Fast curve by rank", left=2))


def fidelity_words(fidelity: Fidelity | None) -> Sequence[str]:
    """How near fast curves have been to independent runs, as measured."""
    if fidelity is None:
        return []
    cases, medians = len(fidelity.cases), fidelity.median_absolute_difference
    differences = [
        f"{median:.3f} {name}"
        for name, median in (
            ("at r ≥ 8", medians["r >= 8, fixed alpha"]),
            ("at r = 2 and 4", medians["r = 2 and 4, fixed alpha"]),
            ("at r ≥ 8 with α = r", medians["r >= 8, alpha = r"]),
        )
        if median is not None
    ]
    apart = fidelity.independent_runs_apart["r >= 8, fixed alpha"]
    scale = f" Independent runs of two ranks from r = 8 differed by {apart:.3f} nats." if apart is not None else ""
    return [
        f"Accuracy of fast curves in {cases} measured cases: the median difference from independent runs was, in nats, "
        f"{'; '.join(differences)}.{scale}",
        f"A run at the rank that the fast curve picked was within {fidelity.tolerance_nats:g} nats of the best run in "
        f"{fidelity.regret_within_tolerance} of {cases} cases, and at most {fidelity.largest_regret:.3f} nats worse. "
        f"The truncated adapter at that rank was within the same distance in {fidelity.cut_within_tolerance} of "
        f"{cases}, a run at the highest rank in {fidelity.highest_within_tolerance} of {cases}.",
    ]


def fidelity_table(fidelity: Fidelity | None) -> str:
    """The same by setting, its seeds together."""
    if fidelity is None:
        return ""
    ranks = sorted({r for each in fidelity.settings for r in each.differences})
    rows = [
        html.Row(
            [
                html.Cell(_setting(each), kind="wrap"),
                str(each.cases),
                *(_signed(each.differences.get(r)) for r in ranks),
                ", ".join(map(str, each.picked)),
                *(
                    rounded("{:.3f}".format, x, "nats")
                    for x in (each.regret, each.regret_of_cut, each.regret_of_highest)
                ),
            ]
        )
        for each in fidelity.settings
    ]
    headers = ["Setting", "Seeds", *(f"truncated − run, r = {r}" for r in ranks), "Picked r"]
    headers += ["Above the best: run at picked r", "truncated adapter", "run at the highest r"]
    about = html.paragraphs("Held-out loss in nats, means over the seeds of a setting.")
    return html.folded(
        "Accuracy of fast curves by setting",
        about + html.table(headers, rows, label="Fast curves beside independent runs"),
    )


def _setting(each: SettingFidelity) -> str:
    rate = f"learning rate {each.learning_rate:g}" if each.learning_rate else "learning rate tuned at each rank"
    alpha = "α fixed" if each.alpha == "fixed" else "α = r"
    return f"{each.base}, {each.data}, {units.counted(each.steps, 'step')}, {alpha}, {rate}"


def _signed(difference: float | None) -> Cell | str:
    if difference is None:
        return ""
    return Cell(f"{difference:+.3f}".replace("-", "−"), title=exact(difference, "nats"))
