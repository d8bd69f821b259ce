"""Content of Explore's sections: what fits and each change, serving, published studies, and the probe."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.advice.words import metric_in_words
from rankviz.core.cost.estimate import tight_meaning
from rankviz.core.fit import RULE, FitAnswer, Knob
from rankviz.core.lora.config import FLAGS, lora_alpha
from rankviz.core.probe import (
    FREE_MEMORY_SHARE,
    PROBE_TRAINING,
    SHARED_MEMORY_LIMIT_BYTES,
    SHARED_TIME_LIMIT_SECONDS,
    TIME_LIMIT_SECONDS,
    ProbeQuestion,
    sentences,
    table,
)
from rankviz.core.runs.record import RunState
from rankviz.core.serving import points, rows
from rankviz.core.studies.lines import Facet, Near
from rankviz.figures import studies_figure
from rankviz.figures.hero import shapes_of
from rankviz.options import lora_of, training_of
from rankviz.ui import link
from rankviz.ui.parts import html
from rankviz.ui.parts.html import FITS, Cell, Row, notice_html, rounded_span
from rankviz.ui.parts.question import ask, rank_of
from rankviz.ui.parts.widgets import chart, chart_value, plain
from rankviz.ui.wiring import View, action, wire
from rankviz.units import NOT_KNOWN, counted, memory_span, money_span, time_span
from rankviz.units import rounded_percent as percent

LIMITS = {"r": "Rank", "batch": "Batch", "max_length": "Max length"}


def applied(change: str) -> Mapping[str, Any]:
    """Return the values that a click on a change or a GPU sets, by widget; module names follow the preset."""
    values, notes = link.read(dict(parse_qsl(change)))
    return {} if notes else {name: value for name, value in values.items() if name not in ("modules", "names")}


def decisions(api: Api, **values: Any) -> View:
    """Return the section "Fit and memory" for the widgets' values."""
    asked = ask(values)
    own = {} if asked.usd_per_hour is None or asked.gpu is None else {asked.gpu: asked.usd_per_hour}
    result = api.estimates.fit(asked, values["r"], own)
    start, lead = result.setting, escape(result.sentence)
    if start.row.fit:
        spare = html.tag("b", rounded_span(units.spare, start.row.spare, "bytes"))
        usable = html.tag("span", rounded_span(memory_span, start.usable_bytes, "bytes"))
        chip = f'<span class="rv-fit rv-fit-{start.row.fit}">{FITS[start.row.fit]}</span>'
        lead = f"{chip} {spare} of {usable} usable on {escape(start.gpu.name)}. {lead}"
    rule = "" if start.row.fit in (None, "fits", "tight") else html.paragraphs(RULE)
    verdict = html.verdict(f"<h2>Fit and changes at r = {start.row.r}</h2><p>{lead}</p>{rule}")
    sides = f"<div>{knobs_html(result)}</div><div>{limits_html(result)}{methods_html(result)}</div>"
    halves, cards = f'<div class="rv-halves">{sides}</div>', f'<div id="cards">{cards_html(result)}</div>'
    return View(decisions=f'<div class="rv-decisions">{verdict}{halves}{cards}</div>')


def knobs_html(result: FitAnswer) -> str:
    """Return a table of the effect of each change; a click on a row applies the change."""
    has_gpu = result.setting.gpu is not None

    def cells(knob: Knob) -> list[Cell | str]:
        memory = Cell(units.memory_change(knob.device_bytes), title=f"{knob.device_bytes:+,} bytes")
        time = Cell(NOT_KNOWN)
        if knob.seconds is not None:
            money = "" if knob.usd is None else f", {'-' if knob.usd < 0 else '+'}{units.usd(abs(knob.usd))}"
            time = Cell(units.duration_change(knob.seconds), title=f"{knob.seconds:+,.12g} seconds{money}")
        effect = "Same training result" if knob.same_result else "Changes the training result"
        return [Cell(knob.label, effect, "narrow"), memory, time, *([FITS[knob.fit]] if has_gpu else [])]

    rows = [Row(cells(knob), pick=urlencode(knob.change)) for knob in result.knobs]
    here = (card for card in result.several if has_gpu and card.gpu_id == result.setting.gpu.id)
    rows += [Row([Cell(card.label, "", "narrow"), "", "", FITS[card.fit]]) for card in here]
    tokens = result.setting.question.training.trained_tokens
    title = f"Effect of one change (same {tokens:,} {result.same_tokens}). Click a row to apply it."
    headers = ["Change", "Memory", "Time", *(["Fit"] if has_gpu else [])]
    return html.titled(title, html.table(headers, rows, label="Effect of one change"))


def limits_html(result: FitAnswer) -> str:
    """Return a table of the largest rank, batch and length that fit: certain, and expected."""
    title = "Largest value that fits, other settings unchanged"
    if not result.limits:
        return html.titled(title, html.empty("Select a GPU, or click one in the table below."))
    rows = [
        [LIMITS[each.option], *("none" if value is None else f"{value:,}" for value in (each.surely, each.expected))]
        for each in result.limits
    ]
    notes = (f"{LIMITS[limit.option]}: {limit.note.removesuffix('.')}." for limit in result.limits if limit.note)
    table = html.table(["Setting", "Certain", "Expected"], rows, label="Largest value that fits")
    return html.titled(title, table + html.paragraphs(*notes))


def methods_html(result: FitAnswer) -> str:
    """Return the training methods side by side, a column each."""
    columns = [["Trained", "Memory", *(["Fit"] if result.setting.gpu else []), "Time", "Cost", "Saved"]]
    for each in result.methods:
        about = "" if each.saved_exact else "about "
        columns.append(
            [
                Cell(units.count(each.trained_parameters), title=f"{each.trained_parameters:,}"),
                rounded_span(memory_span, each.device_bytes, "bytes"),
                *([FITS[each.fit]] if result.setting.gpu else []),
                rounded_span(time_span, each.seconds, "seconds"),
                rounded_span(money_span, each.usd, "$"),
                Cell(about + units.file_size(each.saved_bytes), title=f"{about}{each.saved_bytes:,} bytes"),
            ]
        )
    headers = ["", *(f"{each.label.split(',')[0]}, {each.precision}" for each in result.methods)]
    table = html.table(headers, list(zip(*columns, strict=True)), label="Training methods")
    last, note = result.methods[-1], ""
    if last.name == "full":
        full = f"Full fine-tuning: {last.precision} weights, gradients and optimizer states"
        note = html.paragraphs(f"{full}; no measured run validates it, so the range is wider.")
    return html.titled("Training methods, same batch and length", table + note)


def cards_html(result: FitAnswer) -> str:
    """Return a table of all GPUs, fitting ones first; a click on a row selects a GPU."""
    rows, chosen = [], result.setting.gpu
    for card in result.cards:
        cells = [
            card.gpu,
            FITS.get(card.fit) or Cell("✕ cannot run this", title=card.reason),
            rounded_span(money_span, card.usd, "$"),
            rounded_span(time_span, card.seconds, "seconds"),
            NOT_KNOWN if card.usd_per_hour is None else f"{card.usd_per_hour:.2f}",
            rounded_span(units.gib_span, card.margin_bytes, "bytes") if card.margin_bytes else "",
            ", ".join(filter(None, (card.provider, card.price_checked))),
        ]
        rows.append(Row(cells, pick=urlencode({"gpu": card.gpu_id}), chosen=bool(chosen and chosen.id == card.gpu_id)))
    headers = ["GPU", "Fit", "Total cost", "Time", "$ per hour", "Margin", "Price source"]
    meaning = tight_meaning(result.setting.assumptions)
    tight, fitting = (sum(each.fit in fits for each in result.cards) for fits in (("tight",), ("fits", "tight")))
    of_them = f", {tight} of them tight ({meaning})" if tight else ""
    title = f"{fitting} of {len(rows)} GPUs fit{of_them}; cheapest first. Click a row to select a GPU."
    shown = ", ".join(card.label for card in result.several[:4])
    more = html.paragraphs(f"Several GPUs on which it fits, cheapest first: {shown}.") if shown else ""
    return html.titled(title, html.table(headers, rows, label="GPUs, cheapest first", left=2) + more)


def serving(api: Api, **values: Any) -> View:
    """Return serving, of the section "Export and serving": a table of what an adapter costs on a server, the command
    that serves it, and published slow-downs."""
    answer = api.estimates.serving(ask(values), values["r"])
    cells = [
        [Cell(name), Cell(figure, kind="narrow"), Cell(remark, kind="wrap")] for name, figure, remark in rows(answer)
    ]
    title = f"One adapter at r = {answer['r']} on a server"
    figures = html.titled(title, html.table(["", "Figure", "Remark"], cells, label="Serving", left=3))
    measured = [
        [Cell(setting, href=source, kind="wrap"), rank, Cell(times, title=figures)]
        for setting, figures, rank, times, source in points(answer)
    ]
    slow = html.table(["Published measurement", "Rank", "Time with an adapter"], measured, label="Slow-down", left=1)
    shown = html.titled("Slow-down by an unmerged adapter, as others measured it", slow)
    line = html.code_html(answer["command"], title="vLLM") if answer["command"] else ""
    return View(served=figures + html.paragraphs(*answer["notes"]) + line + shown)


HEIGHT = 340
LINES = "Compare ranks on one line only: a line is one study, base model, task, length and run date."
SHOWN = 4
"""Maximum number of published studies in a figure; all of the user's own are drawn too."""
FIGURES: dict[str, tuple[str, tuple[Facet, ...]]] = {
    "wide": ("Adapters on attention and MLP", ("attention and mlp",)),
    "attention": ("Adapters on attention only", ("attention",)),
    "rest": ("MLP only, other or not stated", ("mlp", "other", "not stated")),
}


def build_studies(api: Api, question: Mapping[str, Any]) -> dict[str, Any]:
    """Build the section "Studies"; return the event that draws it. question: widgets of Explore's question, by name."""
    plain("<h2>Published studies</h2>", elem_id="evidence")
    with gr.Row(elem_classes="rv-bar"):
        looks = {"min_width": 170, "size": "md"}
        label, types = "Add your results (CSV or PEFT's JSON)", [".csv", ".json"]
        upload = gr.UploadButton(label, file_types=types, file_count="multiple", **looks)
        remove = gr.Button("Remove added files", visible=False, elem_id="evidence-remove", **looks)
    notice = plain(elem_id="evidence-notice")
    with gr.Row(elem_classes="rv-charts rv-facets"):
        charts = {name: chart(title, height=HEIGHT, elem_id=f"evidence-{name}") for name, (title, _) in FIGURES.items()}
    summary, studies = plain(elem_id="evidence-summary"), plain(elem_id="evidence-studies")
    inputs = {name: question[name] for name in ("model", "use_case", "r", "dora", "rslora")}
    outputs = {**charts, "summary": summary, "studies": studies, "remove": remove}
    drawing = wire(partial(shown_studies, api), inputs=inputs, outputs=outputs, silent=True)
    upload.upload(inputs=upload, outputs=notice, **action(partial(added, api))).then(**drawing)
    remove.click(outputs=notice, **action(partial(removed, api))).then(**drawing)
    return drawing


def added(api: Api, files: Sequence[str]) -> str:
    """Store uploaded result files; return a notice with a sentence for each file that cannot be read."""
    result = api.studies.add([Path(file) for file in files or ()])
    kept = f"Added {counted(len(result.files), 'result file')} with {counted(result.points, 'point')}."
    return notice_html(kept if result.files else "") + notice_html(*result.refused, kind="error")


def removed(api: Api) -> str:
    """Remove all result files that were added; return a notice."""
    names = list(api.studies.added())
    for name in names:
        api.studies.remove(name)
    return notice_html(f"Removed {counted(len(names), 'result file')}.")


def shown_studies(api: Api, *, model: str, use_case: str, r: int, dora: bool, rslora: bool) -> View:
    """Return three figures of the nearest studies, one per group of targets, with a summary and sources. The button
    that removes added files is visible if there are any."""
    methods = ("lora", *(["dora"] if dora else []), *(["rslora"] if rslora else []))
    subject = api.studies.subject(model or "", use_case)
    near = {}
    for name, (_, facets) in FIGURES.items():
        studies = api.studies.near(subject, methods, facets)
        published = [each for each in studies if not each.line.study.own]
        near[name] = [*published[:SHOWN], *(each for each in studies if each.line.study.own)]
    every = list(dict.fromkeys(each for studies in near.values() for each in studies))
    shapes = shapes_of([each.line.study.study_id for each in every])
    charts = {}
    for name, studies in near.items():
        more = {"parameters": api.studies.parameters, "chosen_r": r, "shapes": shapes, "height": HEIGHT, "name": name}
        charts[name] = chart_value(studies_figure(studies, **more), file=f"evidence-{name}")
    remove = gr.update(visible=bool(api.studies.added()))
    summary = html.paragraphs(" ".join((LINES, *(each.in_words for each in api.studies.rate_by_rank()))))
    return View(**charts, summary=summary, studies=_studies(every), remove=remove)


def _studies(near: Sequence[Near]) -> str:
    """Return a table of sources, learning-rate policies and caveats of the studies in the figures."""

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


POLL_SECONDS = 1.0


def build_probe(api: Api, question: Mapping[str, Any]) -> dict[str, Any]:
    """Build the section "Measure here"; return the event that draws it. Batch and length have widgets of their own,
    since a CPU needs small values. question: its widgets by the names of link.DEFAULTS."""
    seconds, memory = TIME_LIMIT_SECONDS, f"{percent(FREE_MEMORY_SHARE, 0)} of the free memory"
    if api.workspace.shared:
        seconds, memory = SHARED_TIME_LIMIT_SECONDS, units.memory_size(SHARED_MEMORY_LIMIT_BYTES)
    about = (
        "Runs training steps with this adapter here, on a few of the model's real layers with random weights, and "
        f"extrapolates. It downloads nothing and takes at most {units.duration(seconds)} and {memory}. Without a GPU "
        "here, precision, optimizer, checkpointing and experts are a CPU's."
    )
    with gr.Column(elem_id="probe"):
        plain(html.paragraphs(about))
        with gr.Row(elem_classes="rv-bar"):
            batch = gr.Number(1, label="Probe batch", precision=0, min_width=90)
            length = gr.Number(256, label="Probe length", precision=0, min_width=90)
            full = gr.Checkbox(False, label="Also run all blocks", min_width=120)
            start = gr.Button("Time it here", min_width=140, elem_id="probe-button")
            cancel = gr.Button("Cancel", visible=False, min_width=90, elem_id="probe-cancel")
        refused = plain(elem_id="probe-notice")
        panel = plain(elem_id="probe-panel")
    timer = gr.Timer(POLL_SECONDS, active=False)
    outputs = {"panel": panel, "cancel": cancel, "timer": timer}
    drawing = wire(partial(probing, api), inputs={"model": question["model"]}, outputs=outputs, silent=True)
    inputs = {**question, "own_batch": batch, "own_length": length, "full": full}
    start.click(**wire(partial(begun, api), inputs=inputs, outputs={"notice": refused}, notice=refused)).then(**drawing)
    cancel.click(inputs=question["model"], **action(partial(cancelled, api))).then(**drawing)
    timer.tick(**drawing)
    return drawing


def begun(api: Api, *, own_batch: int, own_length: int, full: bool, **values: Any) -> View:
    """Queue a probe with these settings. Without a GPU here, settings that need one get those of a CPU."""
    r, options, setup = rank_of(values), link.options_of(values), {"framework": values["framework"]}
    if api.workspace.here().cuda:
        setup |= {name: values[name] for name in ("precision", "optim", "checkpointing")}
    else:
        options |= dict.fromkeys(FLAGS) | {"moe": "default"}
    asked = ProbeQuestion(
        model_id=options["model"],
        lora=replace(lora_of(options), r=r, lora_alpha=lora_alpha(options["alpha"], r)),
        training=training_of(setup | {"batch": own_batch, "max_length": own_length}, start=PROBE_TRAINING),
        full=bool(full),
    )
    api.machine.start_probe(asked)
    return View(notice="")


def cancelled(api: Api, model: str) -> None:
    """Cancel the newest probe of this model."""
    record = api.machine.newest_probe(model or "")
    if record is not None and not record.state.ended:
        api.runs.cancel(record.run_id)


def probing(api: Api, *, model: str) -> View:
    """Return the state of the newest probe of this model, and a table of its measurements."""
    record = api.machine.newest_probe(model or "")
    if record is None:
        panel = html.empty("No probe of this model on this machine yet.")
        return View(panel=panel, cancel=gr.Button(visible=False), timer=gr.Timer(active=False))
    request, training, runs = record.request, record.request.training, not record.state.ended
    tokens = f"{training.per_device_train_batch_size} × {training.max_length:,} tokens"
    what = f"r = {request.lora.r}, {training.framework}, {training.precision}, {training.optim}, {tokens}"
    parts = [f"<h2>{escape(request.model_id)}, {escape(what)}</h2>"]
    if runs:
        elapsed = units.duration(max(1.0, time.time() - record.started_at)) if record.started_at else ""
        standing = f"{record.stage[:1].upper()}{record.stage[1:]}. {elapsed} elapsed."
        if record.state is RunState.QUEUED:
            standing = f"Queued. {api.runs.place_in_words(record.run_id)}"
        ended = len(record.measured) + len(record.did_not_fit) + len(record.skipped)
        parts.append(f'<p role="status">{escape(standing)}</p>')
        parts.append(html.progress(ended / len(request.depths), label="Depths measured"))
    elif record.state is RunState.CANCELLED:
        parts.append(html.paragraphs("Cancelled."))
    parts.append(notice_html(record.error or "", kind="error"))
    if record.measured:
        heads, rows = table(record, api.machine.estimate_probe(record))
        shown = [Row(cells, chosen="All" in cells[0] and "estimated" not in cells[0]) for cells in rows]
        parts.append(html.table(heads, shown, label="Probe"))
    parts.append(notice_html(*sentences(record)))
    if where := record.environment:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.started_at or request.created_at))
        parts.append(html.paragraphs(f"Measured on {where.get('device_name')}, {day}; random weights and tokens."))
    panel = f'<div class="rv-status">{"".join(parts)}</div>'
    return View(panel=panel, cancel=gr.Button(visible=runs), timer=gr.Timer(active=runs))
