"""Builds the model of a config.json on the meta device: all of it, or its first blocks only."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rankviz.core.model.config_check import DTYPES, MODEL_DTYPES, without_code
from rankviz.errors import BadConfigError, shortened

DEPTH_NAMES = ("num_hidden_layers", "n_layer", "num_layers")


def build(config: Mapping[str, Any], *, attn_implementation: str = "eager", **more: Any) -> Any:
    """The model on the meta device: shapes without storage. more: dtype, where the config's own won't do."""
    import torch
    import transformers
    from transformers import (
        CONFIG_MAPPING,
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        PreTrainedConfig,
    )

    transformers.logging.set_verbosity_error()
    config = without_code(config)
    model_type = config["model_type"]
    whole = any(name.endswith("ForConditionalGeneration") for name in config.get("architectures") or ())
    if model_type not in CONFIG_MAPPING:
        raise BadConfigError(
            f"transformers {transformers.__version__} has no architecture {model_type!r}, and RankViz runs no code "
            "that comes with a model."
        )
    try:
        # Its reader of files, since JSON as transformers 5 writes it has objects in place of infinite numbers.
        with TemporaryDirectory() as folder:
            file = Path(folder, "config.json")
            file.write_text(json.dumps(_makeable(config)))
            read, _ = PreTrainedConfig.get_config_dict(file, local_files_only=True)
        parsed = AutoConfig.for_model(**read)
    except MemoryError:
        raise
    except Exception as error:
        raise BadConfigError(f"transformers cannot read this config.json: {_one_line(error)}") from error
    factories = [AutoModelForCausalLM, AutoModelForImageTextToText]
    if whole or "vision_config" in config:
        factories.reverse()
    for factory in factories:
        if type(parsed) not in factory._model_mapping:
            continue
        try:
            with torch.device("meta"):
                return factory.from_config(
                    parsed, trust_remote_code=False, attn_implementation=attn_implementation, **more
                )
        except MemoryError:
            raise
        except Exception as error:
            raise BadConfigError(
                f"transformers cannot build a {model_type!r} model from this config.json: {_one_line(error)}"
            ) from error
    raise BadConfigError(f"{model_type!r} has no model that writes text: RankViz knows causal and image-text models.")


def _makeable(value: Any) -> Any:
    """The same config with bf16 for weights that are stored in what no model is made in: fp8 and packed ones, which are
    unpacked to train on them."""
    match value:
        case dict():
            return {key: _dtype(each) if key in DTYPES else _makeable(each) for key, each in value.items()}
        case list():
            return [_makeable(each) for each in value]
    return value


def _dtype(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    name = name.removeprefix("torch.")
    return name if name in MODEL_DTYPES else "bfloat16"


def cut_config(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """The config of the model's first `depth` blocks: its count of blocks, and every list (in Nemotron-H a string of
    letters) that has one entry a block.

    Another tower (vision, audio) stays whole.
    """
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


def _one_line(error: Exception) -> str:
    if isinstance(error, ZeroDivisionError):
        return "a number that others are divided by is 0"
    return shortened(" ".join(str(error).split()) or type(error).__name__, 200)
