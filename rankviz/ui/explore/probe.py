"""Starts a probe of the selected model from Explore, and shows the newest result.

The page owns no probe: it shows the newest probe of the selected model in the runs folder, whoever started it. So a
reload, another page or a restarted app finds it.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.lora.config import lora_alpha
from rankviz.core.probe import (
    FREE_MEMORY_SHARE,
    PROBE_TRAINING,
    SHARED_MEMORY_LIMIT_BYTES,
    SHARED_TIME_LIMIT_SECONDS,
    TIME_LIMIT_SECONDS,
    ProbeQuestion,
    ProbeRecord,
    headers,
    lines_of,
    sentences,
)
from rankviz.core.runs.record import RunState
from rankviz.options import training_of
from rankviz.ui.link import alpha_of
from rankviz.ui.parts import html, question
from rankviz.ui.parts.controls import hidden, plain
from rankviz.ui.parts.html import Row, notice_html
from rankviz.ui.wiring import View, action, wire
from rankviz.units import rounded_percent as percent

POLL_SECONDS = 1.0
SETTINGS = (
    "model", "r", "preset", "modules", "names", "save", "alpha_rule", "alpha_fixed", "use_rslora", "use_dora",
    "moe_scheme", "expert_rank", "unsloth_class", "text_only", "parts", "framework", "precision", "optim",
    "checkpointing",
)  # fmt: skip
"""Widgets of the question that a probe uses. It has its own batch and length: on a CPU they are smaller."""


def build_probe(api: Api, w: Mapping[str, Any]) -> dict[str, Any]:
    """The section; returns the event that draws it. w: the question's widgets."""
    with gr.Column(elem_id="probe"):
        plain(html.paragraphs(about(api)))
        with gr.Row(elem_classes="rv-bar"):
            batch = gr.Number(1, label="Probe batch", precision=0, min_width=90)
            length = gr.Number(256, label="Probe length", precision=0, min_width=90)
            full = gr.Checkbox(False, label="Also run all blocks", min_width=120)
            start = gr.Button("Measure", min_width=140, elem_id="probe-button")
            cancel = gr.Button("Cancel", visible=False, min_width=90, elem_id="probe-cancel")
        refused = plain(elem_id="probe-notice")
        panel = plain(elem_id="probe-panel")
    seen, timer = hidden(), gr.Timer(POLL_SECONDS, active=False)
    outputs = {"panel": panel, "cancel": cancel, "seen": seen, "timer": timer}
    drawing = wire(partial(probing, api), inputs={"model": w["model"], "seen": seen}, outputs=outputs, silent=True)
    inputs = {name: w[name] for name in SETTINGS} | {"own_batch": batch, "own_length": length, "full": full}
    start.click(**wire(partial(begun, api), inputs=inputs, outputs={"notice": refused}, notice=refused)).then(**drawing)
    cancel.click(inputs=w["model"], **action(partial(cancelled, api))).then(**drawing)
    timer.tick(**drawing)
    return drawing


def about(api: Api) -> str:
    seconds, memory = TIME_LIMIT_SECONDS, f"{percent(FREE_MEMORY_SHARE, 0)} of the free memory"
    if api.workspace.shared:
        seconds, memory = SHARED_TIME_LIMIT_SECONDS, units.memory_size(SHARED_MEMORY_LIMIT_BYTES)
    return (
        "A probe builds the real layers of this model with random weights, at two small depths, and runs training "
        "steps with this adapter on this machine. It downloads nothing. It ends after at most "
        f"{units.duration(seconds)} and uses at most {memory}. A depth that does not fit is a result too."
    )


def begun(api: Api, *, own_batch: int, own_length: int, full: bool, **values: Any) -> View:
    """Queue a probe with these settings, adapted to what this machine can train."""
    r = question.rank_of(values)
    setup = {name: values[name] for name in ("framework", "precision", "optim", "checkpointing")}
    probe = ProbeQuestion(
        model_id=(values["model"] or "").strip(),
        lora=replace(question.lora_of(values), r=r, lora_alpha=lora_alpha(alpha_of(values), r)),
        training=training_of(setup | {"batch": own_batch, "max_length": own_length}, start=PROBE_TRAINING),
        full=bool(full),
    )
    probe, changed = api.probes.for_here(probe)
    api.probes.start(probe)
    return View(notice=notice_html(changed))


def cancelled(api: Api, model: str) -> None:
    record = api.probes.newest(model or "")
    if record is not None and not record.state.ended:
        api.runs.cancel(record.run_id)


def probing(api: Api, *, model: str, seen: str) -> View:
    """The section as it stands; nothing to draw is nothing sent."""
    record = api.probes.newest(model or "")
    if record is None:
        panel = html.empty("No probe of this model on this machine yet.")
        return View(panel=panel, cancel=gr.Button(visible=False), seen="", timer=gr.Timer(active=False))
    runs, standing = not record.state.ended, standing_of(api, record)
    now = f"{record.run_id} {record.state.value} {len(record.measured)} {standing}"
    timer = gr.Timer(active=runs)
    if now == seen:
        return View(timer=timer)
    panel = panel_html(api, record, standing)
    return View(panel=panel, cancel=gr.Button(visible=runs), seen=now, timer=timer)


def panel_html(api: Api, record: ProbeRecord, standing: str) -> str:
    """Where it stands, and the table of what it has measured."""
    request, training, where = record.request, record.request.training, record.environment
    tokens = f"{training.per_device_train_batch_size} × {training.max_length:,} tokens"
    what = f"r = {request.lora.r}, {training.framework}, {training.precision}, {training.optim}, {tokens}"
    parts = [f"<h2>{escape(request.model_id)}, {escape(what)}</h2>"]
    if standing:
        ended = len(record.measured) + len(record.did_not_fit) + len(record.skipped)
        parts.append(f'<p role="status">{escape(standing)}</p>')
        parts.append(html.progress(ended / len(request.depths), label="Depths measured"))
    elif record.state is RunState.CANCELLED:
        parts.append(html.paragraphs("Cancelled."))
    parts.append(notice_html(record.error or "", kind="error"))
    if record.measured:
        summary = api.probes.summary(record.run_id)
        rows = [
            Row(line.texts, chosen="All" in line.name and "estimated" not in line.name) for line in lines_of(summary)
        ]
        parts.append(html.table(headers(summary), rows, label="Probe"))
    parts.append(notice_html(*sentences(record)))
    if where:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.started_at or request.created_at))
        kind = f" Memory: {record.measured[0].peak_kind}." if record.measured else ""
        parts.append(
            html.paragraphs(f"Measured on {where.get('device_name')}, {day}; random weights and tokens.{kind}")
        )
    return '<div class="rv-status">' + "".join(parts) + "</div>"


def standing_of(api: Api, record: ProbeRecord) -> str:
    """Empty of one that has ended."""
    if record.state.ended:
        return ""
    if record.state is RunState.QUEUED:
        return f"Queued. {api.runs.place_in_words(record.run_id)}"
    elapsed = units.duration(max(1.0, time.time() - record.started_at)) if record.started_at else ""
    return f"{record.stage[:1].upper()}{record.stage[1:]}. {elapsed} elapsed."
