"""Training loss by step, one line per run, with a limited number of points."""

from collections.abc import Collection, Sequence
from math import isfinite, log2
from typing import NamedTuple

from rankviz.core.runs.record import Sweep
from rankviz.core.runs.run_time import FEW, thinned
from rankviz.core.runs.words import data_name, made_of, run_labels, sweep_title, told_apart
from rankviz.figures import style

MOST_POINTS = 1000
"""Maximum number of points of one curve; a figure has fewer pixels."""
ALL_POINTS = 8_000
"""Maximum number of points of all curves together, but each curve keeps at least FEW."""
MOST_NAMED = 8
"""Maximum number of curves with an entry each in the legend; more curves have one entry per rank."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


class LossCurve(NamedTuple):
    """Loss by step of one run. final: held-out loss after training, a marker after the last step; None if unknown."""

    run_id: str
    label: str
    r: int
    steps: Sequence[int]
    losses: Sequence[float]
    final: float | None = None


class TrainingInfo(NamedTuple):
    """Content of the figure of training loss. max_steps: end of the x axis. empty: a sentence in place of curves."""

    curves: Sequence[LossCurve]
    max_steps: int = 1
    empty: str = "The loss appears with the first step."
    source: str = ""
    rows: style.Rows = ()


def training_info(sweeps: Sequence[Sweep], *, run_ids: Collection[str] | None = None) -> TrainingInfo:
    """Return the training loss by step of every run of sweeps in any state. run_ids: only these runs; None means
    all."""
    pairs = [(run, sweep) for sweep in sweeps for run in sweep.runs if run_ids is None or run.run_id in run_ids]
    if not pairs:
        return TrainingInfo([])
    each = min(MOST_POINTS, max(FEW, ALL_POINTS // len(pairs)))
    names, curves, rows = {}, [], []
    if len(sweeps) > 1:
        names = told_apart(sweeps, lambda sweep: data_name(sweep.runs[0].request.data), made_of, sweep_title)
    labels = {run_id: label for sweep in sweeps for run_id, label in run_labels(sweep).items()}
    for run, sweep in pairs:
        r, steps, final = run.request.r, thinned(run.steps, each), run.loss_after and run.loss_after.loss
        label = (f"{names[sweep.sweep_id]}: " if names else "") + labels[run.run_id]
        final = final if final is not None and isfinite(final) else None
        curves.append(LossCurve(run.run_id, label, r, [x.step for x in steps], [x.loss for x in steps], final))
        rows += [
            {"run": run.run_id, "r": r, "step": x.step, "loss": x.loss, "learning_rate": x.learning_rate} for x in steps
        ]
    left_out = any(len(run.steps) > each for run, _ in pairs)
    part = f" At most {each} steps of each run are shown: the lowest and the highest of its parts." * left_out
    ended = {"empty": "No step was logged."} if all(run.state.ended for run, _ in pairs) else {}
    source = f"Measured: {'; '.join(map(sweep_title, sweeps))}.{part}"
    return TrainingInfo(curves, max(run.request.max_steps for run, _ in pairs), **ended, source=source, rows=rows)


@style.figure
def training_figure(info: TrainingInfo, *, height: int = 320) -> style.Drawing:
    """Draw training loss by step in the colour of measurements. A higher rank has a stronger and wider line. The dash
    tells the runs of one rank apart, or with many runs the ranks."""
    begun = [curve for curve in info.curves if curve.steps]
    ranks, by_rank, lines = sorted({curve.r for curve in begun}), len(begun) > MOST_NAMED, []
    peers = {r: [curve for curve in begun if curve.r == r] for r in ranks}
    for curve in begun:
        place, of_rank = ranks.index(curve.r), peers[curve.r]
        dash = place if by_rank or len(ranks) == len(begun) else of_rank.index(curve)
        strength = 1.0 if len(ranks) == 1 else 0.55 + 0.45 * place / (len(ranks) - 1)
        named = {"name": f"r = {curve.r}", "legendgroup": str(curve.r), "showlegend": curve is of_rank[0]}
        look = {"color": style.rgba(style.MEASURED, strength), "width": 1.4 + 0.25 * min(6, log2(curve.r))}
        line = style.scatter(
            curve.steps,
            curve.losses,
            mode="lines",
            meta=curve.run_id,
            line=look | {"dash": DASHES[dash % len(DASHES)]},
            hovertemplate=f"{curve.label}<br>step %{{x}}: %{{y:.4f}}<extra></extra>",
            **(named if by_rank else {"name": curve.label}),
        )
        lines.append(line)
    if ended := [curve for curve in begun if curve.final is not None]:
        held_out = style.scatter(
            [curve.steps[-1] + info.max_steps * 0.04 for curve in ended],
            [curve.final for curve in ended],
            marker={"color": style.MEASURED, "size": 9, "symbol": "diamond"},
            name="held-out loss",
            customdata=[curve.run_id for curve in ended],
            hovertext=[f"{curve.label}<br>held-out {curve.final:.4f}" for curve in ended],
            hoverinfo="text",
        )
        lines.append(held_out)
    return style.draw(
        lines,
        height=height,
        uirevision="loss|" + "|".join(curve.run_id for curve in info.curves),
        x={"range": [0, info.max_steps * 1.08 + 1]},
        y={},
        x_title="step",
        y_title="loss, nats per token (lower is better)",
        message="" if begun else info.empty,
        showlegend=True,
    )
