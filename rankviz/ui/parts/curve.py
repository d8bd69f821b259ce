"""Held-out loss by rank of one sweep, fast curve or both: the figure, and what it says in words."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rankviz import units
from rankviz.api import Api
from rankviz.api.json import verdict_json
from rankviz.core.runs.fast_curve import CurvePoint, FastCurve, anchors_of, fast_curves, in_words, partings, pick
from rankviz.core.runs.fidelity import as_json as fidelity_json
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.tradeoff import TOLERANCE_NATS, RankGroup, TradeoffPoint, by_rank
from rankviz.figures import CutLine, CutPoint, RunPoint, rank_figure
from rankviz.ui.parts import html, live
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.verdict import verdict_html

WHAT_IT_IS = (
    "The dashed curve is one training, cut to each rank: it says how much rank the learned update needs. It doesn't "
    "say what a run of a lower rank would learn in this time; independent runs do."
)


class Curve(NamedTuple):
    chart: str
    words: str
    verdict: Mapping[str, Any] | None
    tolerance_nats: float
    cuts: str
    """The best fast curve as a table; nothing where there is none."""


def curve(api: Api, sweep: Sweep, tolerance: float | str = TOLERANCE_NATS, *, height: int = 320) -> Curve:
    """As far as the sweep has got. tolerance: what counts as equal, as Api.verdict_of_sweep takes it."""
    judged = api.verdicts.of_sweep(sweep.sweep_id, tolerance)
    said = verdict_json(judged) if judged else None
    nats = said["tolerance_nats"] if said else TOLERANCE_NATS
    groups = _groups(sweep.runs, said)
    curves = fast_curves(sweep.runs)
    picked = pick(curves[0], nats).r if curves else said and said["smallest_indistinguishable"]
    decided = curves or (said and len(said["ranks"]) > 1)
    figure = rank_figure(
        [_run_point(group) for group in groups],
        [_line(each, sweep) for each in curves],
        picked=picked if decided else None,
        height=height,
    )
    words = _fast_words(api, sweep, curves[0], said, nats) if curves else ""
    # One trained rank is nothing to compare: the fast curve has said what there is.
    compared = said if said and (len(said["ranks"]) > 1 or not curves) else None
    return Curve(
        chart=chart_value(figure, _csv(groups, curves), file="rank-curve", source=_source(sweep, curves)),
        words=words + (verdict_html(compared) if compared else ""),
        verdict=compared,
        tolerance_nats=nats,
        cuts=_cuts_table(curves[0], nats) if curves else "",
    )


def _source(sweep: Sweep, curves: Sequence[FastCurve]) -> str:
    """What a file with this figure has to say of it."""
    request = sweep.runs[0].request
    measured = f"Measured by RankViz, sweep {sweep.sweep_id}: {live.title(sweep)}, {request.max_steps} steps."
    return f"{measured} {WHAT_IT_IS}" if curves else measured


def _groups(runs: Sequence[RunRecord], said: Mapping[str, Any] | None) -> Sequence[RankGroup]:
    if said is None:
        return ()
    points = [
        TradeoffPoint(
            r=run.request.r,
            cost=float(run.adapter_bytes or 0),
            loss=run.loss_after.loss,
            learning_rate=run.request.learning_rate,
            seed=run.request.seed,
            run_id=run.run_id,
        )
        for run in runs
        if run.loss_after
    ]
    return by_rank(points, {rank["r"]: rank["learning_rate"] for rank in said["ranks"]})


def _run_point(group: RankGroup) -> RunPoint:
    spread = group.spread
    repeats = f"{group.runs} seeds, bar is one standard deviation" if spread is not None else "one run"
    return RunPoint(
        r=group.r,
        loss=group.loss,
        low=None if spread is None else group.loss - spread,
        high=None if spread is None else group.loss + spread,
        run_id=group.points[0].run_id,
        detail=f"learning rate {group.learning_rate:g}, {repeats}",
    )


def _line(found: FastCurve, sweep: Sweep) -> CutLine:
    seed = next(run.request.seed for run in sweep.runs if run.run_id == found.run_id)
    return CutLine(
        label=f"fast curve: r = {found.trained.r} cut, seed {seed}",
        run_id=found.run_id,
        points=[CutPoint(point.r, point.loss, _detail(point, found)) for point in found.points],
    )


def _detail(point: CurvePoint, found: FastCurve) -> str:
    about = "" if point is found.trained else "about "
    return f"{_made(point, found)}, {about}{units.file_size(point.adapter_bytes)}"


def _fast_words(api: Api, sweep: Sweep, found: FastCurve, said: Mapping[str, Any] | None, tolerance: float) -> str:
    """Of the best curve; others, of other seeds and rates, are on the chart."""
    anchors = anchors_of(found, sweep.runs)
    measured = said["run_sd"] if said else None
    parted = partings(found, anchors, measured or TOLERANCE_NATS)
    first, *rest = in_words(found, parted, {run.request.r for run in anchors}, tolerance)
    if anchors and not measured:
        rest.append(
            f"How far runs lie from one another is not measured here; {TOLERANCE_NATS:g} nats, what short runs have "
            "shown elsewhere, stands for it."
        )
    rest += [WHAT_IT_IS, *fidelity_words(api)]
    said = html.paragraphs(first, css="rv-said") + html.bullet_list(rest) + fidelity_table(api)
    return f'<div class="rv-verdict">{said}</div>'


def _cuts_table(found: FastCurve, tolerance: float) -> str:
    best, picked = min(point.loss for point in found.points), pick(found, tolerance)
    rows = [
        html.Row(
            [
                f"r = {point.r}",
                html.Cell(_made(point, found), kind="left"),
                f"{point.loss:.4f}",
                f"{point.loss - best:.4f}",
                f"{point.parameters:,}",
                ("" if point is found.trained else "about ") + units.file_size(point.adapter_bytes),
            ],
            chosen=point is picked,
        )
        for point in found.points
    ]
    headers = ["Rank", "How it was made", "Held-out loss", "Above the lowest", "Parameters", "Adapter file"]
    return html.titled("The fast curve in numbers", html.table(headers, rows, label="Fast curve by rank", left=2))


def _made(point: CurvePoint, found: FastCurve) -> str:
    if point is found.trained:
        return "trained"
    return f"cut, {point.recovery_steps} steps more" if point.recovery_steps else "cut"


def fidelity_words(api: Api) -> list[str]:
    """How near fast curves have been to independent runs, as measured."""
    fidelity = api.accuracy.fidelity()
    if not fidelity:
        return []
    measured = fidelity_json(fidelity)
    cases, medians = len(measured["cases"]), measured["median_absolute_difference"]
    said = [
        f"{name} {median:.3f}"
        for name, median in (
            ("at r ≥ 8", medians["r >= 8, fixed alpha"]),
            ("at r = 2 and 4", medians["r = 2 and 4, fixed alpha"]),
            ("with α = r at r ≥ 8", medians["r >= 8, alpha = r"]),
        )
        if median is not None
    ]
    apart = measured["independent_runs_apart"]["r >= 8, fixed alpha"]
    yardstick = f" Independent runs of two ranks from 8 up lay {apart:.3f} apart." if apart is not None else ""
    within, highest = measured["regret_within_tolerance"], measured["highest_within_tolerance"]
    return [
        f"Beside independent runs in {cases} cases fast curves were off by, median in nats: {'; '.join(said)}."
        f"{yardstick} The rank that they pick was within {measured['tolerance_nats']:g} nats of the best rank's run in "
        f"{within} of {cases}, {measured['largest_regret']:.3f} off at most; the cut itself at that rank was in "
        f"{measured['cut_within_tolerance']}, and always taking the highest rank in {highest}."
    ]


def fidelity_table(api: Api) -> str:
    """The same by setting, its seeds together."""
    fidelity = api.accuracy.fidelity()
    if not fidelity:
        return ""
    measured = fidelity_json(fidelity)
    ranks = sorted({int(r) for each in measured["settings"] for r in each["differences"]})
    rows = [
        html.Row(
            [
                html.Cell(_setting(each), kind="wrap"),
                str(each["cases"]),
                *(_signed(each["differences"].get(str(r))) for r in ranks),
                ", ".join(map(str, each["picked"])),
                *(f"{each[name]:.3f}" for name in ("regret", "regret_of_cut", "regret_of_highest")),
            ]
        )
        for each in measured["settings"]
    ]
    headers = ["Setting", "Seeds", *(f"cut − run, r = {r}" for r in ranks), "Picked r"]
    headers += ["Above the best: its run", "its cut", "the highest rank's run"]
    about = html.paragraphs("Held-out loss in nats, means over the seeds of a setting.")
    return html.folded(
        "How near fast curves have been, by setting",
        about + html.table(headers, rows, label="Fast curves beside independent runs"),
    )


def _setting(each: Mapping[str, Any]) -> str:
    rate = f"learning rate {each['learning_rate']:g}" if each["learning_rate"] else "learning rate tuned at each rank"
    alpha = "α fixed" if each["alpha"] == "fixed" else "α = r"
    return f"{each['base']}, {each['data']}, {each['steps']:,} steps, {alpha}, {rate}"


def _signed(difference: float | None) -> str:
    return "" if difference is None else f"{difference:+.3f}".replace("-", "−")


def _csv(groups: Sequence[RankGroup], curves: Sequence[FastCurve]) -> list[dict[str, object]]:
    rows = [
        {
            "kind": "independent runs",
            "r": group.r,
            "loss": group.loss,
            "standard_deviation": "" if group.spread is None else group.spread,
            "runs": group.runs,
            "recovery_steps": "",
            "learning_rate": group.learning_rate,
        }
        for group in groups
    ]
    return rows + [
        {
            "kind": f"cut of {found.run_id}",
            "r": point.r,
            "loss": point.loss,
            "standard_deviation": "",
            "runs": 1,
            "recovery_steps": point.recovery_steps,
            "learning_rate": "",
        }
        for found in curves
        for point in found.points
    ]
