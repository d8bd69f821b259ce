"""One run in full: what was asked, what was measured beside what was estimated, where it ran, what its log says."""

import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.ui.parts import html, live
from rankviz.ui.parts.html import Cell, Row


def detail_html(api: Api, run: RunRecord) -> str:
    request = run.request
    heading = f"r = {request.r}: {live.base_name(request.base)} on {live.data_name(request.data)}"
    parts = [
        f'<section class="rv-detail" aria-label="Run {escape(run.run_id)}"><h2>{escape(heading)}</h2>',
        html.paragraphs(f"{run.run_id}, {run.state.value}. {_when(run)}"),
        f'<p class="rv-caption"><a href="?tab=sweep&amp;sweep={quote(request.sweep_id)}">The whole sweep</a></p>',
    ]
    if run.error:
        parts.append(f'<div class="rv-notice rv-error" role="alert"><p>{escape(run.error)}</p></div>')
    parts.append('<div class="rv-columns">')
    parts.append(
        html.table(
            ["What", "Measured", "Estimated", "Measured / estimated"],
            _compared(api, run),
            label="Measured and estimated",
        )
    )
    if (api.expected_run(run) or {}).get("calibrated_by"):
        parts.append(html.paragraphs("The estimate is calibrated on this machine, by probes of this base."))
    parts.append(facts_html("What was asked", asked_facts([run])))
    parts.append(facts_html("Where it ran", environment_facts(run.environment)))
    parts.append("</div>")
    if run.state is RunState.FAILED and run.log_tail:
        parts.append(html.preformatted(run.log_tail, title="The end of the worker's log"))
    return "".join(parts) + "</section>"


def _when(run: RunRecord) -> str:
    asked = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.request.created_at))
    took = f" It took {units.duration(run.ended_at - run.started_at)}." if run.ended_at and run.started_at else ""
    return f"Asked for on {asked}.{took}"


def _compared(api: Api, run: RunRecord) -> Sequence[Row]:
    estimate = api.expected_run(run) or {}
    done = run.completed
    rows = [
        ("Trainable parameters", run.trainable_parameters, estimate.get("adapter_parameters"), "{:,}".format),
        ("Adapter file", run.adapter_bytes, estimate.get("adapter_bytes"), "{:,} bytes".format),
        (
            f"Peak memory, {done.peak_memory_kind}" if done else "Peak memory",
            done and done.peak_memory_bytes,
            estimate.get("memory_bytes"),
            units.memory_size,
        ),
        ("Training time", done and done.train_seconds, estimate.get("seconds"), units.duration),
        ("Held-out loss of the base", run.loss_before and run.loss_before.loss, None, "{:.4f}".format),
        ("Held-out loss after training", run.loss_after and run.loss_after.loss, None, "{:.4f}".format),
    ]
    return [Row(cells=_comparison(*row)) for row in rows]


def _comparison(name: str, measured: float | None, estimated: Any, text) -> Sequence[Cell]:
    if isinstance(estimated, Mapping):
        said = f"{text(estimated['low'])} – {text(estimated['high'])}"
        middle = estimated.get("expected", estimated.get("device"))
    else:
        said = text(estimated) if estimated is not None else "–"
        middle = estimated
    ratio = f"{measured / middle:.3f}" if measured and middle else "–"
    return Cell(name), Cell(text(measured) if measured is not None else "–"), Cell(said), Cell(ratio)


def asked_facts(runs: Sequence[RunRecord]) -> Sequence[tuple[str, str]]:
    """The settings of one run, or of all runs of a sweep: what differs from run to run is listed."""
    requests = [run.request for run in runs]
    first = requests[0]
    lora, training = first.lora, first.training
    targets = lora.target_modules

    def each(values: Iterable[float]) -> str:
        return ", ".join(f"{value:g}" for value in dict.fromkeys(values))

    variants = (", rsLoRA" if lora.use_rslora else "") + (", DoRA" if lora.use_dora else "")
    cut = next((request.cut_ranks for request in requests if request.cut_ranks), ())
    return [
        ("Rank", each(request.r for request in requests)),
        *([("Cut to", each(sorted(cut)))] if cut else []),
        ("Targets", targets if isinstance(targets, str) else ", ".join(targets)),
        ("Alpha", each(request.lora.lora_alpha for request in requests) + variants),
        ("Learning rate", each(request.learning_rate for request in requests)),
        ("Seed", each(request.seed for request in requests)),
        ("Steps", f"{first.max_steps:,}"),
        ("Batch", f"{training.per_device_train_batch_size} × {training.gradient_accumulation_steps}"),
        ("Tokens a row at most", f"{training.max_length:,}"),
        ("Held-out examples", f"{first.held_out_examples:,}"),
        ("Precision", training.precision),
        ("Optimizer", training.optim),
    ]


def environment_facts(environment: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """What the worker wrote about the machine, in its order; libraries one line each."""
    facts = []
    for name, value in environment.items():
        if isinstance(value, bool):
            facts.append((name.replace("_", " "), "yes" if value else "no"))
        elif isinstance(value, Mapping):
            facts += [(str(k), str(v)) for k, v in value.items()]
        elif isinstance(value, list | tuple):
            facts.append((name.replace("_", " "), ", ".join(map(str, value))))
        elif value not in (None, ""):
            facts.append((name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)))
    return facts


def facts_html(title: str, pairs: Sequence[tuple[str, str]]) -> str:
    if not pairs:
        return ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f'<div class="rv-facts"><h3 class="rv-section">{escape(title)}</h3><dl>{rows}</dl></div>'
