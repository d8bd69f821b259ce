"""Builds a model on the meta device and lists its layers: `python -m rankviz.worker introspect FOLDER`."""

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rankviz.core.model.config_check import DTYPES, MODEL_DTYPES, parse_config, without_code
from rankviz.core.model.spec import ModelSpec, model_from_json
from rankviz.errors import BadConfigError, shortened

DEPTH_NAMES = ("num_hidden_layers", "n_layer", "num_layers")


def build(config: Mapping[str, Any], *, attn_implementation: str = "eager", **more: Any) -> Any:
    """Build the model on the meta device: shapes without storage. more: arguments of from_config, such as a dtype."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    config = without_code(config)
    model_type = config["model_type"]
    whole = any(name.endswith("ForConditionalGeneration") for name in config.get("architectures") or ())
    if model_type not in transformers.CONFIG_MAPPING:
        raise BadConfigError(
            f"transformers {transformers.__version__} has no architecture {model_type!r}, and its own code is not run."
        )
    factories = [transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText]
    if whole or "vision_config" in config:
        factories.reverse()
    try:
        # Its reader of files, since JSON as transformers 5 writes it has objects in place of infinite numbers.
        with TemporaryDirectory() as folder:
            file = Path(folder, "config.json")
            file.write_text(json.dumps(_makeable(config)))
            read, _ = transformers.PreTrainedConfig.get_config_dict(file, local_files_only=True)
        parsed = transformers.AutoConfig.for_model(**read)
        if (factory := next((each for each in factories if type(parsed) in each._model_mapping), None)) is not None:
            more |= {"trust_remote_code": False, "attn_implementation": attn_implementation}
            with torch.device("meta"):
                return factory.from_config(parsed, **more)
    except MemoryError:
        raise
    except Exception as error:
        why = shortened(" ".join(str(error).split()) or type(error).__name__, 200)
        raise BadConfigError(f"transformers cannot build a {model_type!r} model of this config.json: {why}") from error
    raise BadConfigError(f"{model_type!r} has no model that writes text: RankViz knows causal and image-text models.")


def _makeable(value: Any, key: str = "") -> Any:
    """Return the config with bf16 for dtypes that are unpacked to train (fp8, packed)."""
    if key in DTYPES:
        name = value.removeprefix("torch.") if isinstance(value, str) else value
        return name if not isinstance(name, str) or name in MODEL_DTYPES else "bfloat16"
    if isinstance(value, dict):
        return {name: _makeable(each, name) for name, each in value.items()}
    return [_makeable(each) for each in value] if isinstance(value, list) else value


def cut_config(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return the config of the model's first `depth` blocks: their count is set, and each list with one entry per block
    (a string of letters in Nemotron-H) is cut. Other towers (vision, audio) stay whole."""
    config = dict(config)
    nested = isinstance(config.get("text_config"), Mapping)
    text = dict(config["text_config"]) if nested else config
    name = next((name for name in DEPTH_NAMES if name in text), DEPTH_NAMES[0])
    total = text.get(name)
    for key, value in text.items():
        letters = isinstance(value, str) and key.endswith("pattern")
        if (isinstance(value, list) or letters) and len(value) == total:
            text[key] = value[:depth]
    if total and text.get("num_kv_shared_layers"):
        # The last so many blocks use the keys and values of earlier ones; which block is the first of them must stay.
        text["num_kv_shared_layers"] = max(0, depth - (total - text["num_kv_shared_layers"]))
    text[name] = depth
    return {**config, "text_config": text} if nested else text


SECOND_TOWERS = ("vision", "visual", "image", "audio", "multi_modal", "merger", "patch_embed", "mm_proj")
ROUTER_NAMES = ("router", "gate", "shared_expert_gate")


def facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a ModelSpec that a model without weights shows."""
    model = build(config)
    text = model.config.get_text_config()
    # Gemma 4's global blocks differ; the fields below hold what most blocks have, the layers hold every block's own.
    text.allow_global_per_layer_attribute_access = True
    output, inputs = model.get_output_embeddings(), model.get_input_embeddings()
    size = _first(text, "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", default=None)
    heads = _first(text, "num_attention_heads", "n_head", "num_heads")
    hidden = _first(text, "hidden_size", "n_embd", "d_model")
    return {
        "architecture": type(model).__name__,
        "model_type": model.config.model_type,
        "tower": "whole model" if text is not model.config else "text",
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "unquantized_parameters": unquantized_parameters(model),
        "num_hidden_layers": _first(text, "num_hidden_layers", "n_layer"),
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": _first(text, "num_key_value_heads", default=None) or heads,
        "head_dim": _first(text, "head_dim", default=None) or hidden // heads,
        "intermediate_size": (max(size) if isinstance(size, list | tuple) else size) or 4 * hidden,
        "vocab_size": text.vocab_size,
        "tie_word_embeddings": output is not None and output.weight is inputs.weight,
        "config_ties": bool(getattr(model.config, "tie_word_embeddings", False)),
        "num_experts": _first(text, "num_experts", "n_routed_experts", "num_local_experts", default=0) or 0,
        "num_experts_per_tok": _first(text, "num_experts_per_tok", "top_k_experts", default=0) or 0,
        "layer_types": list(_first(text, "layer_types", "layers_block_type", default=None) or ()),
        "sliding_window": _first(text, "sliding_window", default=None),
        "max_position_embeddings": _first(text, "max_position_embeddings", "n_positions", default=None),
        **walk(model),
        **_in_peft(model),
    }


def walk(model: Any) -> dict[str, Any]:
    """Return fields of a ModelSpec: the weights that LoRA can reach, grouped by path and shape; the paths of all other
    modules; and which of these have parameters or saved buffers of their own."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    output, inputs = model.get_output_embeddings(), model.get_input_embeddings()
    paths = {"input_embedding": "", "output_embedding": ""}
    layers: dict[str, dict[str, Any]] = {}
    plain: dict[str, dict[str, Any]] = {}
    others: dict[str, str] = {}
    ancestors: dict[str, str] = {"": type(model).__name__}
    fp32 = tuple(model._keep_in_fp32_modules_strict or ())

    def group(groups: dict[str, dict[str, Any]], row: dict[str, Any], block: int | None) -> None:
        known = groups.setdefault(json.dumps(row), {**row, "blocks": []})
        if block is not None:
            known["blocks"].append(block)

    def add(name: str, in_features: int, out_features: int, **facts: Any) -> None:
        path, block = split_block(name, is_leaf=True)
        group(layers, {"path": path, "in_features": in_features, "out_features": out_features, **facts}, block)

    for name, module in model.named_modules():
        ancestors[name] = type(module).__name__
        if not name:
            continue
        bias = getattr(module, "bias", None) is not None
        part = part_of(name, ancestors)
        if module is output:
            paths["output_embedding"] = name
        if module is inputs:
            paths["input_embedding"] = name
        if isinstance(module, nn.Embedding):
            sits = part if part == "vision" else "embedding"
            add(name, module.num_embeddings, module.embedding_dim, kind="embedding", part=sits)
        elif module is output and isinstance(module, nn.Linear):
            add(name, module.in_features, module.out_features, kind="lm_head", part="head", bias=bias)
        elif isinstance(module, nn.Linear):
            own = {} if type(module) is nn.Linear else {"subclass": True}
            add(name, module.in_features, module.out_features, kind="linear", part=part, bias=bias, **own)
        elif isinstance(module, Conv1D):
            add(name, *module.weight.shape, kind="conv1d", part=part, bias=bias)
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == 1:
            # PEFT takes a convolution in groups only at ranks that the groups divide: it stays among the others.
            kernel = tuple(module.kernel_size)
            reads = module.in_channels * math.prod(kernel)
            add(name, reads, module.out_channels, kind="conv", part=part, bias=bias, kernel=kernel)
        else:
            path, block = split_block(name, is_leaf=not any(module.children()))
            others.setdefault(path, type(module).__name__)
            parameters, buffers = (
                dict(each(recurse=False)) for each in (module.named_parameters, module.named_buffers)
            )
            tensors = [
                {"name": key, "shape": tuple(tensor.shape)}
                | ({"buffer": True} if key in buffers else {})
                | ({"fp32": True} if any(part in f"{name}.{key}" for part in fp32) else {})
                for key, tensor in (parameters | buffers).items()
                if not (key in buffers and key in module._non_persistent_buffers_set)
            ]
            if tensors:
                norm = {"is_norm": True} if "Norm" in type(module).__name__ else {}
                group(plain, {"path": path, "tensors": tensors, "part": part, **norm}, block)
            for parameter_name, parameter in parameters.items():
                if parameter.ndim == 3 and "Experts" in type(module).__name__:
                    experts, first, second = parameter.shape
                    # As PEFT's ParamWrapper reads it.
                    if not getattr(module, "is_transposed", False):
                        first, second = second, first
                    facts = {"kind": "experts", "part": "mlp", "num_experts": experts}
                    add(f"{name}.{parameter_name}", first, second, **facts)
                elif parameter.ndim == 2 and parameter_name == "weight" and name.rsplit(".", 1)[-1] in ROUTER_NAMES:
                    add(f"{name}.weight", parameter.shape[1], parameter.shape[0], kind="router", part="other")
    return {
        "layers": list(layers.values()),
        **paths,
        "plain_modules": list(plain.values()),
        "other_modules": list(others),
        "clippable_linears": [path for path, class_name in others.items() if class_name == "Gemma4ClippableLinear"],
    }


def split_block(name: str, *, is_leaf: bool = False) -> tuple[str, int | None]:
    """Return ("model.layers.{}.mlp", 3) for "model.layers.3.mlp": the first number is the block's. A number at the end
    of a leaf's path is the leaf's name ("merger.mlp.0")."""
    match = re.search(r"(?:^|\.)(\d+)(?=\.|$)", name)
    if not match or (is_leaf and match.end() == len(name)):
        return name, None
    return f"{name[: match.start(1)]}{{}}{name[match.end(1) :]}", int(match.group(1))


def part_of(name: str, ancestors: dict[str, str]) -> str:
    """Return the part of the model that a module belongs to: "attention", "mlp", "vision" (any tower but the text's,
    audio too) or "other". ancestors: class names of the modules that contain it, by their dotted names."""
    parts = name.split(".")
    if any(tag in part for tag in SECOND_TOWERS for part in parts):
        return "vision"
    if parts[-1] in ROUTER_NAMES or (len(parts) > 1 and parts[-2] in ROUTER_NAMES):
        return "other"
    for depth in range(len(parts) - 1, 0, -1):
        parent, class_name = parts[depth - 1], ancestors[".".join(parts[:depth])]
        if "attn" in parent or "Attention" in class_name or "DeltaNet" in class_name:
            return "attention"
        if parent in ("mlp", "feed_forward", "ffn") or re.search(r"MLP|MoE|Moe|Expert", class_name):
            if "DecoderLayer" in class_name or "Model" in class_name:
                continue
            return "mlp"
    return "mlp" if parts[-1] in ("fc1", "fc2") else "other"


def unquantized_parameters(model: Any) -> int:
    """Count parameters that bitsandbytes does not quantize: all but converted nn.Linear (no subclasses) and Conv1D."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    not_converted = get_keys_to_not_convert(model)
    converted = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if (isinstance(module, Conv1D) or type(module) is nn.Linear) and should_convert_module(name, not_converted)
    )
    return sum(p.numel() for p in model.parameters()) - converted


def _in_peft(model: Any) -> dict[str, Any]:
    """Return two fields of a ModelSpec: names that PEFT refuses as targets, and the family whose experts it remaps."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _check_lora_target_modules_mamba
    from peft.utils import transformers_weight_conversion as conversion

    refused = []
    for name in ("conv1d", "out_proj"):
        try:
            _check_lora_target_modules_mamba(LoraConfig(), model, name)
        except ValueError:
            refused.append(name)
    family = conversion._MODEL_TO_CONVERSION_PATTERN.get(model.config.model_type, "")
    known = conversion.get_checkpoint_conversion_mapping(model.config.model_type) is not None
    remapped = known and family in conversion._MOE_TARGET_MODULE_MAPPING
    return {"refused_names": refused, "peft_remap": family if remapped else ""}


def _first(config: Any, *names: str, default: Any = ...) -> Any:
    for name in names:
        value = getattr(config, name, None)
        if value is not None:
            return value
    if default is ...:
        raise BadConfigError(f"This config.json has no {names[0]}.")
    return default


ACTIVATION_SECONDS = 20.0
"""Time limit in seconds for measuring the bytes that blocks keep in training, which usually takes one or two."""


def introspect_file(config: str) -> dict[str, Any]:
    """Return `introspect` of the config.json with this path."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # of a model nothing is wanted but what is here
    path = Path(config)
    return introspect(parse_config(path.read_bytes(), name=path.name))


def layers_of(config: Mapping[str, Any]) -> ModelSpec:
    """Return the model of a config.json without the bytes that its blocks keep in training; enough to find targets."""
    return model_from_json({"id": "", "name": "", **facts(config)})


def introspect(config: Mapping[str, Any], *, activation_seconds: float = ACTIVATION_SECONDS) -> dict[str, Any]:
    """Return a ModelSpec as a dict, without what a config does not give, such as id, name and source."""
    from rankviz.worker.introspect.activations import block_activations

    layers = facts(config)
    spec = model_from_json({"id": "", "name": "", **layers})
    return {**layers, "activation_bytes_per_token": block_activations(config, spec, seconds=activation_seconds)}
