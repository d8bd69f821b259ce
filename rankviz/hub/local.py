"""A model on this disk: a folder as the Hub has it, or a config.json alone."""

import datetime
import json
import math
from pathlib import Path
from typing import Any

from rankviz.children import Children
from rankviz.core.model.json import model_from_json
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import BadConfigError
from rankviz.hub.introspection import introspect_config

MAX_HEADER_BYTES = 100_000_000
"""As safetensors itself allows."""
MAX_DIMENSIONS = 16
MAX_ELEMENTS = 10**15


def model_from_path(path: Path, *, cache: Path | None = None, children: Children | None = None) -> ModelSpec:
    """A folder's config.json, or the file itself; a folder's safetensors headers are compared with the total."""
    folder = path if path.is_dir() else None
    config = path / "config.json" if folder else path
    if not config.is_file():
        raise BadConfigError(f"{path} holds no config.json: give the folder of a model, or its config.json.")
    facts = introspect_config(config, cache=cache, children=children)
    stored = stored_parameters(folder) if folder else None
    where = folder or config
    return model_from_json(
        facts
        | {
            "id": str(path),
            "name": where.resolve().name,
            "verified": stored == facts["total_parameters"],
            "source": f"{config.name} in {where.resolve()}" if folder else str(config.resolve()),
            "checked": datetime.date.today().isoformat(),
            "note": compare_totals(facts["total_parameters"], stored, "the folder's safetensors headers"),
        }
    )


def stored_parameters(folder: Path) -> int | None:
    """Elements of all tensors in a folder's *.safetensors, from their headers; None without such files."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None
    return sum(_elements(file) for file in files)


def _elements(file: Path) -> int:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= MAX_HEADER_BYTES:
            raise BadConfigError(f"{file.name} is not a safetensors file: its header's length is {length:,}.")
        try:
            header = json.loads(stream.read(length))
            shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
            elements = sum(math.prod(shape) for shape in shapes if _is_shape(shape))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            elements, shapes = 0, [None]
    if not all(map(_is_shape, shapes)) or elements > MAX_ELEMENTS:
        raise BadConfigError(f"{file.name} is not a safetensors file: its header cannot be read.")
    return elements


def _is_shape(shape: Any) -> bool:
    """A tensor's: a few whole numbers."""
    few = isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS
    return few and all(isinstance(size, int) and 0 <= size <= MAX_ELEMENTS for size in shape)


def compare_totals(counted: int, stored: int | None, where: str) -> str:
    """A sentence for a stored total that differs, and nothing for one that agrees or is not known."""
    if stored is None or stored == counted:
        return ""
    return (
        f"{where[0].upper()}{where[1:]} hold {stored:,} numbers, but the model built here has {counted:,} parameters. "
        "Possible reasons: tied weights saved twice, saved buffers, packed 4-bit weights or extra heads."
    )
