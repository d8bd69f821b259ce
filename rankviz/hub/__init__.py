"""Models from outside the catalogue: a folder, a config.json, a Hub id.

Of a model only its config.json is read, and the headers of its safetensors files where they are at hand; never a
weight, and never code that comes with it.
"""

import re
from pathlib import Path
from typing import Any

from rankviz import installed
from rankviz.children import Children
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import BadAdapterError, NoSuchPathError, UnknownModelError
from rankviz.paths import existing

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_model(
    ref: str, *, cache: Path, unknown: UnknownModelError | None = None, children: Children | None = None
) -> ModelSpec | None:
    """The model that ref stands for outside the catalogue; None if it looks like none of the three.

    Args:
        ref: A folder with a config.json, a path of a config.json, or a Hub id.
        cache: Where introspected configs are remembered, by their content.
        unknown: The catalogue's error, for its suggestions.
        children: Where it is laid out.

    Raises:
        NoSuchPathError: ref is written as a path, and nothing is there.
    """
    path = existing(ref)
    if path is None:
        _refuse_path(ref)
    if path or HUB_ID.fullmatch(ref):
        hint = f"{unknown} " if unknown and unknown.suggestions else ""
        installed.require_trainer(f"{hint}Reading a model that is not in the catalogue")
    if path:
        from rankviz.hub.local import model_from_path

        return model_from_path(path, cache=cache, children=children)
    if HUB_ID.fullmatch(ref):
        from rankviz.hub.remote import model_from_hub

        suggestions = unknown.suggestions if unknown else ()
        return model_from_hub(ref, cache=cache, suggestions=suggestions, children=children)
    return None


def find_config(ref: str) -> dict[str, Any] | None:
    """The config.json of a model outside the catalogue, checked but not laid out; None if ref looks like none of the
    three."""
    from rankviz.core.model.config_check import parse_config

    path = existing(ref)
    if path and path.is_dir():
        path /= "config.json"
    if path is None or not path.is_file():
        _refuse_path(ref)
        if not HUB_ID.fullmatch(ref):
            return None
        from rankviz.hub.remote import fetch_config

        path = fetch_config(ref).path
    return parse_config(path.read_bytes(), name=path.name)


def _refuse_path(ref: str) -> None:
    """NoSuchPathError for a reference that is written as a path and never as a Hub id."""
    if ref.startswith((".", "/", "~")) or ref.endswith(".json"):
        raise NoSuchPathError(ref)


def find_adapter(ref: str, *, max_bytes: int) -> Path:
    """The folder of the adapter that has this Hub id, fetched unless it was before."""
    if not HUB_ID.fullmatch(ref):
        raise BadAdapterError(
            f"There is no adapter {ref[:80]!r} here: give a folder, a zip, a run's id or a Hub id (owner/name)."
        )
    from rankviz.hub.adapter import fetch_adapter

    return fetch_adapter(ref, max_bytes=max_bytes)
