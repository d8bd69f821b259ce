"""Published quality by rank: one line per study, base model and run date."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from rankviz.core.advice.words import metric_in_words, rate_text
from rankviz.core.studies.lines import Line, Near, QualityPoint
from rankviz.figures import style

SHAPES = (
    *("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star", "cross", "x"),
    *("hourglass", "bowtie", "triangle-left", "triangle-right", "octagon", "hexagram", "diamond-tall", "asterisk"),
)
DASHES = ("solid", "dot", "dash", "dashdot")
POINT_COLUMNS = (
    *("base_model", "task", "metric", "higher_is_better", "method", "target_modules", "rank", "lora_alpha"),
    *("learning_rate", "value", "standard_error", "base_value", "duration", "run_date"),
)


def shapes_of(studies: Sequence[str]) -> dict[str, str]:
    """Return one marker shape per study id, so that figures side by side can share the mapping."""
    return {study: SHAPES[i % len(SHAPES)] for i, study in enumerate(dict.fromkeys(studies))}


def studies_figure(
    near: Sequence[Near],
    *,
    parameters: Callable[[Line], Sequence[int | None]],
    chosen_r: int | None = None,
    shapes: Mapping[str, str] | None = None,
    height: int = 340,
    name: str = "studies",
) -> style.Drawing:
    """Draw published lines of quality by rank on a logarithmic axis. Lines whose best value is 0 are left out: they
    have no distance from it in percent.

    Args:
        near: The studies to show, the nearest first.
        parameters: Returns the adapter parameters of a line's points, for the table.
        chosen_r: The rank to mark.
        shapes: Marker by study, for figures side by side; by default one is chosen for each.
        name: Distinguishes figures side by side, for their zoom.
    """
    drawn = [(each, line) for each in near for line in each.lines if line.has_shares]
    by_label: dict[str, list[Line]] = {}
    rows = []
    for each, line in drawn:
        by_label.setdefault(_label(line), []).append(line)
        study = line.study
        about = {"study": study.study_id, "source": study.where, "why_near": each.in_words}
        about |= {"learning_rate_policy": study.learning_rate_label}
        for point, size in zip(line.points, parameters(line), strict=True):
            shown = {"r" if name == "rank" else name: getattr(point, name) for name in POINT_COLUMNS}
            rows.append({**about, **shown, "trainable_parameters": size})
    shapes = shapes or shapes_of([each.line.study.study_id for each in near])
    ranks = sorted({r for _, line in drawn for r in line.ranks} | ({chosen_r} if chosen_r else set()))
    highest, ticks = max(ranks, default=1), []
    for rank in ranks:  # without those that would overlap
        if not ticks or rank >= (1.9 if highest < 512 else 3.9) * ticks[-1]:
            ticks.append(rank)
    # The same range in figures side by side, so that they can be compared.
    axis = {"type": "log", "tickangle": 0, "range": [-0.15, 3.2 if highest > 256 else 2.6]}
    return style.draw(
        [
            _trace(label, line, shapes[line.study.study_id], DASHES[i % len(DASHES)]) | {"showlegend": line is lines[0]}
            for i, (label, lines) in enumerate(by_label.items())
            for line in lines
        ],
        height=height,
        uirevision=name,
        x=axis | style.ticks_at([(rank, str(rank)) for rank in ticks]),
        y={},
        x_title="LoRA rank r",
        y_title="% short of best (lower is better)",
        message="" if drawn else "No published study has these targets.",
        rows=rows,
        source="; ".join(dict.fromkeys(f"{each.line.study.citation} ({each.line.study.where})" for each in near)),
        shapes=[style.vertical_line(chosen_r, style.CHOSEN)] if chosen_r and drawn else [],
        showlegend=bool(drawn),
    )


def _label(line: Line) -> str:
    """Return who, on what, and who tuned the learning rate; broken where the legend would be too wide."""
    runs = "bars: ± 1 s.e." if any(point.standard_error is not None for point in line.points) else "one run each"
    policy = line.study.learning_rate_label.replace("learning rate", "rate").replace("learning-rate", "rate")
    method = "" if line.first.method == "lora" else f" ({escape(line.first.method)})"
    base = escape(line.model.base_model.rsplit("/", 1)[-1])
    return f"{escape(line.study.label)}, {base}{method}<br>{policy}; {runs}"


def _trace(label: str, line: Line, shape: str, dash: str) -> dict[str, Any]:
    errors = [100 / abs(line.best.value) * (point.standard_error or 0) for point in line.points]
    return style.scatter(
        [point.rank for point in line.points],
        [100 * line.short_of_best(point.value) for point in line.points],
        mode="lines+markers",
        name=label,
        legendgroup=label,
        line={"color": style.rgba(style.PUBLISHED, 0.6), "width": 1.2, "dash": dash},
        marker={"color": style.PUBLISHED, "symbol": f"{shape}-open", "size": 9, "line": {"width": 1.6}},
        error_y=style.bars(errors, style.PUBLISHED, color=style.rgba(style.PUBLISHED, 0.6), thickness=1.2),
        hovertext=[_hover(line, point) for point in line.points],
        hoverinfo="text",
    )


def _hover(line: Line, point: QualityPoint) -> str:
    spread = " (one run)" if point.standard_error is None else f" ± {point.standard_error:g}"
    rate = f"learning rate {rate_text(point.learning_rate)}" if point.learning_rate else "learning rate not stated"
    alpha = f"alpha {point.lora_alpha:g}" if point.lora_alpha else "alpha not stated"
    about = (
        f"{line.study.label}, {point.base_model}",
        point.task,
        ", ".join(filter(None, (point.duration, point.run_date))),
        f"{rate}, {alpha}",
        f"targets: {point.target_modules or 'not stated'}",
        f"full fine-tuning {line.full.value:g}" if line.full else "",
    )
    first = f"<b>r = {point.rank}</b>: {point.value:g}{spread} {escape(metric_in_words(line))}"
    return "<br>".join((first, *map(escape, filter(None, about))))
