"""A trained adapter as PEFT loads it from the Hub: weights, configuration with the base's id, and a model card."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankviz.errors import BadAdapterError
from rankviz.sinks.cards import model_card
from rankviz.sinks.facts import RunFacts, SweepFacts

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MAX_CONFIG_BYTES = 4_000_000


def write_adapter(run: RunFacts, sweep: SweepFacts, weights: Path, config: Path, folder: Path) -> Sequence[str]:
    """Put the files of a run's adapter into a folder; returns their names. The weights are linked, not copied.

    weights, config: as the run saved them.
    """
    settings = public_config(_read(config), run.base_model)
    (folder / CONFIG).write_text(json.dumps(settings, indent=2), encoding="utf-8")
    os.symlink(weights, folder / WEIGHTS)
    card = model_card(run, sweep, file_bytes=weights.stat().st_size, targets=settings.get("target_modules"))
    (folder / "README.md").write_text(card, encoding="utf-8")
    return [WEIGHTS, CONFIG, "README.md"]


def public_config(settings: Mapping[str, Any], base_model: str) -> Mapping[str, Any]:
    """PEFT's configuration with the id of the base on the Hub; any other path in it becomes null."""
    known = {name: None if _is_path(value) else value for name, value in settings.items()}
    return known | {"base_model_name_or_path": base_model}


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("/", "~/", "\\"))


def _read(config: Path) -> Mapping[str, Any]:
    if config.stat().st_size > MAX_CONFIG_BYTES:
        raise BadAdapterError(f"{CONFIG} has {config.stat().st_size:,} bytes, more than one can have.")
    try:
        settings = json.loads(config.read_bytes())
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise BadAdapterError(f"{CONFIG} of this run cannot be read.")
    return settings
