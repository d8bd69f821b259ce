"""Guide: the rule of thumb with live numbers for the chosen model, how numbers are made, what the words mean."""

from dataclasses import replace
from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.guidance import RANK_RULES, SETTINGS
from rankviz.core.lora import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.ui import html, question
from rankviz.ui.answer import percent
from rankviz.ui.controls import plain
from rankviz.ui.html import Cell, Row
from rankviz.ui.wiring import wire

HOW = f"""
<h2>How the numbers are made</h2>
<dl class="rv-how">
<dt>Trainable parameters <i>exact</i></dt>
<dd>LoRA puts A (r × in) and B (out × r) beside each targeted weight, so a layer adds r · (in + out). The layers are
the real ones: each model of the catalogue was built on the meta device from its own <code>config.json</code>, so
grouped-query attention, fused projections, tied embeddings and experts are counted as they are. Every count is
compared with PEFT {PEFT_VERSION} in the tests, to the parameter.</dd>
<dt>Adapter file <i>exact</i></dt>
<dd>The bytes of <code>adapter_model.safetensors</code>, header included, in the type that the framework saves: 4
bytes a parameter in PEFT and Unsloth, 2 in TRL's QLoRA path. Compared with saved files, to the byte.</dd>
<dt>Memory <i>range</i></dt>
<dd>Base weights, adapter, gradients, optimizer state, activations, logits and scratch at the moment of the peak, then
the slack of the allocator and the CUDA context, to what <code>nvidia-smi</code> shows. Formulas were read in the
libraries' code (PEFT {PEFT_VERSION}, Unsloth {UNSLOTH_VERSION}). Rank moves memory little: targets, batch and length
move it more.</dd>
<dt>Time <i>range</i></dt>
<dd>Operations a token over what the card was seen to sustain, with a floor for launching kernels. A frozen base needs
no weight gradients, so it is not the usual 6 operations a parameter.</dd>
<dt>Money <i>range</i></dt>
<dd>Hours times the price an hour, yours or the table's, whose provider and date stand under GPU and price.</dd>
<dt>Held-out loss <i>measured</i></dt>
<dd>Nats a target token on rows that were not trained on, the same rows for every run of a sweep. One run can't order
ranks that lie closer than about 0.02 nats: repeat it with other seeds before believing a small gap.</dd>
</dl>
"""

COLOURS = """
<h2>What the colours mean</h2>
<p class="rv-caption"><span class="rv-dot rv-dot-estimated"></span>estimated, a line or a bar &emsp; <span
class="rv-dot"></span>measured, a filled marker &emsp; <span class="rv-dot rv-dot-chosen"></span>the chosen rank, a
thin line and a bold row</p>
"""


class Rules(NamedTuple):
    rules: str


def rules(api: Api, **values: Any) -> Rules:
    """The rule of thumb, each line with this model's numbers."""
    asked = replace(question.ask(values), ranks=tuple(rule.r for rule in RANK_RULES))
    said = api.estimate(asked)
    by_rank = {row["r"]: row for row in said["ranks"]}
    body = html.table(
        ["Rank", "For", "Why", "Trainable", "Share", "Adapter file", "Memory"],
        [_rule_row(rule, by_rank[rule.r]) for rule in RANK_RULES],
        label="The rule of thumb",
        left=3,
    )
    return Rules(f'<p class="rv-caption">Numbers for {escape(said["model_id"])}, as asked on Explore.</p>{body}')


def _rule_row(rule: Any, row: dict[str, Any]) -> Row:
    memory = row["memory_bytes"]
    return Row(
        cells=[
            rule.label,
            Cell(rule.use + (" (recommended)" if rule.recommended else "")),
            Cell(rule.reason, title=rule.source, kind="wrap"),
            Cell(units.count(row["adapter_parameters"]), title=f"{row['adapter_parameters']:,}"),
            percent(row["adapter_percent"]),
            Cell(units.file_size(row["adapter_bytes"]), title=f"{row['adapter_bytes']:,} bytes"),
            units.memory_size(memory["device"]),
        ],
        chosen=rule.recommended,
    )


def settings_html() -> str:
    """Each setting in two sentences with its source."""
    return "<h2>What the words mean</h2>" + html.table(
        ["Setting", "Default", "What it does", "Source"],
        [Row(cells=[s.name, s.value, Cell(s.meaning, kind="wrap"), Cell(s.source, kind="wrap")]) for s in SETTINGS],
        label="Settings",
        left=4,
    )


def build(api: Api, asked: dict[str, Any]) -> dict[str, Any]:
    """Returns the event that fills the live table, to be run when the tab is opened."""
    with gr.Column(elem_classes="rv-guide"):
        plain("<h2>Which rank</h2>")
        notice = plain()
        table = plain(elem_id="rules")
        plain(settings_html())
        plain(HOW)
        plain(COLOURS)
    return wire(partial(rules, api), inputs=asked, outputs={"rules": table}, notice=notice)
