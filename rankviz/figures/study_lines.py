"""One published line as figures show it: its points at their place, with the words of legend and hover."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from rankviz.core.advice.words import metric_in_words, rate_text
from rankviz.core.studies.lines import AdapterSize, Line, QualityPoint
from rankviz.core.studies.nearest import Near

Sizes = Callable[[Line], Sequence[AdapterSize]]


class PublishedPoint(NamedTuple):
    """One value. error: half an error bar, None where it was one run. text: the hover, lines joined by <br>."""

    x: float
    y: float
    r: int
    error: float | None
    text: str


class PublishedLine(NamedTuple):
    """Points that may be joined. shape: the study's marker. label: the legend's entry."""

    study: str
    shape: str
    label: str
    points: Sequence[PublishedPoint]


GAP, VALUE = "gap", "value"
"""The quality axis: the shortfall from the best rank in percent, or the value as published."""
SHAPES = (
    "circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon", "star", "cross", "x",
    "hourglass", "bowtie", "triangle-left", "triangle-right", "octagon", "hexagram", "diamond-tall", "diamond-wide",
    "star-square", "star-diamond", "star-triangle-up", "star-triangle-down", "hexagon2", "triangle-ne", "triangle-se",
    "triangle-sw", "triangle-nw", "circle-cross", "circle-x", "square-cross", "square-x", "diamond-cross", "diamond-x",
    "asterisk", "hash", "y-up", "y-down", "y-left", "y-right", "arrow-up", "arrow-down", "arrow-left", "arrow-right",
)  # fmt: skip


def shapes_of(studies: Sequence[str]) -> dict[str, str]:
    """One shape per study, the same in every figure that is shown beside this one."""
    return {study: SHAPES[i % len(SHAPES)] for i, study in enumerate(dict.fromkeys(studies))}


def published_line(line: Line, sizes: Sizes, shapes: Mapping[str, str], *, x: str, y: str) -> PublishedLine:
    """The points that have a place on the axis x (a key of X_TITLES). y: GAP or VALUE. shapes: marker by study."""
    scale = 100 / abs(line.best.value) if y == GAP else 1.0
    points = [
        PublishedPoint(
            x=place,
            y=100 * line.short_of_best(point.value) if y == GAP else point.value,
            r=point.rank,
            error=None if point.standard_error is None else point.standard_error * scale,
            text="<br>".join(_hover(line, point)),
        )
        for place, point in zip(places(line, sizes, x), line.points, strict=True)
        if place is not None
    ]
    study = line.study.study_id
    return PublishedLine(study, shapes[study], _label(line), points)


def places(line: Line, sizes: Sizes, x: str) -> Sequence[float | None]:
    """Of the points of a line on the axis x; None where the size is not known."""
    if x == "rank":
        return line.ranks
    return [size.parameters if x == "parameters" else size.file_bytes for size in sizes(line)]


def _label(line: Line) -> str:
    """Who, on what, and who tuned the learning rate; broken where the legend would be too wide."""
    runs = "one run each" if line.one_run else "bars: ± 1 s.e."
    policy = line.study.learning_rate_label.replace("learning rate", "rate").replace("learning-rate", "rate")
    base = line.model.base_model.rsplit("/", 1)[-1]
    method = "" if line.first.method == "lora" else f" ({escape(line.first.method)})"
    return f"{escape(line.study.label)}, {escape(base)}{method}<br>{policy}; {runs}"


def _hover(line: Line, point: QualityPoint) -> Sequence[str]:
    spread = " (one run)" if point.standard_error is None else f" ± {point.standard_error:g}"
    rate = f"learning rate {rate_text(point.learning_rate)}" if point.learning_rate else "learning rate not stated"
    tried = f", best of {point.learning_rates_tried}" if (point.learning_rates_tried or 0) > 1 else ""
    alpha = f"alpha {point.lora_alpha:g}" if point.lora_alpha else "alpha not stated"
    full = f"full fine-tuning {line.full.value:g}" if line.full else ""
    base = "" if point.base_value is None else f"before training {point.base_value:g}"
    parts = [
        f"<b>r = {point.rank}</b>: {point.value:g}{spread} {escape(metric_in_words(line))}",
        escape(f"{line.study.label}, {point.base_model}"),
        escape(point.task),
        escape(", ".join(filter(None, (point.duration, point.run_date)))),
        f"{rate}{tried}, {alpha}",
        escape(f"targets: {point.target_modules or 'not stated'}"),
        full,
        base,
    ]
    return [part for part in parts if part]


def rows_of(line: Line, near: Near, sizes: Sequence[AdapterSize]) -> Sequence[Mapping[str, object]]:
    """The line as rows of a table."""
    return [
        {
            "study": line.study.study_id,
            "source": line.study.where,
            "base_model": point.base_model,
            "task": point.task,
            "metric": point.metric,
            "higher_is_better": point.higher_is_better,
            "method": point.method,
            "target_modules": point.target_modules,
            "r": point.rank,
            "lora_alpha": point.lora_alpha or "",
            "learning_rate": point.learning_rate or "",
            "learning_rate_policy": line.study.learning_rate_label,
            "value": point.value,
            "standard_error": "" if point.standard_error is None else point.standard_error,
            "base_value": "" if point.base_value is None else point.base_value,
            "trainable_parameters": size.parameters or "",
            "adapter_bytes": size.file_bytes or "",
            "size_computed": size.computed,
            "duration": point.duration,
            "run_date": point.run_date,
            "why_near": near.in_words,
        }
        for point, size in zip(line.points, sizes, strict=True)
    ]
