"""The Guide tab explains the rule of thumb, how numbers are computed, and the terms, for the selected model."""

from dataclasses import replace
from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.estimates import EstimateAnswer
from rankviz.core.advice.rules import RANK_RULES, SETTINGS, RankRule
from rankviz.core.advice.words import rule_in_words
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.runs.tradeoff import TOLERANCE_NATS
from rankviz.core.studies.findings import RankEnough
from rankviz.ui.guide import accuracy
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain
from rankviz.ui.parts.html import Cell, Row
from rankviz.ui.parts.question import ask
from rankviz.ui.wiring import wire

HOW = f"""
<h2>How the numbers are computed</h2>
<dl class="rv-how">
<dt>Trainable parameters <i>exact</i></dt>
<dd>LoRA adds two matrices to each target weight: A (r × in) and B (out × r). A layer therefore adds r · (in + out)
parameters. The layers are the real ones: each model of the catalogue was built on the meta device from its own
<code>config.json</code>, so grouped-query attention, fused projections, tied embeddings and experts are counted
correctly. Tests compare the counts with PEFT {PEFT_VERSION} and Unsloth {UNSLOTH_VERSION}, to the parameter.</dd>
<dt>Another number in an older notebook</dt>
<dd>A count depends on the versions. gpt-oss-20b with Unsloth's seven projections and r = 8 has 92,454,912 trainable
parameters with Unsloth {UNSLOTH_VERSION}. Notebooks made before Unsloth put adapters on experts printed 3,981,312,
which is attention alone. Unsloth also reads target names in its own way for all families but llama, mistral, gemma,
gemma2, qwen2 and qwen3: it trains linear layers inside attention and MLP modules of the language model, and leaves out
other layers with the same names. The notes of each estimate say what was left out.</dd>
<dt>Adapter file <i>exact</i></dt>
<dd>The size of <code>adapter_model.safetensors</code> in bytes, header included, in the type that the framework saves:
4 bytes per parameter in PEFT and Unsloth, 2 in TRL's QLoRA path. Tests compare it with saved files, to the byte.</dd>
<dt>Memory <i>range</i></dt>
<dd>The sum of base weights, adapter, gradients, optimizer states, activations, logits and scratch memory at the peak,
plus the allocator's slack and the CUDA context: the figure that <code>nvidia-smi</code> shows. The tensors that blocks
keep were traced through whole training steps of transformers and PEFT {PEFT_VERSION}; the kernels of Unsloth
{UNSLOTH_VERSION} were read in its code. Rank has little effect on memory; targets, batch and length have more.</dd>
<dt>Time <i>range</i></dt>
<dd>Matrix products at the speed that GPUs sustained in measurements, plus the bytes that all other operators move,
divided by the GPU's bandwidth, with a minimum for kernel launches. A frozen base needs no weight gradients, so the
usual rule of 6 operations per parameter does not apply.</dd>
<dt>Cost <i>range</i></dt>
<dd>Hours times the price per hour, yours or the table's. "GPU and price" shows its provider and date.</dd>
<dt>Held-out loss <i>measured</i></dt>
<dd>Nats per target token on examples that were not trained on, the same examples for every run of a sweep. One run
cannot order ranks that differ by less than about {TOLERANCE_NATS:g} nats: repeat it with other seeds before you trust
a small difference.</dd>
</dl>
"""

COLOURS = """
<h2>Colours</h2>
<p class="rv-caption"><span class="rv-dot rv-dot-estimated"></span>estimated: a line or a bar &emsp; <span
class="rv-dot"></span>measured: a filled marker &emsp; <span class="rv-dot rv-dot-published"></span>published: an open
marker, one shape per study &emsp; <span class="rv-dot rv-dot-fast"></span>fast curve: dashed &emsp; <span
class="rv-dot rv-dot-chosen"></span>chosen rank: a thin line and a bold row</p>
"""


class Rules(NamedTuple):
    rules: str


def rules(api: Api, **values: Any) -> Rules:
    """The rule of thumb, each line with this model's numbers."""
    question = replace(ask(values), ranks=tuple(rule.r for rule in RANK_RULES))
    answer = api.estimates.estimate(question)
    enough = api.studies.rank_enough()
    body = html.table(
        ["Rank", "Use", "Trainable", "Share", "Adapter file", "Memory", "Reason"],
        [_rule_row(rule, answer, enough) for rule in RANK_RULES],
        label="Rule of thumb",
        left=2,
    )
    estimate = answer.estimate
    where = f" on {estimate.gpu.name}" if estimate.gpu else ""
    about = f"Numbers for {estimate.model.id}{where}, with the settings of Explore. α = r or 2r, dropout 0, bias none."
    return Rules(html.paragraphs(about) + body)


def _rule_row(rule: RankRule, answer: EstimateAnswer, enough: RankEnough | None) -> Row:
    counted = rule_in_words(enough, rule.r, last=rule is RANK_RULES[-1])
    rank = answer.rank(rule.r)
    return Row(
        cells=[
            rule.label,
            Cell(rule.use + (" (recommended)" if rule.recommended else ""), kind="narrow"),
            Cell(units.count(rank.adapter_parameters), title=f"{rank.adapter_parameters:,}"),
            units.percent(answer.share(rank)),
            Cell(units.file_size(rank.adapter_bytes), title=f"{rank.adapter_bytes:,} bytes"),
            units.memory_size(rank.memory.device),
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
    return f'<h2>Terms</h2><dl class="rv-how">{items}</dl>'


def build(api: Api, question: dict[str, Any]) -> dict[str, Any]:
    """Returns the event that fills the table, for when the tab is opened."""
    with gr.Column(elem_classes="rv-guide"):
        plain("<h2>Choice of rank</h2>")
        notice = plain()
        table = plain(elem_id="rules")
        plain(settings_html())
        plain(HOW)
        accuracy.build(api)
        plain(COLOURS)
    return wire(partial(rules, api), inputs=question, outputs={"rules": table}, notice=notice)
