"""Shows the nearest published studies: quality by rank or size, one figure per kind of target modules."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from rankviz.api import Api
from rankviz.core.advice.words import metric_in_words
from rankviz.core.studies.lines import Facet
from rankviz.core.studies.nearest import Near
from rankviz.figures import studies_figure, studies_info
from rankviz.figures.studies import StudiesInfo, shapes_of
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart, chart_value
from rankviz.ui.parts.controls import plain
from rankviz.ui.parts.html import Cell, notice_html
from rankviz.ui.wiring import View, action, wire
from rankviz.units import counted

HEIGHT = 440
X_CHOICES = [("Rank", "rank"), ("Adapter file", "file")]
SHOWN = 4
"""Studies of one base that are drawn in a figure, besides all that were added here."""
FIGURES: dict[str, tuple[str, tuple[Facet, ...]]] = {
    "wide": ("Adapters on attention and MLP", ("attention and mlp",)),
    "attention": ("Adapters on attention only", ("attention",)),
    "rest": ("MLP only, other or not stated", ("mlp", "other", "not stated")),
}


def build(api: Api, w: Mapping[str, Any]) -> dict[str, Any]:
    """The section; returns the event that draws it. w: the question's widgets."""
    plain("<h2>Published studies</h2>", elem_id="evidence")
    with gr.Row(elem_classes="rv-bar"):
        looks = {"min_width": 170, "size": "md"}
        x = gr.Dropdown(X_CHOICES, value="rank", label="Cost axis", interactive=True, min_width=150)
        label, types = "Add your results (CSV or PEFT's JSON)", [".csv", ".json"]
        upload = gr.UploadButton(label, file_types=types, file_count="multiple", **looks)
        remove = gr.Button("Remove added files", visible=False, elem_id="evidence-remove", **looks)
    notice = plain(elem_id="evidence-notice")
    with gr.Row(elem_classes="rv-charts rv-facets"):
        charts = {name: chart(title, height=HEIGHT, elem_id=f"evidence-{name}") for name, (title, _) in FIGURES.items()}
    summary, studies = plain(elem_id="evidence-summary"), plain(elem_id="evidence-studies")
    inputs = {name: w[name] for name in ("model", "use_case", "r", "use_dora", "use_rslora")} | {"x": x}
    outputs = {**charts, "summary": summary, "studies": studies, "remove": remove}
    drawing = wire(partial(shown, api), inputs=inputs, outputs=outputs, silent=True)
    x.change(**drawing)
    upload.upload(inputs=upload, outputs=notice, **action(partial(added, api))).then(**drawing)
    remove.click(outputs=notice, **action(partial(removed, api))).then(**drawing)
    return drawing


def added(api: Api, files: Sequence[str]) -> str:
    """Keep the uploaded files; a sentence for each file that cannot be read."""
    result = api.studies.add([Path(file) for file in files or ()])
    kept = ""
    if result.files:
        kept = f"Added {counted(len(result.files), 'result file')} with {counted(result.points, 'point')}."
    return notice_html(kept) + notice_html(*result.refused, kind="error")


def removed(api: Api) -> str:
    """Remove all files that were added; a sentence."""
    names = list(api.studies.added())
    for name in names:
        api.studies.remove(name)
    return notice_html(f"Removed {counted(len(names), 'result file')}.")


def shown(api: Api, *, model: str, use_case: str, r: int, use_dora: bool, use_rslora: bool, x: str = "rank") -> View:
    """Three figures with the nearest studies by their targets, a summary, and the sources; the button that removes is
    there where something was added."""
    methods = ("lora", *(["dora"] if use_dora else []), *(["rslora"] if use_rslora else []))
    subject = api.forecasts.subject(model or "", use_case)
    near = {name: _nearest(api.studies.near(subject, methods, facets)) for name, (_, facets) in FIGURES.items()}
    every = list(dict.fromkeys(each for studies in near.values() for each in studies))
    shapes = shapes_of([each.line.study.study_id for each in every])
    infos = {
        name: studies_info(studies, sizes=api.studies.sizes, x=x, chosen_r=r, shapes=shapes)
        for name, studies in near.items()
    }
    charts = {name: _chart(info, name) for name, info in infos.items()}
    remove = gr.update(visible=bool(api.studies.added()))
    return View(**charts, summary=_summary(api, infos.values()), studies=_studies(every), remove=remove)


def _nearest(near: Sequence[Near]) -> list[Near]:
    own = [each for each in near if each.line.study.own]
    return [*[each for each in near if not each.line.study.own][:SHOWN], *own]


def _chart(info: StudiesInfo, name: str) -> str:
    drawing = studies_figure.drawing(info, height=HEIGHT, name=name)
    return chart_value(drawing, info.rows, file=f"evidence-{name}", source=info.source)


def _summary(api: Api, infos: Iterable[StudiesInfo]) -> str:
    without_shares = ", ".join(dict.fromkeys(label for info in infos for label in info.without_shares))
    sentences = [
        "One line is one study, base model, task, length and run date. Lines never join studies, and only ranks on the "
        "same line can be compared.",
        *(each.in_words for each in api.studies.rate_by_rank()),
        without_shares
        and f"Lines whose best value is 0 are left out, because a distance from 0 has no percentage: {without_shares}.",
    ]
    return html.paragraphs(" ".join(filter(None, sentences)))


def _studies(near: Sequence[Near]) -> str:
    """Sources, policies and caveats of all that is drawn."""

    def cells(n: Near) -> list[Cell]:
        study, line = n.line.study, n.lines[-1]
        best = f"r = {line.best.rank} of {', '.join(map(str, line.ranks))}: {line.best.value:g} {metric_in_words(line)}"
        full = f"full fine-tuning {line.full.value:g}" if line.full else ""
        return [
            Cell(study.label, kind="narrow", href=study.source or "", sub=study.citation),
            Cell(n.line.model.base_model, kind="narrow", sub=n.in_words),
            Cell(study.learning_rate_and_alpha_policy, kind="narrow", sub=study.learning_rate_label),
            Cell(best, kind="narrow", sub=full),
            Cell(study.caveat, kind="wrap", sub=f"checked {study.checked}, {study.licence}"),
        ]

    headers = ["Study and source", "Base model and similarity", "Learning rate and alpha", "Best rank", "Caveat"]
    body = html.table(headers, [cells(n) for n in near], label="Studies shown", left=5)
    return html.folded(f"Sources, learning-rate policies and caveats of the {len(near)} base models shown", body)
