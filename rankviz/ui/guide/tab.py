"""Guide: the rule of thumb with live numbers for the chosen model, how numbers are made, what the words mean."""

from dataclasses import replace
from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.json import estimate_json
from rankviz.core.advice.rules import RANK_RULES, SETTINGS, RankRule
from rankviz.core.advice.words import rule_in_words
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.studies.findings import RankEnough
from rankviz.ui.explore.answer import percent
from rankviz.ui.guide import accuracy
from rankviz.ui.parts import html, question
from rankviz.ui.parts.controls import plain
from rankviz.ui.parts.html import Cell, Row
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
the slack of the allocator and the CUDA context, to what <code>nvidia-smi</code> shows. What blocks keep was followed
through whole training steps of transformers and PEFT {PEFT_VERSION}, tensor by tensor; Unsloth {UNSLOTH_VERSION}'s
kernels were read in its code. Rank moves memory little: targets, batch and length move it more.</dd>
<dt>Time <i>range</i></dt>
<dd>Matrix products at the rate that cards were seen to sustain, plus the bytes that all other operators move over the
card's bandwidth, with a floor for launching kernels. A frozen base needs no weight gradients, so it is not the usual 6
operations a parameter.</dd>
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
class="rv-dot"></span>measured, a filled marker &emsp; <span class="rv-dot rv-dot-published"></span>published, an open
marker, one shape a study &emsp; <span class="rv-dot rv-dot-fast"></span>a fast curve, dashed &emsp; <span
class="rv-dot rv-dot-chosen"></span>the chosen rank, a thin line and a bold row</p>
"""


class Rules(NamedTuple):
    rules: str


def rules(api: Api, **values: Any) -> Rules:
    """The rule of thumb, each line with this model's numbers."""
    asked = replace(question.ask(values), ranks=tuple(rule.r for rule in RANK_RULES))
    said = estimate_json(api.estimates.estimate(asked))
    by_rank = {row["r"]: row for row in said["ranks"]}
    enough = api.studies.rank_enough()
    body = html.table(
        ["Rank", "For", "Trainable", "Share", "Adapter file", "Memory", "Why"],
        [_rule_row(rule, by_rank[rule.r], enough) for rule in RANK_RULES],
        label="The rule of thumb",
        left=2,
    )
    where = f" on {said['gpu']}" if said["gpu"] else ""
    about = f"Numbers for {said['model_id']}{where}, as asked on Explore. α = r or 2r, dropout 0, bias none."
    return Rules(html.paragraphs(about) + body)


def _rule_row(rule: RankRule, row: dict[str, Any], enough: RankEnough | None) -> Row:
    counted = rule_in_words(enough, rule.r, last=rule is RANK_RULES[-1])
    return Row(
        cells=[
            rule.label,
            Cell(rule.use + (" (recommended)" if rule.recommended else ""), kind="narrow"),
            Cell(units.count(row["adapter_parameters"]), title=f"{row['adapter_parameters']:,}"),
            percent(row["adapter_percent"]),
            Cell(units.file_size(row["adapter_bytes"]), title=f"{row['adapter_bytes']:,} bytes"),
            units.memory_size(row["memory_bytes"]["device"]),
            Cell(f"{rule.reason} {counted}".strip(), kind="wrap", sub=rule.source),
        ],
        chosen=rule.recommended,
    )


def settings_html() -> str:
    """Each setting in two sentences with its source."""
    items = "".join(
        f"<dt>{escape(s.name)} <i>{escape(s.value)}</i></dt>"
        f'<dd>{escape(s.meaning)}<span class="rv-under">{escape(s.source)}</span></dd>'
        for s in SETTINGS
    )
    return f'<h2>What the words mean</h2><dl class="rv-how">{items}</dl>'


def build(api: Api, asked: dict[str, Any]) -> dict[str, Any]:
    """Returns the event that fills the live table, to be run when the tab is opened."""
    with gr.Column(elem_classes="rv-guide"):
        plain("<h2>Which rank</h2>")
        notice = plain()
        table = plain(elem_id="rules")
        plain(settings_html())
        plain(HOW)
        accuracy.build(api)
        plain(COLOURS)
    return wire(partial(rules, api), inputs=asked, outputs={"rules": table}, notice=notice)
