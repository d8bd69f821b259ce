"""Says how a checkpoint is stored that is published quantized, by its name or by the config.json of a folder."""

import json
from pathlib import Path

from rankviz.core.cost.published import Published, by_method, by_name


def published(model_id: str) -> Published | None:
    """None for a checkpoint in 16 or 32 bit, or of bitsandbytes.

    model_id: Hub id, or a folder, whose config.json then decides.
    """
    config = Path(model_id) / "config.json"
    if config.is_file():
        stored = json.loads(config.read_text(encoding="utf-8")).get("quantization_config") or {}
        return by_method(str(stored.get("quant_method", "")))
    return by_name(model_id)
