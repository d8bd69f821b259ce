"""Saves an adapter as PEFT loads it, on its base under the name by which others find it."""

import json
from pathlib import Path
from typing import Any

from rankviz.worker.finetune.base import Base


def save(adapter: Any, folder: Path, base: Base, **changed: Any) -> int:
    """Write the adapter's files; returns the bytes of its weights.

    PEFT names the base in two of them by where it was loaded from, which for the embedded model is a folder of this
    machine.

    Args:
        changed: Values of adapter_config.json that are not the model's own.
    """
    adapter.save_pretrained(folder)
    config, card = folder / "adapter_config.json", folder / "README.md"
    values = json.loads(config.read_text(encoding="utf-8")) | changed
    if base.published_as:
        values["base_model_name_or_path"] = base.published_as
        card.write_text(card.read_text(encoding="utf-8").replace(base.name, base.published_as), encoding="utf-8")
    config.write_text(json.dumps(values, indent=2, sort_keys=True), encoding="utf-8")
    return (folder / "adapter_model.safetensors").stat().st_size
