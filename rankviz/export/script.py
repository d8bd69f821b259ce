"""Writes the Python script for Unsloth, TRL or plain PEFT, in parts that become the cells of a notebook.

Text only; nothing is computed here. tests/export/test_script.py binds every call in the scripts to the installed
library's real signature, and tests/export/test_scripts_train.py runs them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rankviz.export import defaults, peft_loop
from rankviz.export import templates as text
from rankviz.export.recipe import Recipe
from rankviz.export.words import commented, data_of_scripts, sources, title


class Part(NamedTuple):
    """One step of a script."""

    heading: str
    code: str


TORCH_DTYPES = {"fp16": "torch.float16", "fp32": "torch.float32"}
ATTENTION = {"flash": "flash_attention_2", "eager": "eager"}


def script(recipe: Recipe) -> str:
    """It trains, evaluates on held-out rows, and saves adapter and tokenizer."""
    return commented(header(recipe)) + "\n" + "\n".join(part.code for part in parts(recipe))


def header(recipe: Recipe) -> tuple[str, ...]:
    """What stands above it: what it is, by whose count, and what the program does otherwise than asked."""
    return (f"{title(recipe)}.", sources(recipe), *recipe.notes, *_otherwise(recipe))


def parts(recipe: Recipe) -> tuple[Part, ...]:
    """The steps, each of which a notebook has as a cell."""
    match recipe.training.framework:
        case "unsloth":
            return _unsloth(recipe)
        case "trl":
            return _trl(recipe)
    return _peft(recipe)


def _unsloth(recipe: Recipe) -> tuple[Part, ...]:
    values, setup = _values(recipe) | {"loader": recipe.plan.unsloth_class}, recipe.training
    flags = "".join(f"\n    {flag}={value}," for flag, value in recipe.plan.unsloth_flags.items())
    dtype = TORCH_DTYPES.get(setup.precision)
    return (
        Part("Libraries", text.UNSLOTH_IMPORTS.format(**values, torch="import torch\n" if dtype else "")),
        Part(
            "The base model",
            text.UNSLOTH_MODEL.format(
                **values,
                load_in_4bit=setup.precision in ("nf4", "nf4-dq"),
                load_in_8bit=setup.precision == "int8",
                dtype=f"\n    dtype={dtype}," if dtype else "",
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
        Part("The trainer", _trainer(recipe, with_model="processing_class=tokenizer") + text.UNSLOTH_RESPONSES),
        Part("Training", text.UNSLOTH_SAVE),
    )


def _trl(recipe: Recipe) -> tuple[Part, ...]:
    values = _values(recipe)
    more = (
        f"        gradient_checkpointing={recipe.training.gradient_checkpointing != 'none'},\n"
        + {"fp16": "        fp16=True,\n", "fp32": "        bf16=False,\n"}.get(recipe.training.precision, "")
        + '        assistant_only_loss="messages" in rows["train"].column_names,  # whole chats\n'
    )
    return (
        Part("Libraries", text.TRL_IMPORTS.format(**values, quantization=_quantization_import(recipe))),
        Part("The base model", _model(recipe)),
        Part("The adapter", f"set_seed({defaults.SEED})\n" + _lora(recipe)),
        _data(recipe),
        Part("The trainer", _trainer(recipe, with_model="peft_config=lora", more=more)),
        Part("Training", text.TRL_TRAIN.format(**values) + _afterwards(recipe, "trainer.model")),
    )


def _peft(recipe: Recipe) -> tuple[Part, ...]:
    values = _values(recipe)
    optimizer = peft_loop.OPTIMIZERS[recipe.training.optim]
    return (
        Part(
            "Libraries",
            peft_loop.IMPORTS.format(
                auto_class=values["auto_class"],
                optimizer_import="" if "." in optimizer else f"from bitsandbytes.optim import {optimizer}\n",
                preparation=_imported("prepare_model_for_kbit_training", recipe),
                quantization=_quantization_import(recipe),
            ),
        ),
        Part(
            "The base model",
            peft_loop.MODEL.format(**values) + _model(recipe, '\n    device_map="auto",') + _prepared(recipe),
        ),
        Part("The adapter", _lora(recipe) + peft_loop.WRAP.format(**values)),
        _data(recipe, peft_loop.DATA.format(**values)),
        Part("Training", peft_loop.TRAIN.format(**values, optimizer=optimizer, **_numerics(recipe.training.precision))),
        Part("Saving", peft_loop.SAVE + _afterwards(recipe, "model")),
    )


def _imported(name: str, recipe: Recipe) -> str:
    """The rest of an import line, for a base that is quantized as it is loaded."""
    return f", {name}" if recipe.training.quantized else ""


def _quantization_import(recipe: Recipe) -> str:
    return f", {recipe.dequantize}" if recipe.dequantize else _imported("BitsAndBytesConfig", recipe)


def _data(recipe: Recipe, more: str = "") -> Part:
    return Part("The data", text.DATA.format(**_values(recipe), about=commented(data_of_scripts(recipe))) + more)


def _numerics(precision: str) -> dict[str, str]:
    """How the loop of the PEFT script computes: under autocast in 16 bit, with scaled gradients in fp16."""
    scaled = precision == "fp16"
    dtype = TORCH_DTYPES.get(precision, "torch.bfloat16")
    return {
        "autocast": "" if precision == "fp32" else f"with torch.autocast(model.device.type, dtype={dtype}):\n        ",
        "scaler": "scaler = torch.amp.GradScaler(model.device.type)\n" if scaled else "",
        "backward": "scaler.scale(loss).backward()" if scaled else "loss.backward()",
        "unscale": "    scaler.unscale_(optimizer)\n" if scaled else "",
        "optimizer_step": "scaler.step(optimizer)\n    scaler.update()" if scaled else "optimizer.step()",
    }


def _afterwards(recipe: Recipe, model: str) -> str:
    """Commented lines: merging, GGUF, pushing."""
    dtype = TORCH_DTYPES.get(recipe.training.precision, "torch.bfloat16")
    more = f", quantization_config={_dequantized(recipe)}" if recipe.dequantize else ""
    return text.AFTERWARDS.format(**_values(recipe), dtype=dtype, model=model, more=more)


def _prepared(recipe: Recipe) -> str:
    """Checkpointing, and for a quantized base what PEFT wants done to it first."""
    checkpointed = recipe.training.gradient_checkpointing != "none"
    if recipe.training.quantized:
        return f"model = prepare_model_for_kbit_training(model, use_gradient_checkpointing={checkpointed})\n"
    return "model.gradient_checkpointing_enable()\nmodel.enable_input_require_grads()\n" if checkpointed else ""


def _otherwise(recipe: Recipe) -> list[str]:
    """Settings that the program has no word for."""
    setup, notes = recipe.training, []
    if recipe.loads_whole_for_text and recipe.training.framework != "unsloth":
        notes.append(
            "transformers loads this model with its other towers. The pattern in target_modules keeps to the text "
            "tower. The file's tensor names are longer than the estimate's, so the file is slightly larger."
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
        "max_length": setup.max_length,
        "r": lora.r,
        "lora_alpha": recipe.lora_alpha,
        "target_modules": literal(recipe.target_modules),
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
        "modules_to_save": list(recipe.modules_to_save) or None,
        "per_device_train_batch_size": setup.per_device_train_batch_size,
        "gradient_accumulation_steps": setup.gradient_accumulation_steps,
        "max_steps": recipe.max_steps,
        "warmup_steps": recipe.warmup_steps,
        "learning_rate": recipe.learning_rate,
        "scheduler": defaults.SCHEDULER,
        "weight_decay": defaults.WEIGHT_DECAY,
        "optim": setup.optim,
        "seed": defaults.SEED,
        "held_out_share": defaults.HELD_OUT_SHARE,
        "eval_steps": defaults.EVAL_STEPS,
        "logging_steps": defaults.LOGGING_STEPS,
        "adapter_parameters": recipe.adapter_parameters,
    }


def _trainer(recipe: Recipe, *, with_model: str, more: str = "") -> str:
    return text.TRAINER.format(**_values(recipe), with_model=with_model, more=more)


def _model(recipe: Recipe, more: str = "") -> str:
    attention = ATTENTION.get(recipe.training.attn_implementation)
    return text.MODEL.format(
        **_values(recipe),
        dtype=TORCH_DTYPES.get(recipe.training.precision, "torch.bfloat16"),
        more=_quantization(recipe) + (f"\n    attn_implementation={attention!r}," if attention else "") + more,
    )


def _dequantized(recipe: Recipe) -> str:
    return f"{recipe.dequantize}(dequantize=True)"


def _lora(recipe: Recipe) -> str:
    return text.LORA.format(**_values(recipe), extra=_experts(recipe))


def _experts(recipe: Recipe) -> str:
    return f"\n    target_parameters={literal(recipe.target_parameters)}," if recipe.target_parameters else ""


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
