"""Training loss by step, one line per run, with a limited number of points."""

from collections.abc import Collection, Sequence
from math import isfinite, log2

from rankviz.core.runs.record import Sweep, data_name, made_of, run_labels, sweep_title, told_apart
from rankviz.core.runs.run_time import FEW, thinned
from rankviz.figures import style

MOST_POINTS = 1000
"""Maximum number of points of one curve; a figure has fewer pixels."""
ALL_POINTS = 8_000
"""Maximum number of points of all curves together, but each curve keeps at least FEW."""
MOST_NAMED = 8
"""Maximum number of curves with an entry each in the legend; more curves have one entry per rank."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def training_figure(
    sweeps: Sequence[Sweep], *, run_ids: Collection[str] | None = None, height: int = 320
) -> style.Drawing:
    """Draw training loss by step of every run of sweeps in any state, in the colour of measurements, and a marker for
    its held-out loss after the last step. A higher rank has a stronger and wider line. The dash tells the runs of one
    rank apart, or with many runs the ranks. run_ids: only these runs; None means all."""
    runs = [(run, sweep) for sweep in sweeps for run in sweep.runs if run_ids is None or run.run_id in run_ids]
    each = min(MOST_POINTS, max(FEW, ALL_POINTS // max(1, len(runs))))
    labels = {run_id: label for sweep in sweeps for run_id, label in run_labels(sweep).items()}
    if len(sweeps) > 1:
        names = told_apart(sweeps, lambda sweep: data_name(sweep.runs[0].request.data), made_of, sweep_title)
        labels = {run.run_id: f"{names[sweep.sweep_id]}: {labels[run.run_id]}" for run, sweep in runs}
    begun = [run for run, _ in runs if run.steps]
    peers = {r: [run.run_id for run in begun if run.request.r == r] for r in sorted({run.request.r for run in begun})}
    max_steps = max((run.request.max_steps for run, _ in runs), default=1)
    ranks, by_rank, lines, rows, ended = list(peers), len(begun) > MOST_NAMED, [], [], []
    for run in begun:
        r, label, steps = run.request.r, labels[run.run_id], thinned(run.steps, each)
        place, of_rank = ranks.index(r), peers[r]
        dash = place if by_rank or len(ranks) == len(begun) else of_rank.index(run.run_id)
        strength = 1.0 if len(ranks) == 1 else 0.55 + 0.45 * place / (len(ranks) - 1)
        named = {"name": f"r = {r}", "legendgroup": str(r), "showlegend": run.run_id == of_rank[0]}
        look = {"color": style.rgba(style.MEASURED, strength), "width": 1.4 + 0.25 * min(6, log2(r))}
        line = style.scatter(
            [x.step for x in steps],
            [x.loss for x in steps],
            mode="lines",
            meta=run.run_id,
            line=look | {"dash": DASHES[dash % len(DASHES)]},
            hovertemplate=f"{label}<br>step %{{x}}: %{{y:.4f}}<extra></extra>",
            **(named if by_rank else {"name": label}),
        )
        lines.append(line)
        rows += [
            {"run": run.run_id, "r": r, "step": x.step, "loss": x.loss, "learning_rate": x.learning_rate} for x in steps
        ]
        if run.loss_after and isfinite(run.loss_after.loss):
            ended.append((run.run_id, label, steps[-1].step + max_steps * 0.04, run.loss_after.loss))
    if ended:
        held_out = style.scatter(
            [x for _, _, x, _ in ended],
            [loss for *_, loss in ended],
            marker={"color": style.MEASURED, "size": 9, "symbol": "diamond"},
            name="held-out loss",
            customdata=[run_id for run_id, *_ in ended],
            hovertext=[f"{label}<br>held-out {loss:.4f}" for _, label, _, loss in ended],
            hoverinfo="text",
        )
        lines.append(held_out)
    left_out = any(len(run.steps) > each for run in begun)
    part = f" At most {each} steps of each run are shown: the lowest and the highest of its parts." * left_out
    over = runs and all(run.state.ended for run, _ in runs)
    return style.draw(
        lines,
        height=height,
        uirevision="loss|" + "|".join(run.run_id for run, _ in runs),
        x={"range": [0, max_steps * 1.08 + 1]},
        y={},
        x_title="step",
        y_title="loss, nats per token (lower is better)",
        message="" if begun else "No step was logged." if over else "The loss appears with the first step.",
        rows=rows,
        source=f"Measured: {'; '.join(map(sweep_title, sweeps))}.{part}" if runs else "",
        showlegend=True,
    )
