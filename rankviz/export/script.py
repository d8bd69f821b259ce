"""Writes the Python script for Unsloth, TRL or plain PEFT, in parts that become the cells of a notebook.

Text only; nothing is computed here. tests/export/test_script.py binds every call in the scripts to the installed
library's real signature.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rankviz.export import templates as text
from rankviz.export.recipe import Recipe
from rankviz.export.words import DATA, commented, sources, title


class Part(NamedTuple):
    """One step of a script."""

    heading: str
    code: str


TORCH_DTYPES = {"fp16": "torch.float16", "fp32": "torch.float32"}
ATTENTION = {"flash": "flash_attention_2", "eager": "eager"}


def script(recipe: Recipe) -> str:
    """It trains with Unsloth or with TRL; for plain PEFT it stops before the training."""
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
    values, setup = _values(recipe), recipe.training
    dtype = TORCH_DTYPES.get(setup.precision)
    return (
        Part("Libraries", text.UNSLOTH_IMPORTS.format(torch="import torch\n" if dtype else "")),
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
                extra=_experts(recipe) + ("\n    use_dora=True," if recipe.lora.use_dora else ""),
            ),
        ),
        Part("The training", _trainer(recipe, with_model="processing_class=tokenizer")),
        Part("Train and save", 'trainer.train()\nmodel.save_pretrained("adapter")\n'),
    )


def _trl(recipe: Recipe) -> tuple[Part, ...]:
    checkpointing = f"        gradient_checkpointing={recipe.training.gradient_checkpointing != 'none'},\n"
    return (
        Part("Libraries", text.TRL_IMPORTS),
        Part("The base model", _model(recipe)),
        Part("The adapter", _lora(recipe)),
        Part("The training", _trainer(recipe, with_model="peft_config=lora", more=checkpointing)),
        Part("Train and save", text.TRL_TRAIN.format(**_values(recipe))),
    )


def _peft(recipe: Recipe) -> tuple[Part, ...]:
    return (
        Part("Libraries", text.PEFT_IMPORTS),
        Part("The base model", _model(recipe) + _prepared(recipe)),
        Part("The adapter", _lora(recipe) + text.PEFT_WRAP.format(**_values(recipe))),
        Part("Train and save", text.PEFT_SAVE),
    )


def _prepared(recipe: Recipe) -> str:
    """Checkpointing, and for a quantized base what PEFT wants done to it first."""
    checkpointed = recipe.training.gradient_checkpointing != "none"
    if recipe.training.quantized:
        return f"model = prepare_model_for_kbit_training(model, use_gradient_checkpointing={checkpointed})\n"
    return "model.gradient_checkpointing_enable()\nmodel.enable_input_require_grads()\n" if checkpointed else ""


def _otherwise(recipe: Recipe) -> list[str]:
    """Settings that the program has no word for."""
    setup, notes = recipe.training, []
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
    if recipe.training.framework == "peft":
        notes.append("Batch, accumulation, length, steps, optimizer, learning rate and loss belong to your own loop.")
    return notes


def _values(recipe: Recipe) -> dict[str, object]:
    lora, setup = recipe.lora, recipe.training
    return {
        "model_id": recipe.model_id,
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
        "learning_rate": recipe.learning_rate,
        "optim": setup.optim,
        "adapter_parameters": recipe.adapter_parameters,
    }


def _trainer(recipe: Recipe, *, with_model: str, more: str = "") -> str:
    if recipe.training.framework == "trl":
        more += {"fp16": "        fp16=True,\n", "fp32": "        bf16=False,\n"}.get(recipe.training.precision, "")
    return text.TRAINER.format(**_values(recipe), with_model=with_model, more=more, data=DATA)


def _model(recipe: Recipe) -> str:
    attention = ATTENTION.get(recipe.training.attn_implementation)
    return text.MODEL.format(
        **_values(recipe),
        dtype=TORCH_DTYPES.get(recipe.training.precision, "torch.bfloat16"),
        quantization_config=_quantization(recipe.training.precision),
        attention=f"\n    attn_implementation={attention!r}," if attention else "",
    )


def _lora(recipe: Recipe) -> str:
    return text.LORA.format(**_values(recipe), extra=_experts(recipe))


def _experts(recipe: Recipe) -> str:
    return f"\n    target_parameters={literal(recipe.target_parameters)}," if recipe.target_parameters else ""


def literal(names: str | Sequence[str]) -> str:
    """Names as Python has them, in double quotes."""
    if isinstance(names, str):
        return f'"{names}"'
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _quantization(precision: str) -> str:
    if precision in ("nf4", "nf4-dq"):
        return (
            'BitsAndBytesConfig(\n        load_in_4bit=True,\n        bnb_4bit_quant_type="nf4",\n'
            f"        bnb_4bit_use_double_quant={precision == 'nf4-dq'},\n"
            "        bnb_4bit_compute_dtype=torch.bfloat16,\n    )"
        )
    return "BitsAndBytesConfig(load_in_8bit=True)" if precision == "int8" else "None"
