"""Shows the held-out loss by rank of one sweep: a figure, what follows from it, and its verdict."""

from collections.abc import Sequence

from rankviz.api import Api
from rankviz.core.forecast.decision import Decision
from rankviz.core.quantity import Range
from rankviz.core.runs.fast_curve import Reading
from rankviz.core.runs.metric import LOSS, METRICS, Metric
from rankviz.core.runs.record import Sweep
from rankviz.core.runs.words import still_training
from rankviz.errors import BusyError, LimitError
from rankviz.figures import rank_curve_figure, rank_curve_info
from rankviz.figures.rank_curve import BEST, MARKS, WHAT_A_FAST_CURVE_IS, file_text, how_made
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, Row, exact, exact_span, rounded
from rankviz.ui.wiring import View
from rankviz.verdict import Answer, Verdict, sentences, shipped, summary

EMPTY = "No verdict yet. A verdict needs finished runs."
NOT_RECORDED = "The recording does not include this adapter."
NOT_IMPORTED = "The files of this adapter are not on this machine."


def curve(
    api: Api, sweep: Sweep, tolerance: float | str | None = None, *, height: int = 320, metric: Metric = LOSS
) -> View:
    """As far as the sweep has got. tolerance: what counts as equal, as api.verdicts.of_sweep takes it. A fast curve is
    read by its loss in every metric, with the usual tolerance where another metric is shown.

    Returns `chart`; `summary`, what to train next, what to ship and how sure that is; `details`, all sentences and the
    forecast; `verdict`, of several ranks that ran by themselves; `within`, what counts as equal, in nats or points;
    `reading`, of the best fast curve, and `truncated`, the same as a table; `decision`, by loss; `ship`, what is to be
    shipped and is here. Of runs that cannot be compared `why_not` says why, and `is_busy` whether that passes.
    """
    try:
        return _judged(api, sweep, tolerance, height, metric)
    except LimitError as error:
        shown = dict.fromkeys(("chart", "details", "truncated"), "") | {"why_not": str(error)}
        shown |= dict.fromkeys(("verdict", "reading", "decision", "ship"))
        shown |= {"within": metric.tolerance, "is_busy": isinstance(error, BusyError)}
        return View(summary=html.notice_html(str(error), kind="error"), **shown)


def _judged(api: Api, sweep: Sweep, tolerance: float | str | None, height: int, metric: Metric) -> View:
    judged = api.verdicts.of_sweep(sweep.sweep_id, tolerance, metric.key)
    by_loss = judged if metric is LOSS else None
    reading = api.verdicts.fast_curve(sweep.sweep_id, tolerance if metric is LOSS else None, by_loss)
    verdict = judged.verdict if judged else None
    compares = verdict is not None and (len(verdict.ranks) > 1 or reading is None)
    decision = api.decisions.of(sweep.sweep_id, tolerance, by_loss) if metric is LOSS else None
    ship = shipped(verdict, decision, reading)
    here = ship is None or api.adapters.is_here(ship.run_id, ship.r)
    score = api.decisions.score(sweep.sweep_id, metric)
    judged_by_seeds = compares and not verdict.unknown
    details = [
        decision_html(decision) if decision else "",
        fast_curve_html(reading) if reading else "",
        verdict_html(verdict) if compares else "",
    ]
    info = rank_curve_info(
        sweep,
        verdict,
        metric=metric,
        forecast=decision.forecast if decision else None,
        picked=score.pick if score else decision.train_rank if decision and not judged_by_seeds else None,
    )
    drawing = rank_curve_figure.drawing(info, height=height)
    return View(
        chart=chart_value(drawing, info.rows, file="rank-curve", source=info.source),
        summary=_summary(
            sweep,
            summary(
                verdict,
                decision,
                reading,
                steps=min((run.request.max_steps for run in sweep.runs if run.loss_after), default=0),
                rate=api.decisions.rate(sweep.sweep_id),
                score=score,
                not_here="" if here else NOT_RECORDED if sweep.recorded else NOT_IMPORTED,
            ),
        ),
        details="".join(reversed(details) if judged_by_seeds else details),
        verdict=verdict if compares else None,
        within=verdict.within if verdict else metric.tolerance,
        reading=reading,
        truncated=truncated_table(reading) if reading else "",
        decision=decision,
        ship=ship if here else None,
        why_not="",
        is_busy=False,
    )


def _summary(sweep: Sweep, answers: Sequence[Answer]) -> str:
    """The answers side by side, each with its sentence; that it is not judged yet while it trains."""
    if not sweep.ended:
        return html.paragraphs(still_training(sweep)) if any(run.loss_after for run in sweep.runs) else ""
    sizes = ["" if each.file_bytes is None else exact(each.file_bytes, "bytes") for each in answers]
    figures = [
        html.Figure(each.about, Cell(each.value, title=size), each.sentence)
        for each, size in zip(answers, sizes, strict=True)
    ]
    return html.figures(figures) if figures else ""


def decision_html(decision: Decision) -> str:
    """The two answers said apart, then the forecast in words and as a table."""
    answers = [("What to train", decision.train_sentences), ("What to ship", decision.ship_sentences)]
    columns = "".join(f"<div>{html.titled(title, html.headlined(words))}</div>" for title, words in answers if words)
    forecast = html.titled("Forecast between the runs", html.bullet_list(decision.forecast.sentences))
    table = html.folded("Forecast by rank", forecast_table(decision))
    return html.verdict(f'<div class="rv-halves">{columns}</div>{forecast}{table}')


def forecast_table(decision: Decision) -> str:
    """The band at each rank, the one to train in bold."""

    def band(low: float | None, median: float, high: float | None) -> Cell | str:
        span = "" if low is None else f"{low:.4f} – {high:.4f}"
        return Cell(span, title=exact_span(Range(low, median, high), PER_TOKEN)) if span else ""

    rows = [
        Row(
            [
                f"r = {rank.r}",
                rounded(NATS, rank.median, PER_TOKEN),
                band(rank.low_50, rank.median, rank.high_50),
                band(rank.low_80, rank.median, rank.high_80),
                "" if rank.measured is None else rounded(NATS, rank.measured, PER_TOKEN),
            ],
            chosen=rank.r == decision.train_rank,
        )
        for rank in decision.forecast.ranks
    ]
    headers = ["Rank", "Estimated loss", "50 % band", "80 % band", "Measured runs"]
    return html.table(headers, rows, label="Forecast by rank, nats per token")


def verdict_html(verdict: Verdict | None) -> str:
    """The first sentence large, the others under it."""
    return html.empty(EMPTY) if verdict is None else html.verdict(html.headlined(sentences(verdict)))


def verdict_table(verdict: Verdict) -> str:
    """The difference of each rank from the best, paired by seed, with its interval."""
    metric, rows = verdict.metric, []
    digits, side = (1, "Below") if metric.higher_is_better else (4, "Above")
    for rank in verdict.ranks:
        above, is_best = verdict.above_best(rank.r), rank.r == verdict.best
        span = "not known" if above.low is None else f"{above.low:+.{digits}f} to {above.high:+.{digits}f}"
        words = MARKS[BEST if is_best else rank.call].words
        cells = [f"r = {rank.r}", f"{above.value:+.{digits}f}", "" if is_best else span, Cell(words, kind="left")]
        rows.append(Row(cells, chosen=is_best))
    headers = ["Rank", f"{side} r = {verdict.best}, {metric.units}", "95 % interval", "Verdict"]
    title = "Difference from the best rank"
    return html.titled(title, html.table(headers, rows, label=title))


def fast_curve_html(reading: Reading) -> str:
    """Of the best curve; others, of other seeds and rates, are in the figure."""
    return html.verdict(html.headlined([*reading.sentences, WHAT_A_FAST_CURVE_IS]))


def truncated_table(reading: Reading) -> str:
    """Every rank of a fast curve, the one that it names in bold."""
    points = reading.curve.points
    accuracies = [m for m in METRICS.values() if m is not LOSS and any(m.of(point) is not None for point in points)]
    rows = [
        Row(
            [
                f"r = {point.r}",
                Cell(how_made(point, reading.curve), kind="left"),
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
    table = html.table([*headers, "Parameters", "Adapter file"], rows, label="Fast curve by rank", left=2)
    return html.titled("Fast curve by rank", table)
