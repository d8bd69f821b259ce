"""The config.json files that the catalogue was made from: what a probe builds a model of, without a network."""

import json
from pathlib import Path
from typing import Any

from rankviz.catalog.models import find_model, load_index
from rankviz.errors import AssetError


def load_config(assets: Path, ref: str) -> dict[str, Any]:
    """The config.json of a catalogue model, with the architecture that its row was built as; UnknownModelError where
    it is none of the catalogue."""
    row = find_model(load_index(assets), ref)
    name = row.file.replace(".whole.json", ".full.json")
    path = assets / "configs" / name
    if not path.is_file():
        path = path.with_name(name.replace(".json", ".full.json"))
    try:
        config = json.loads(path.read_bytes())
        model = json.loads((assets / "models" / row.file).read_bytes())
    except FileNotFoundError:
        raise AssetError(f"configs/{name} is missing from {assets}: reinstall RankViz.") from None
    return config | {"architectures": [model["architecture"]]}
