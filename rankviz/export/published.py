"""Says under which name a base is loaded, and how it is stored where it is published quantized."""

from pathlib import Path

from rankviz.core.cost.notes.published import Published, by_method, by_name
from rankviz.core.model.spec import ModelSpec
from rankviz.hub import read_config
from rankviz.references import EMBEDDED, EMBEDDED_ID

HUB_IDS = {EMBEDDED: EMBEDDED_ID}


def published(model_id: str) -> Published | None:
    """None for a checkpoint in 16 or 32 bit, or of bitsandbytes.

    model_id: Hub id, or a folder, whose config.json then decides.
    """
    config = Path(model_id) / "config.json"
    if config.is_file():
        stored = read_config(config).get("quantization_config")
        return by_method(str(stored.get("quant_method", ""))) if isinstance(stored, dict) else None
    return by_name(model_id)


def loadable(model: ModelSpec, ref: str) -> str:
    """The name that libraries load the model by: the catalogue also takes the part after the slash, in any case."""
    ref = HUB_IDS.get(ref, ref)
    names = (model.id.removesuffix(":whole"), *model.aliases)
    known = {name.lower().split("/")[-1]: name for name in reversed(names)} | {name.lower(): name for name in names}
    return known.get(ref.lower(), ref)
