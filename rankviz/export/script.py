"""Writes the Python script for Unsloth, TRL or plain PEFT, in parts that become the cells of a notebook."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from rankviz.core.cost.notes import in_fp32
from rankviz.core.cost.stack import overflows_in_fp16
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION, Framework
from rankviz.core.runs.request import WARMUP_STEPS_SHARE
from rankviz.export import templates
from rankviz.export import templates as text
from rankviz.export.recipe import (
    EVAL_STEPS,
    FRAMEWORKS,
    HELD_OUT_SHARE,
    LOGGING_STEPS,
    SCHEDULER,
    SEED,
    WEIGHT_DECAY,
    Recipe,
)
from rankviz.export.words import FILE_NAME, commented, data_of_scripts, sources, title

PINNED = {
    "unsloth": UNSLOTH_VERSION,
    "unsloth_zoo": "2026.10.9",
    "trl": "1.15.0",
    "peft": PEFT_VERSION,
    "transformers": "5.17.0",
    "datasets": "4.8.5",
    "bitsandbytes": "0.50.2",
}
"""With these versions the scripts are run in tests/export/code/test_scripts_train.py. unsloth_zoo, which unsloth asks
for without an upper limit, has the pattern that finds the layers."""
LEFT_OUT = {"unsloth": (), "trl": ("unsloth", "unsloth_zoo"), "peft": ("unsloth", "unsloth_zoo", "trl")}
"""What a framework's script does not use."""
PYTHON = ">=3.11"
"""What TRL 1.15 needs."""


def requirements(framework: Framework) -> tuple[str, ...]:
    """ "unsloth==2026.10.9" and what else the framework's script imports."""
    return tuple(f"{name}=={version}" for name, version in PINNED.items() if name not in LEFT_OUT[framework])


def above_script(framework: Framework) -> str:
    """Comment lines: the pip command, and the header by which `uv run` installs the same (PEP 723)."""
    listed = "".join(f'#     "{requirement}",\n' for requirement in requirements(framework))
    return (
        "# Install this first, or start this file with `uv run`, which installs it:\n"
        f"# pip install {' '.join(requirements(framework))}\n"
        f'#\n# /// script\n# requires-python = "{PYTHON}"\n# dependencies = [\n{listed}# ]\n# ///\n#\n'
    )


def notebook_cell(framework: Framework) -> str:
    """The first cell of a notebook."""
    return f"%pip install --quiet {' '.join(requirements(framework))}"


def colab_cell(framework: Framework) -> str:
    """The first cell of a notebook for Colab."""
    return COLAB.format(requirements=" ".join(requirements(framework)))


COLAB = """\
from importlib.metadata import version

torch_version = version("torch").split("+")[0]  # Colab's own stays: it matches the driver
torch_2_11 = tuple(map(int, torch_version.split(".")[:2])) >= (2, 11)
torchao_version = "0.18.0" if torch_2_11 else "0.16.0"  # PEFT needs 0.16, and newer ones need torch 2.11
%pip install --quiet torch=={{torch_version}} torchao=={{torchao_version}} {requirements}"""


EXACT = {"fp16": "torch.float16", "fp32": "torch.float32"}
"""Precisions that any card can do."""


def dtype_lines(recipe: Recipe) -> str:
    """Sets `dtype`."""
    if exact := EXACT.get(recipe.training.precision):
        return f"dtype = {exact}\n"
    other = "float32" if overflows(recipe) else "float16"
    reason = ", and this model overflows in fp16" if overflows(recipe) else ""
    return (
        "dtype = torch.bfloat16\n"
        "if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):\n"
        f"    dtype = torch.{other}  # a T4 or V100 has no bf16{reason}\n"
    )


def overflows(recipe: Recipe) -> bool:
    """Whether fp16 is too small for this model's numbers."""
    return overflows_in_fp16(recipe.model_type)


def fp16_notes(recipe: Recipe) -> tuple[str, ...]:
    """What fp16 does to this model; nothing where it is fine."""
    if not overflows(recipe):
        return ()
    framework, precision = recipe.training.framework, recipe.training.precision
    if framework == "unsloth":
        return (in_fp32("In fp16" if precision == "fp16" else "On a card without bf16, such as a T4,"),)
    if precision == "fp16":
        return (
            f"fp16 overflows in this model, and {FRAMEWORKS[framework]} does not prevent it: the loss can become NaN. "
            "Choose bf16 or fp32, or Unsloth, which computes it in fp32.",
        )
    return ()


class Part(NamedTuple):
    """One step of a script."""

    heading: str
    code: str


ATTENTION = {"flash": "flash_attention_2", "eager": "eager"}


def script(recipe: Recipe) -> str:
    """It says how to install what it needs, trains, evaluates on held-out rows, saves adapter and tokenizer, and shows
    answers from before and after."""
    above = above_script(recipe.training.framework) + commented(header(recipe))
    return above + "\n" + "\n".join(part.code for part in parts(recipe))


def header(recipe: Recipe) -> tuple[str, ...]:
    """What stands above it: what it is, by whose count, and what the program does otherwise than asked."""
    return (f"{title(recipe)}.", sources(recipe), *recipe.notes, *_otherwise(recipe))


def parts(recipe: Recipe) -> tuple[Part, ...]:
    """The steps, each of which a notebook has as a cell."""
    trained = {"unsloth": _unsloth, "trl": _trl, "peft": _peft}[recipe.training.framework]
    return (_settings(recipe), *trained(recipe))


def _unsloth(recipe: Recipe) -> tuple[Part, ...]:
    values, setup = _values(recipe) | {"loader": recipe.plan.unsloth_class}, recipe.training
    flags = "".join(f"\n    {flag}={value}," for flag, value in recipe.plan.unsloth_flags.items())
    dtype = EXACT.get(setup.precision)
    return (
        Part("Libraries", text.UNSLOTH_IMPORTS.format(**values, torch="import torch\n" if dtype else "")),
        Part(
            "The base model",
            text.UNSLOTH_MODEL.format(
                **values,
                load_in_4bit=setup.precision in ("nf4", "nf4-dq"),
                load_in_8bit=setup.precision == "int8",
                dtype=(f"\n    dtype={dtype}," if dtype else "") + _text_only(recipe),
            ),
        ),
        Part(
            "The adapter",
            text.UNSLOTH_ADAPTER.format(
                **values,
                use_gradient_checkpointing={"unsloth": '"unsloth"', "hf": "True", "none": "False"}[
                    setup.gradient_checkpointing
                ],
                extra=flags + _experts(recipe) + ("\n    use_dora=True," if recipe.lora.use_dora else ""),
            ),
        ),
        _data(recipe),
        Part("The trainer", _trainer(recipe, with_model="processing_class=tokenizer")),
        _before(),
        Part("Training", text.UNSLOTH_TRAIN),
        _after(recipe),
        Part("Merging and sharing", text.UNSLOTH_AFTERWARDS + _loading(recipe)),
    )


def _text_only(recipe: Recipe) -> str:
    """The argument that leaves the other towers of a multimodal checkpoint out."""
    leaves_out = recipe.lora.text_only and recipe.plan.model.tower == "text tower"
    return "\n    text_only=True," if leaves_out else ""


def _trl(recipe: Recipe) -> tuple[Part, ...]:
    values = _values(recipe)
    more = (
        f"        gradient_checkpointing={recipe.training.gradient_checkpointing != 'none'},\n"
        "        fp16=dtype == torch.float16,\n"
        "        bf16=dtype == torch.bfloat16,\n"
    )
    return (
        Part("Libraries", text.TRL_IMPORTS.format(**values, quantization=_quantization_import(recipe))),
        Part("The base model", text.TOKENIZER.format(**values) + _model(recipe)),
        Part("The adapter", f"set_seed({SEED})\n" + _lora(recipe)),
        _data(recipe),
        Part(
            "The trainer",
            _trainer(recipe, with_model="peft_config=lora", more=more) + _raised(recipe, "trainer.model"),
        ),
        _before(),
        Part("Training", text.TRL_TRAIN.format(**values)),
        _after(recipe),
        _afterwards(recipe, "trainer.model"),
    )


def _peft(recipe: Recipe) -> tuple[Part, ...]:
    values = _values(recipe)
    optimizer = templates.OPTIMIZERS[recipe.training.optim]
    return (
        Part(
            "Libraries",
            templates.IMPORTS.format(
                auto_class=values["auto_class"],
                optimizer_import="" if "." in optimizer else f"from bitsandbytes.optim import {optimizer}\n",
                preparation=_imported("prepare_model_for_kbit_training", recipe),
                quantization=_quantization_import(recipe),
            ),
        ),
        Part(
            "The base model",
            templates.PEFT_MODEL.format(**values) + _model(recipe, '\n    device_map="auto",') + _prepared(recipe),
        ),
        Part("The adapter", _lora(recipe) + templates.WRAP.format(**values) + _raised(recipe, "model")),
        _data(recipe, templates.PEFT_DATA.format(**values)),
        _before(),
        Part("Training", templates.TRAIN.format(**values, optimizer=optimizer)),
        Part("Saving", templates.SAVE),
        _after(recipe),
        _afterwards(recipe, "model"),
    )


def _loading(recipe: Recipe) -> str:
    """Commented lines: how plain PEFT loads experts that Unsloth has trained, of a family that PEFT rewrites."""
    experts = any(adapted.layer.kind == "experts" for adapted in recipe.plan.adapted)
    rewrites = experts and recipe.plan.model.peft_remap and recipe.plan.scheme == "unsloth"
    return text.UNSLOTH_EXPERTS.format(peft=PEFT_VERSION) if rewrites else ""


def _imported(name: str, recipe: Recipe) -> str:
    """The rest of an import line, for a base that is quantized as it is loaded."""
    return f", {name}" if recipe.training.quantized else ""


def _quantization_import(recipe: Recipe) -> str:
    return f", {recipe.dequantize}" if recipe.dequantize else _imported("BitsAndBytesConfig", recipe)


def _settings(recipe: Recipe) -> Part:
    form = f'"{recipe.form}"' if recipe.form else templates.FORM_UNKNOWN
    file = json.dumps(recipe.file_name or FILE_NAME, ensure_ascii=False)
    return Part("Settings", templates.SETTINGS.format(about=commented(data_of_scripts(recipe)), file=file, form=form))


def _data(recipe: Recipe, more: str = "") -> Part:
    return Part("The data", templates.DATA.format(**_values(recipe)) + more)


def _before() -> Part:
    code = templates.BEFORE.format(shown_rows=templates.SHOWN_ROWS, new_tokens=templates.NEW_TOKENS)
    return Part("Answers before the training", code)


def _after(recipe: Recipe) -> Part:
    """Answers, and the size of the adapter beside RankViz's number, where it has one."""
    counted = " or, on a card without bf16, ".join(f"{size:,}" for size in recipe.adapter_bytes)
    counted = f" RankViz counts {counted}." if counted else ""
    return Part("Answers after the training", templates.AFTER.format(counted=counted))


def _afterwards(recipe: Recipe, model: str) -> Part:
    """Commented lines: merging, GGUF, pushing."""
    dtype = EXACT.get(recipe.training.precision, "torch.bfloat16")
    more = f", quantization_config={_dequantized(recipe)}" if recipe.dequantize else ""
    return Part("Merging and sharing", text.AFTERWARDS.format(**_values(recipe), dtype=dtype, model=model, more=more))


def _prepared(recipe: Recipe) -> str:
    """Checkpointing, and for a quantized base what PEFT wants done to it first."""
    checkpointed = recipe.training.gradient_checkpointing != "none"
    if recipe.training.quantized:
        return f"model = prepare_model_for_kbit_training(model, use_gradient_checkpointing={checkpointed})\n"
    return "model.gradient_checkpointing_enable()\nmodel.enable_input_require_grads()\n" if checkpointed else ""


def _raised(recipe: Recipe, model: str) -> str:
    """Lines that raise what trains to fp32, where it may be in 16 bit on a card without bf16."""
    if recipe.training.quantized:
        now = "TRL casts the adapter of a quantized base to bf16"
        return text.RAISED.format(now=now, model=model) if recipe.training.framework == "trl" else ""
    if not recipe.modules_to_save or recipe.training.precision == "fp32":
        return ""
    return text.RAISED.format(now="Copies of modules have the base's dtype", model=model)


def _otherwise(recipe: Recipe) -> list[str]:
    """Settings that the program has no word for."""
    setup, notes = recipe.training, [*fp16_notes(recipe)]
    if recipe.loads_whole_for_text and recipe.training.framework != "unsloth":
        notes.append(
            "transformers loads this model with its other towers. The pattern in target_modules keeps to the text "
            "tower."
        )
    if recipe.training.framework == "unsloth":
        if setup.precision == "nf4":
            notes.append("Unsloth always quantizes the constants of a 4-bit base too, as nf4-dq does.")
        if setup.attn_implementation != "sdpa":
            notes.append(f"Unsloth chooses the attention itself: {setup.attn_implementation!r} is not set.")
        if setup.loss_path != "fused":
            notes.append(f"Unsloth chooses the loss itself: loss path {setup.loss_path!r} is not set.")
        return notes
    if setup.gradient_checkpointing == "unsloth":
        notes.append("Unsloth's checkpoints in host memory become plain gradient checkpointing here.")
    if recipe.training.framework == "trl" and setup.loss_path != "fused":
        notes.append(f"TRL computes the loss in chunks by itself: loss path {setup.loss_path!r} is not set.")
    if recipe.training.framework == "peft" and setup.loss_path != "full":
        notes.append(f"The loop's loss holds all logits: loss path {setup.loss_path!r} is not set.")
    return notes


def _values(recipe: Recipe) -> dict[str, object]:
    lora, setup = recipe.lora, recipe.training
    return {
        "model_id": recipe.model_id,
        "auto_class": "AutoModelForImageTextToText" if recipe.is_multimodal else "AutoModelForCausalLM",
        "max_length": recipe.max_length,
        "r": lora.r,
        "lora_alpha": recipe.lora_alpha,
        "target_modules": literal(recipe.target_modules),
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
        "modules_to_save": list(recipe.modules_to_save) or None,
        "per_device_train_batch_size": setup.per_device_train_batch_size,
        "gradient_accumulation_steps": setup.gradient_accumulation_steps,
        **_length(recipe),
        "learning_rate": recipe.learning_rate,
        "scheduler": SCHEDULER,
        "weight_decay": WEIGHT_DECAY,
        "optim": setup.optim,
        "seed": SEED,
        "held_out_share": HELD_OUT_SHARE,
        "eval_steps": EVAL_STEPS,
        "logging_steps": LOGGING_STEPS,
        "adapter_parameters": recipe.adapter_parameters,
    }


def _length(recipe: Recipe) -> dict[str, object]:
    """Steps or full passes over the data, and the warmup: transformers takes a number below 1 as a share."""
    accumulation = recipe.training.gradient_accumulation_steps
    if recipe.epochs:
        epochs = f"{recipe.epochs:g}"
        return {
            "length": f"num_train_epochs={epochs},",
            "loop_length": f"max_steps = math.ceil({epochs} * math.ceil(len(train) / {accumulation}))",
            "warmup_steps": WARMUP_STEPS_SHARE,
            "warmup_share": WARMUP_STEPS_SHARE,
        }
    steps = recipe.max_steps
    return {
        "length": f"max_steps={steps},  # or, for full passes over the data: num_train_epochs=1",
        "loop_length": f"max_steps = {steps}  # or, for full passes: epochs * len(train) // {accumulation}",
        "warmup_steps": recipe.warmup_steps,
        "warmup_share": WARMUP_STEPS_SHARE,
    }


def _trainer(recipe: Recipe, *, with_model: str, more: str = "") -> str:
    return text.TRAINER.format(**_values(recipe), with_model=with_model, more=more)


def _model(recipe: Recipe, more: str = "") -> str:
    attention = ATTENTION.get(recipe.training.attn_implementation)
    return text.MODEL.format(
        **_values(recipe),
        dtype=dtype_lines(recipe),
        more=_quantization(recipe) + (f"\n    attn_implementation={attention!r}," if attention else "") + more,
    )


def _dequantized(recipe: Recipe) -> str:
    return f"{recipe.dequantize}(dequantize=True)"


def _lora(recipe: Recipe) -> str:
    return text.LORA.format(**_values(recipe), extra=_experts(recipe))


def _experts(recipe: Recipe) -> str:
    named = f"\n    target_parameters={literal(recipe.target_parameters)}," if recipe.target_parameters else ""
    return named + "".join(f"\n    {name}={json.dumps(pattern)}," for name, pattern in recipe.patterns.items())


def literal(names: str | Sequence[str]) -> str:
    """Names as Python has them, in double quotes."""
    if isinstance(names, str):
        return f'"{names}"'
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _quantization(recipe: Recipe) -> str:
    precision = recipe.training.precision
    if recipe.dequantize:
        return f"\n    quantization_config={_dequantized(recipe)},"
    if precision == "int8":
        return "\n    quantization_config=BitsAndBytesConfig(load_in_8bit=True),"
    if precision in ("nf4", "nf4-dq"):
        return text.FOUR_BIT.format(double_quantization=precision == "nf4-dq")
    return ""
