"""Shows how each number is computed and how far off it has been: a table, and the methods folded below it."""

from rankviz.api import Api
from rankviz.core.forecast.bands import KINDS
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.runs.tradeoff import TOLERANCE_NATS
from rankviz.ui.parts import html
from rankviz.ui.parts.html import Cell, Row
from rankviz.units import counted
from rankviz.units import rounded_percent as percent

HOW = f"""
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
{UNSLOTH_VERSION} were read in its code.</dd>
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
<dt>Quality forecast <i>range</i></dt>
<dd>A band from the lines of published rank studies, the same for every model and task: half of it is the rule of thumb
with the errors that it had, half is no difference between ranks, with the gaps that were published. Your own runs have
a forecast of their own, between their ranks.</dd>
</dl>
"""


def numbers_html(api: Api, *, model: str, use_case: str) -> str:
    """Each number with its error so far, and how it is computed.

    Args:
        api: All operations.
        model: A model of the catalogue, for the forecast.
        use_case: A name of core.advice.use_case.
    """
    unseen = api.accuracy.shipped().left_out
    memory, time = unseen.overall, unseen.time
    held = api.forecasts.left_out(use_case)
    rows = [
        (
            "Trainable parameters",
            "exact",
            "none",
            f"every model here, compared with PEFT {PEFT_VERSION} and Unsloth {UNSLOTH_VERSION}",
        ),
        ("Adapter file", "exact", "none", "compared with saved files"),
        (
            "Memory",
            f"range, ±{percent(memory.mean_half_width)} on average",
            f"{percent(memory.mean_abs_error)} on average; {percent(memory.inside_band)} inside the range",
            f"{memory.rows} published peaks on GPUs, each source predicted without its own",
        ),
        (
            "Time",
            "range",
            f"{percent(time.mean_abs_error)} on average; {percent(time.inside_range)} inside the range",
            f"{time.rows} timings, predicted in the same way",
        ),
        ("Cost", "range", "the error of the time", "hours times a price with provider and date"),
        (
            "Quality forecast",
            "80 % band",
            f"{percent(held.inside_80, 0)} of left-out scores inside the band" if held else "not known",
            f"{counted(held.publications, 'publication')} on {KINDS[held.kind]}, each left out in turn"
            if held
            else "no publication of this kind could be left out",
        ),
        ("Held-out loss", "measured", "the noise of a run", "repeat it with other seeds"),
    ]
    table = html.table(
        ["Number", "Error so far"],
        [
            Row(cells=[Cell(number, sub=kind), Cell(error, kind="wrap", sub=compared)])
            for number, kind, error, compared in rows
        ],
        label="How far off each number has been",
    )
    return table + html.folded("How each number is computed", HOW)
