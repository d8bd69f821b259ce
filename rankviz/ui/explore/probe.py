"""Measure it here: a probe of the chosen model from Explore, and what the newest one of this model has measured.

The page owns no probe: what is shown is the newest probe of the chosen model in the runs folder, whoever asked for it,
so a reload, another page or a restarted app finds it as it stands.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.lora.config import LoraConfig, lora_alpha
from rankviz.core.probe.record import ProbeRecord
from rankviz.core.probe.request import (
    PROBE_TRAINING,
    SHARED_MEMORY_LIMIT_BYTES,
    SHARED_TIME_LIMIT_SECONDS,
    TIME_LIMIT_SECONDS,
    ProbeQuestion,
    for_here,
)
from rankviz.core.probe.summary import HEADERS, table_lines
from rankviz.core.runs.record import RunState
from rankviz.ui.parts import html, question
from rankviz.ui.parts.controls import plain
from rankviz.ui.parts.html import Row
from rankviz.ui.wiring import action, heard, notice_html, wire

POLL_SECONDS = 1.0
ASKED = (
    "model", "r", "preset", "modules", "names", "alpha_rule", "alpha_fixed", "use_rslora", "use_dora", "framework",
    "precision", "optim", "checkpointing",
)  # fmt: skip
"""Widgets of the question that a probe takes over. Batch and length are its own: on a CPU one takes less of them."""


class Probing(NamedTuple):
    section: Any
    """Opened once there is something to see."""
    panel: str
    cancel: Any
    seen: Any
    timer: Any


def build(api: Api, w: Mapping[str, Any]) -> dict[str, Any]:
    """The section; returns the event that draws it. w: the question's widgets."""
    with gr.Accordion("Measure it here, without weights", open=False, elem_id="probe") as section:
        plain(html.paragraphs(about(api)))
        with gr.Row(elem_classes="rv-bar"):
            batch = gr.Number(1, label="Rows a step", precision=0, min_width=90)
            length = gr.Number(256, label="Tokens a row", precision=0, min_width=90)
            full = gr.Checkbox(False, label="All blocks too", min_width=120)
            start = gr.Button("Measure it here", min_width=140, elem_id="probe-button")
            cancel = gr.Button("Cancel", visible=False, min_width=90, elem_id="probe-cancel")
        refused = plain(elem_id="probe-notice")
        panel = plain(elem_id="probe-panel")
    seen = gr.State(None)
    timer = gr.Timer(POLL_SECONDS, active=False)

    asked = {name: w[name] for name in ASKED}
    drawing = wire(
        partial(probing, api),
        inputs={"model": w["model"], "seen": seen},
        outputs={"section": section, "panel": panel, "cancel": cancel, "seen": seen, "timer": timer},
        silent=True,
    )
    begin = wire(
        partial(begun, api),
        inputs={**asked, "own_batch": batch, "own_length": length, "full": full},
        outputs={"said": refused},
        notice=refused,
    )
    start.click(**begin).then(**drawing)
    cancel.click(inputs=w["model"], **action(partial(cancelled, api))).then(**drawing)
    timer.tick(**drawing)
    heard(w["model"].change).then(**drawing)
    return drawing


def about(api: Api) -> str:
    seconds = SHARED_TIME_LIMIT_SECONDS if api.shared else TIME_LIMIT_SECONDS
    memory = units.memory_size(SHARED_MEMORY_LIMIT_BYTES) if api.shared else "80 % of the memory that is free"
    return (
        "Builds this model's real layers with random weights, at two small depths, and runs true training steps with "
        f"this adapter on this machine. Nothing is downloaded. It ends after {units.duration(seconds)} at the latest "
        f"and takes {memory} at most; what doesn't fit is a result."
    )


class Begun(NamedTuple):
    said: str


def begun(api: Api, *, own_batch: int, own_length: int, full: bool, **values: Any) -> Begun:
    """Queue a probe of what the question asks, as far as this machine can train so."""
    asked = ProbeQuestion(
        model_id=(values["model"] or "").strip(),
        lora=LoraConfig(
            r=values["r"],
            lora_alpha=lora_alpha(question.alpha_of(values), values["r"]),
            target_modules=question.targets_of(values),
            use_rslora=bool(values["use_rslora"]),
            use_dora=bool(values["use_dora"]),
        ),
        training=replace(
            PROBE_TRAINING,
            framework=values["framework"],
            precision=values["precision"],
            optim=values["optim"],
            gradient_checkpointing=values["checkpointing"],
            per_device_train_batch_size=own_batch,
            max_length=own_length,
        ),
        full=bool(full),
    )
    asked, changed = for_here(asked, api.here())
    api.start_probe(asked)
    return Begun(notice_html(changed))


def cancelled(api: Api, model: str) -> None:
    record = newest(api, model)
    if record is not None and not record.state.ended:
        api.cancel(record.run_id)


def newest(api: Api, model: str) -> ProbeRecord | None:
    """The newest probe of this model."""
    model_id = api.model(model or "").id
    return next((record for record in api.probes() if record.request.model_id == model_id), None)


def probing(api: Api, *, model: str, seen: Any) -> Probing:
    """The section as it stands; nothing to draw is nothing sent."""
    record = newest(api, model)
    if record is None:
        empty = html.paragraphs("This model has not been measured here yet.", css="rv-empty")
        return Probing(gr.skip(), empty, gr.Button(visible=False), None, gr.Timer(active=False))
    going = not record.state.ended
    now = (record.run_id, record.state.value, record.stage, len(record.measured), _elapsed(record) if going else "")
    timer = gr.Timer(active=going)
    if now == seen:
        return Probing(gr.skip(), gr.skip(), gr.skip(), gr.skip(), timer)
    section = gr.Accordion(open=True) if seen is None else gr.skip()
    return Probing(section, panel_html(api, record), gr.Button(visible=going), now, timer)


def panel_html(api: Api, record: ProbeRecord) -> str:
    """Where it stands, and the table of what it has measured."""
    request, training = record.request, record.request.training
    tokens = f"{training.per_device_train_batch_size} × {training.max_length:,} tokens"
    what = f"r = {request.lora.r}, {training.framework}, {training.precision}, {training.optim}, {tokens}"
    parts = [f"<h2>{escape(request.model_id)}, {escape(what)}</h2>"]
    if not record.state.ended:
        parts.append(f'<p role="status">{escape(_standing(record))}</p>')
        done = len(record.measured) + len(record.did_not_fit) + len(record.skipped)
        parts.append(html.progress(done / len(request.depths), label="Depths measured"))
    elif record.state is RunState.CANCELLED:
        parts.append(html.paragraphs("Cancelled."))
    answer = api.probe_summary(record.run_id)
    if record.error:
        parts.append(notice_html(record.error, kind="error"))
    if record.measured:
        rows = [Row(cells=line, chosen="All" in line[0] and "estimated" not in line[0]) for line in table_lines(answer)]
        parts.append(
            html.table([HEADERS[0], f"{HEADERS[1]}, {answer['peak_kind']}", *HEADERS[2:]], rows, label="Probe")
        )
    parts.append(notice_html(*answer["sentences"]))
    if record.environment:
        parts.append(html.paragraphs(_where(record)))
    return '<div class="rv-status">' + "".join(parts) + "</div>"


def _standing(record: ProbeRecord) -> str:
    if record.state is RunState.QUEUED:
        return "Queued: it starts as soon as the worker is free."
    return f"{record.stage[:1].upper()}{record.stage[1:]}. {_elapsed(record)} so far."


def _elapsed(record: ProbeRecord) -> str:
    return units.duration(max(1.0, time.time() - record.started_at)) if record.started_at else ""


def _where(record: ProbeRecord) -> str:
    where = record.environment
    cores = f", {where['cpu_count']} cores" if where.get("device") == "cpu" else ""
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.started_at or record.request.created_at))
    versions = where.get("versions", {})
    kind = record.measured[0].peak_kind if record.measured else ""
    memory = f" Memory is {'of the process, ' if kind.startswith('resident') else ''}{kind}." if kind else ""
    named = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "peft") if name in versions)
    return f"Measured on {where.get('device_name')}{cores}, {day}, with {named}; random weights and tokens.{memory}"
