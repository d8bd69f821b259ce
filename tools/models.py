"""Rebuilds assets/models from real configs: `python -m tools.models [CONFIGS_DIR] [MODELS_DIR]`.

Each config of INDEX.csv is built on the meta device and walked (worker.introspect). A total that differs from the
published one stops everything: a catalogue that is wrong is worse than one that is old.
"""

import argparse
import csv
import importlib.metadata
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankviz.catalog.models import CHECKPOINTS
from rankviz.core.model.config_check import parse_config
from rankviz.core.model.spec import encode_blocks
from rankviz.errors import AssetError
from rankviz.paths import ASSETS
from rankviz.worker.introspect.layers import introspect

FAMILIES = (
    ("SmolLM", r"SmolLM"),
    ("TinyLlama", r"TinyLlama"),
    ("GPT", r"gpt2|gpt-3"),
    ("gpt-oss", r"gpt-oss"),
    ("Pythia", r"pythia"),
    ("DeepSeek", r"DeepSeek"),
    ("Llama", r"Llama"),
    ("Mistral", r"Mistral|Ministral|Mixtral"),
    ("Qwen2.5", r"Qwen2\.5"),
    ("Qwen3-VL", r"Qwen3-VL"),
    ("Qwen3.5 and later", r"Qwen3\.\d"),
    ("Qwen3", r"Qwen3"),
    ("Gemma", r"gemma"),
    ("Phi", r"phi|Phi"),
    ("OLMo", r"OLMo|Olmo"),
    ("Granite", r"granite"),
    ("GLM", r"GLM|glm"),
)
"""Family and the name that tells it, first match wins; any other model is a family of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.models", description=__doc__)
    parser.add_argument("configs", type=Path, nargs="?", default=ASSETS / "configs")
    parser.add_argument("models", type=Path, nargs="?", default=ASSETS / "models")
    args = parser.parse_args(argv)
    count = build_models(args.configs, args.models)
    print(f"{count} models in {args.models}")
    return 0


def build_models(configs: Path, models: Path, *, activation_seconds: float = math.inf) -> int:
    """Write one file a model and the index, check them, and say how many there are. activation_seconds: how long one
    model's activations may take, which then stay empty."""
    rows = _table(configs / "INDEX.csv")
    aliases = _table(configs / "ALIASES.csv")
    models.mkdir(parents=True, exist_ok=True)
    for old in models.glob("*.json"):
        if old.name != CHECKPOINTS:
            old.unlink()
    towers = {row["model_id"] for row in rows if row["kind"] == "text-of-full"}
    index = []
    for row in rows:
        config = parse_config((configs / row["file"]).read_bytes(), name=row["file"])
        facts = introspect(config | {"architectures": [row["architecture"]]}, activation_seconds=activation_seconds)
        model = model_row(row, facts, has_text_tower=row["model_id"] in towers)
        model["aliases"] = sorted(
            (alias["alias"] for alias in aliases if alias["file"] == row["file"]), key=lambda name: name.lower()
        )
        file = row["file"].replace(".full.json", ".whole.json" if row["model_id"] in towers else ".json")
        (models / file).write_text(_pretty(model))
        index.append(
            {
                "id": model["id"],
                "name": model["name"],
                "family": family(row["model_id"]),
                **{key: model[key] for key in ("total_parameters", "tower", "verified", "licence", "gated")},
                "file": file,
                "aliases": model["aliases"],
            }
        )
    index.sort(key=lambda row: (row["family"], row["total_parameters"], row["id"]))
    built_with = {name: importlib.metadata.version(name) for name in ("transformers", "peft", "torch")}
    lines = ",\n".join(json.dumps(row) for row in index)
    (models / "index.json").write_text(f'{{"built_with": {json.dumps(built_with)},\n"models": [\n{lines}\n]}}\n')
    return len(index)


def model_row(row: dict[str, str], facts: dict[str, Any], *, has_text_tower: bool) -> dict[str, Any]:
    """A row of assets/models from a row of INDEX.csv and what introspection says of its config.json."""
    expected = int(row["total_params_expected"])
    for field, want in (("architecture", row["architecture"]), ("total_parameters", expected)):
        if facts[field] != want:
            raise AssetError(
                f"INDEX.csv: row {row['file']}: {field} is {want}, but the model built has {facts[field]}."
            )
    whole = row["kind"] == "full"
    name = row["model_id"].split("/")[-1]
    types = facts["layer_types"]
    return facts | {
        "id": row["model_id"] + (":whole" if whole and has_text_tower else ""),
        "name": f"{name} (whole)" if whole else name,
        "tower": {"full": "whole model", "text-of-full": "text tower"}.get(row["kind"], "text"),
        "layer_types": {
            kind: encode_blocks(i for i, other in enumerate(types) if other == kind) for kind in dict.fromkeys(types)
        },
        "layers": [_layer(layer) for layer in facts["layers"]],
        "plain_modules": [_layer(module) for module in facts["plain_modules"]],
        "verified": row["verified"].startswith("yes"),
        "gated": {"y": True, "n": False}.get(row["gated"]),
        "licence": None if row["licence"].startswith("n/a") else row["licence"] or None,
        "source": f"total: {row['where_total_seen']}; config: {row['where_config_seen']}",
        "checked": row["checked"],
        "note": "; ".join(filter(None, ("" if row["verified"].startswith("yes") else row["verified"], row["note"]))),
    }


def family(model_id: str) -> str:
    for name, pattern in FAMILIES:
        if re.search(pattern, model_id):
            return name
    return re.split(r"[-_\d]", model_id.split("/")[-1])[0]


def _layer(layer: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that say nothing, and with blocks as text."""
    blocks = {"blocks": encode_blocks(layer["blocks"])} if layer["blocks"] else {}
    kept = {key: value for key, value in layer.items() if key not in ("blocks", "bias") or (key == "bias" and value)}
    return kept | blocks


def _pretty(model: dict[str, Any]) -> str:
    """JSON with one line a field, and one line a layer or a kind of block."""
    lines = []
    for key, value in model.items():
        if key in ("layers", "plain_modules", "activation_bytes_per_token") and value:
            text = "[\n    " + ",\n    ".join(json.dumps(row) for row in value) + "\n  ]"
        else:
            text = json.dumps(value)
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
