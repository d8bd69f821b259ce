"""What published studies say: the nearest ones' quality by rank or size, a figure for each kind of targets."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.advice.reasons import metric_in_words
from rankviz.core.advice.words import enough_in_words, rate_text
from rankviz.core.studies.lines import Facet, Line, QualityPoint
from rankviz.core.studies.nearest import Near
from rankviz.errors import UserError
from rankviz.figures import PublishedLine, PublishedPoint, evidence_figure, shapes_of
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart, chart_value
from rankviz.ui.parts.controls import plain
from rankviz.ui.parts.html import Cell, Row
from rankviz.ui.wiring import action, notice_html, on_any, wire

HEIGHT = 440
SHOWN = 4
"""Studies of one base that are drawn in a figure, besides all that were added here."""
FIGURES: dict[str, tuple[str, tuple[Facet, ...]]] = {
    "wide": ("Adapters on attention and MLP", ("attention and mlp",)),
    "attention": ("Adapters on attention only", ("attention",)),
    "rest": ("MLP only, others, or not stated", ("mlp", "other", "not stated")),
}
X_CHOICES = [("Rank", "rank"), ("Trainable parameters", "parameters"), ("Adapter file", "file")]
X_TITLES = {"rank": "LoRA rank r", "parameters": "trainable parameters", "file": "adapter file"}
Y_CHOICES = [("Short of the best rank", "gap"), ("As published", "value")]
GAP = "% short of best (lower is better)"
ONE_TWO_FIVE = [step * 10.0**power for power in range(3, 12) for step in (1, 3)]


class Shown(NamedTuple):
    wide: str
    attention: str
    rest: str
    said: str
    studies: str


def build(api: Api, w: Mapping[str, Any]) -> dict[str, Any]:
    """The section; returns the event that draws it. w: the question's widgets."""
    plain("<h2>What published studies say</h2>", elem_id="evidence")
    with gr.Row(elem_classes="rv-bar"):
        x = gr.Dropdown(X_CHOICES, value="rank", label="Against", interactive=True, min_width=150)
        y = gr.Dropdown(Y_CHOICES, value="gap", label="Quality", interactive=True, min_width=150)
        upload = gr.UploadButton(
            "Add PEFT result files", file_types=[".json"], file_count="multiple", min_width=170, size="md"
        )
    refused = plain(elem_id="evidence-notice")
    with gr.Row(elem_classes="rv-charts rv-facets"):
        drawn = {name: chart(title, height=HEIGHT, elem_id=f"evidence-{name}") for name, (title, _) in FIGURES.items()}
    said = plain(elem_id="evidence-said")
    studies = plain(elem_id="evidence-studies")
    inputs = {name: w[name] for name in ("model", "use_case", "r", "use_dora", "use_rslora")} | {"x": x, "y": y}
    drawing = wire(partial(shown, api), inputs=inputs, outputs={**drawn, "said": said, "studies": studies}, silent=True)
    on_any(*(widget.change for name, widget in inputs.items() if name != "model")).then(**drawing)
    upload.upload(inputs=upload, outputs=refused, **action(partial(added, api))).then(**drawing)
    return drawing


def added(api: Api, files: Sequence[str]) -> str:
    """Keep what was dropped in; a sentence for each file that can't be read."""
    found = api.studies.add([Path(file) for file in files or ()])
    kept = f"Added {len(found.files)} result files, {found.points} points." if found.files else ""
    return notice_html(kept) + notice_html(*found.refused, kind="error")


def shown(api: Api, *, model: str, use_case: str, r: int, use_dora: bool, use_rslora: bool, x: str, y: str) -> Shown:
    """Three figures with the nearest studies by their targets, one sentence, and where it all comes from."""
    if x not in X_TITLES or y not in dict((value, label) for label, value in Y_CHOICES):
        raise UserError("No such axis: choose one of the lists.")
    methods = ("lora", *(["dora"] if use_dora else []), *(["rslora"] if use_rslora else []))
    near = {
        name: _nearest(api.studies.near(model or "", use_case, methods, facets))
        for name, (_, facets) in FIGURES.items()
    }
    every = list(dict.fromkeys(n for each in near.values() for n in each))
    shapes = shapes_of([n.line.study.study_id for n in every])
    unsized = [n for n in every if x != "rank" and not any(_x(api, line, x)[0] for line in n.lines)]
    charts = {name: _chart(api, each, name, shapes, r=r, x=x, y=y) for name, each in near.items()}
    return Shown(**charts, said=_said(api, r, every, unsized), studies=_studies(api, every))


def _nearest(found: Sequence[Near]) -> list[Near]:
    own = [near for near in found if near.line.study.own]
    return [*[near for near in found if not near.line.study.own][:SHOWN], *own]


def _chart(api: Api, near: Sequence[Near], name: str, shapes: Mapping[str, str], *, r: int, x: str, y: str) -> str:
    metric = near[0].line.first.metric if near else ""
    lines, rows = [], []
    for each in near:
        for line in each.lines:
            if y == "value" and line.first.metric != metric:
                continue
            drawn = _drawn(api, line, x=x, y=y)
            if drawn.points:
                lines.append(drawn)
                rows += _csv_rows(api, line, each)
    ranks = sorted({p.r for line in lines for p in line.points} | {r})
    figure = evidence_figure(
        lines,
        shapes=shapes,
        x_title=X_TITLES[x],
        y_title=GAP if y == "gap" else escape(metric_in_words(near[0].line)) if near else "",
        ticks=[(rank, str(rank)) for rank in _apart(ranks)] if x == "rank" else _size_ticks(x),
        x_range=(-0.15, 3.2) if x == "rank" and max(ranks, default=0) > 256 else (-0.15, 2.6) if x == "rank" else None,
        chosen_x=r if x == "rank" else None,
        uirevision=f"{name}|{x}|{y}",
        height=HEIGHT,
        empty="No published study with these targets has sizes." if near else "No published study has these targets.",
    )
    cited = dict.fromkeys(f"{each.line.study.citation} ({each.line.study.source or 'added here'})" for each in near)
    return chart_value(figure, rows, file=f"evidence-{name}", source="; ".join(cited))


def _drawn(api: Api, line: Line, *, x: str, y: str) -> PublishedLine:
    places = _x(api, line, x)
    scale = 100 / abs(line.best.value) if y == "gap" else 1.0
    points = [
        PublishedPoint(
            x=place,
            y=100 * line.short_of_best(point.value) if y == "gap" else point.value,
            r=point.rank,
            error=point.standard_error * scale if point.standard_error else None,
            text="<br>".join(_hover(line, point)),
        )
        for place, point in zip(places, line.points, strict=True)
        if place is not None
    ]
    return PublishedLine(line.study.study_id, _label(line), points)


def _x(api: Api, line: Line, x: str) -> list[float | None]:
    if x == "rank":
        return list(line.ranks)
    return [size.parameters if x == "parameters" else size.file_bytes for size in api.studies.sizes(line)]


def _label(line: Line) -> str:
    """Who, on what, and who tuned the learning rate; broken where the legend would be too wide."""
    runs = "one run each" if line.one_run else "bars: ± 1 s.e."
    policy = line.study.learning_rate_label.replace("learning rate", "rate").replace("learning-rate", "rate")
    base = line.model.base_model.rsplit("/", 1)[-1]
    method = "" if line.first.method == "lora" else f" ({escape(line.first.method)})"
    return f"{escape(line.study.label)}, {escape(base)}{method}<br>{policy}; {runs}"


def _hover(line: Line, point: QualityPoint) -> list[str]:
    spread = f" ± {point.standard_error:g}" if point.standard_error else " (one run)"
    rate = f"learning rate {rate_text(point.learning_rate)}" if point.learning_rate else "learning rate not stated"
    tried = f", best of {point.learning_rates_tried}" if (point.learning_rates_tried or 0) > 1 else ""
    alpha = f"alpha {point.lora_alpha:g}" if point.lora_alpha else "alpha not stated"
    full = f"full fine-tuning {line.full.value:g}" if line.full else ""
    parts = [
        f"<b>r = {point.rank}</b>: {point.value:g}{spread} {escape(metric_in_words(line))}",
        escape(f"{line.study.label}, {point.base_model}"),
        escape(point.task),
        escape(", ".join(filter(None, (point.duration, point.run_date)))),
        f"{rate}{tried}, {alpha}",
        escape(f"targets: {point.target_modules or 'not stated'}"),
        full,
    ]
    return [part for part in parts if part]


def _apart(ranks: Sequence[int]) -> list[int]:
    """Ranks as ticks, those left out that would stand on one another."""
    kept: list[int] = []
    apart = 1.9 if max(ranks, default=1) < 512 else 3.9
    for rank in ranks:
        if not kept or rank >= apart * kept[-1]:
            kept.append(rank)
    return kept


def _size_ticks(x: str) -> list[tuple[float, str]]:
    short = units.file_size if x == "file" else units.count
    return [(tick, short(int(tick)).replace(".00", "").replace(".0 ", " ")) for tick in ONE_TWO_FIVE]


def _said(api: Api, r: int, near: Sequence[Near], unsized: Sequence[Near]) -> str:
    enough = api.studies.rank_enough()
    said = []
    if enough:
        text = enough_in_words(enough, r)
        said.append(f"{text[0].upper()}{text[1:]}.")
    said.append(
        "A line is one study, base, task, length and run date; none is joined across. Only within a line can ranks be "
        "compared."
    )
    if unsized:
        names = ", ".join(dict.fromkeys(n.line.study.label for n in unsized))
        said.append(f"The size of the adapters is not known for {names}: those lines are left out.")
    return html.paragraphs(" ".join(said))


def _studies(api: Api, near: Sequence[Near]) -> str:
    """Sources, policies and caveats of all that is drawn."""
    rows = [
        Row(
            cells=[
                Cell(n.line.study.label, kind="narrow", href=n.line.study.source or "", sub=n.line.study.citation),
                Cell(n.line.model.base_model, kind="narrow", sub=n.in_words),
                Cell(n.line.study.learning_rate_and_alpha_policy, kind="narrow", sub=n.line.study.learning_rate_label),
                Cell(_best(n), kind="narrow", sub=_full(n)),
                Cell(n.line.study.caveat, kind="wrap", sub=f"checked {n.line.study.checked}, {n.line.study.licence}"),
            ]
        )
        for n in near
    ]
    body = html.table(
        ["Study and source", "Base, and why it is near", "Learning rate and alpha", "Best rank", "Caveat"],
        rows,
        label="Studies shown",
        left=5,
    )
    return html.folded(f"Sources, learning-rate policies and caveats of the {len(near)} bases shown", body)


def _best(near: Near) -> str:
    line = near.lines[-1]
    return f"r = {line.best.rank} of {', '.join(map(str, line.ranks))}: {line.best.value:g} {metric_in_words(line)}"


def _full(near: Near) -> str:
    full = near.lines[-1].full
    return f"full fine-tuning {full.value:g}" if full else ""


def _csv_rows(api: Api, line: Line, near: Near) -> list[dict[str, object]]:
    return [
        {
            "study": line.study.study_id,
            "source": line.study.source or "added here",
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
            "standard_error": point.standard_error or "",
            "trainable_parameters": size.parameters or "",
            "adapter_bytes": size.file_bytes or "",
            "size_computed": size.computed,
            "duration": point.duration,
            "run_date": point.run_date,
            "why_near": near.in_words,
        }
        for point, size in zip(line.points, api.studies.sizes(line), strict=True)
    ]
