"""Writes configuration files: adapter_config.json, dataset_info.json, and YAML for Axolotl, LLaMA-Factory and MLX LM.

The tools' names for settings are in assets/exports.json, the files themselves in assets/templates.
"""

import json
import shlex
from dataclasses import replace
from typing import Any

from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Form, card
from rankviz.core.cost.shapes import WITHOUT_SDPA
from rankviz.core.lora.config import Framework
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError
from rankviz.exports.recipe import Recipe, composite, data, end_of_turn, llamafactory_template
from rankviz.exports.script import templates

AXOLOTL_VERSION, LLAMAFACTORY_VERSION, MLX_LM_VERSION = "0.21.0", "0.9.5", "0.32.2"
"""Releases of the tools with whose schemas the keys agree."""


def adapter_config(recipe: Recipe) -> str:
    """Write JSON that peft.LoraConfig.from_pretrained reads. JSON has no comments: notes are only in recipe.notes."""
    text = templates().get_template("adapter_config.json.jinja").render(recipe=recipe, lora=recipe.lora)
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"


def accelerate_config(recipe: Recipe) -> str:
    """Write the YAML with which `accelerate launch` starts the script on several GPUs. FSDP is of version 1: version 2
    gathers 4-bit weights without their scales. use_orig_params is off, since only then frozen weights need no
    gradients (peft docs/source/accelerate/fsdp.md). Mixed precision is the script's, which knows the GPU."""
    return templates().get_template("accelerate.yaml.jinja").render(setup=recipe.training)


def _written(tool: str, command: str, recipe: Recipe, form: Form, **values: Any) -> str:
    """Fill the tool's template. Its header gives the file, the counts, and differences between the tool and RankViz."""
    name = tool.lower().replace("-", "")
    header = (
        f"{recipe.title}, for {command}",
        recipe.sources,
        f"RankViz's estimates of memory and time are of Unsloth, TRL and plain PEFT, not of {tool}.",
        *recipe.notes,
    )
    if not isinstance(alpha := recipe.lora_alpha, int):
        raise InvalidSettingError(
            f"{tool} needs a whole number as lora_alpha (got {alpha:g}). Choose a whole alpha, or another format."
        )
    setup = recipe.training
    if setup.attn_implementation == "sdpa" and recipe.model_type in WITHOUT_SDPA:
        setup = replace(setup, attn_implementation="eager")  # transformers replaces only its default
    shared = {"recipe": recipe, "setup": setup, "lora": recipe.lora, "alpha": alpha, "header": header}
    named = data()["settings"][name]
    return templates().get_template(f"{name}.yaml.jinja").render(**shared, form=form, named=named, **values)


def axolotl(recipe: Recipe) -> str:
    """Write Axolotl's YAML, with a comment on each setting that Axolotl treats differently."""
    recipe.require_readable("Axolotl")
    form = recipe.data.form or ("messages" if recipe.is_chat else "prompt-completion")
    end, named = end_of_turn(recipe.model_id, recipe.model_type), data()["settings"]["axolotl"]
    ending = recipe.file_name.rpartition(".")[2].lower()
    row = {"path": recipe.file_name, "ds_type": "json" if ending == "jsonl" else ending, **named["form"][form]}
    rows: dict[str, Any] = {"datasets": [row]}
    if row["type"] == "chat_template" and recipe.is_chat:
        row["chat_template"] = "tokenizer_default"
        rows |= {"eot_tokens": [end]} if end else {}
    elif row["type"] == "chat_template":  # no template: as in the scripts, but with the end token after each answer
        row |= {"chat_template": "jinja", "chat_template_jinja": named["headings"]}
    command = f"Axolotl {AXOLOTL_VERSION}: axolotl train axolotl.yaml"
    return _written("Axolotl", command, recipe, form, end=end, targets=_targets(recipe), rows=rows)


def _targets(recipe: Recipe) -> dict[str, Any]:
    """Return Axolotl's settings for the modules that are adapted or saved in full."""
    names = recipe.target_modules
    targets: dict[str, Any] = {"lora_target_modules": names if isinstance(names, str) else list(names)}
    if names == "all-linear":
        targets = {"lora_target_linear": True}
    if recipe.target_parameters:
        targets["lora_target_parameters"] = list(recipe.target_parameters)
    for name, pattern in recipe.plan.patterns(recipe.lora).items():
        if not all(isinstance(value, int) for value in pattern.values()):
            raise InvalidSettingError(
                f"Axolotl needs whole numbers in lora_{name} (got {', '.join(map(str, pattern.values()))}). Choose "
                "another alpha or expert_rank, or another format."
            )
        targets[f"lora_{name}"] = pattern
    if recipe.plan.modules_to_save:
        targets["lora_modules_to_save"] = list(recipe.plan.modules_to_save)
    return targets


PLAIN_TEXT = "fewshot"
"""LLaMA-Factory's template for base models: the prompt stays unchanged, and the completion ends with two line breaks
and the tokenizer's end token. With "empty" there would be no end token, and the model would never learn to stop."""


def dataset_info(recipe: Recipe) -> str:
    """Write dataset_info.json for the user's examples; of unknown form, with an entry for prompts and one for chats."""
    forms = {"train": recipe.data.form} if recipe.data.form else {"train": "prompt-completion", "chats": "messages"}
    entries = {}
    for name, form in forms.items():
        described = data()["settings"]["llamafactory"]["form"][form]
        missing = "query" if "no-input" in recipe.data.traits else None
        columns = {column: field for column, field in described["columns"].items() if column != missing}
        entries[name] = {"file_name": recipe.file_name, **described, "columns": columns}
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def llamafactory(recipe: Recipe) -> str:
    """Write LLaMA-Factory's YAML, with a comment on each setting that LLaMA-Factory treats differently."""
    recipe.require_readable("LLaMA-Factory", "uneven")
    through_chats = recipe.is_chat and recipe.data.form != "text"
    # Without a template LLaMA-Factory reads the tokenizer's own.
    template = llamafactory_template(recipe.model_id, recipe.model_type) if through_chats else PLAIN_TEXT
    return _written(
        "LLaMA-Factory",
        f"LLaMA-Factory {LLAMAFACTORY_VERSION}: llamafactory-cli train llamafactory.yaml",
        recipe,
        recipe.data.form or "prompt-completion",
        version=LLAMAFACTORY_VERSION,
        unsloth=recipe.training.framework == "unsloth",
        # By default the names reach the text tower alone (model/model_utils/visual.py).
        has_vision=any(adapted.layer.part == "vision" for adapted in (recipe.trained or recipe.plan).adapted),
        is_composite=composite(recipe.plan.model) is not None,
        template=template,
    )


def mlx(recipe: Recipe) -> str:
    """Write the YAML for mlx_lm.lora, whose keys name the adapted modules inside every block."""
    adapted = recipe.plan.adapted
    if not recipe.plan.alike_in_blocks:
        raise InvalidSettingError(
            "MLX LM adapts the same linear layers in every block, without modules_to_save; RankViz does not count its "
            "adapters of experts. Choose other target modules, or another format."
        )
    recipe.require_readable("MLX LM")
    if recipe.data.form in ("conversations", "instruction"):
        raise InvalidSettingError("MLX LM reads rows with messages, prompt and completion, or text. Change the rows.")
    precision = recipe.training.precision
    types = {"fp32": "--dtype float32", "fp16": "--dtype float16", "bf16": "", "int8": "-q --q-bits 8"}
    changed = types.get(precision, "-q --q-bits 4")  # MLX LM trains in the type of the checkpoint
    convert = changed and f"mlx_lm.convert --hf-path {shlex.quote(recipe.model_id)} --mlx-path mlx_model {changed}"
    header = (
        f"{recipe.title}, for MLX LM {MLX_LM_VERSION}: mlx_lm.lora --config mlx_lora.yaml",
        recipe.sources,
        *recipe.notes,
    )
    values = {"recipe": recipe, "setup": recipe.training, "lora": recipe.lora, "header": header}
    keys = sorted({each.layer.path.rpartition("{}.")[2] for each in adapted})
    template = templates().get_template("mlx.yaml.jinja")
    return template.render(**values, keys=keys, convert=convert)


def llamafactory_framework(model: ModelSpec, question: Question) -> Framework:
    """Return the framework by whose rules LLaMA-Factory trains: Unsloth where use_unsloth applies (in 8 bit it would
    load 16 bit) and accepts the adapter; else TRL, whose rules are plain PEFT's."""
    training = question.training.without_auto(card(None))
    applies = training.framework == "unsloth" and training.precision in ("nf4", "nf4-dq", "bf16", "fp16")
    if composite(model) is not None or not applies:
        return "trl"
    try:
        resolve(model, question.lora, "unsloth", precision=training.precision)
    except InvalidSettingError:
        return "trl"
    return "unsloth"
