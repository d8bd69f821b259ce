"""Models from outside the catalogue: a folder, a config.json, a Hub id.
Only a model's config.json is read, and the headers of its safetensors files where they are at hand; never a weight,
and never code that comes with the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz import installed
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import BadAdapterError, BadConfigError, UnknownModelError, quoted
from rankviz.paths import is_hub_id

if TYPE_CHECKING:
    from rankviz.children import Children
    from rankviz.hub.door import HubDoor


def find_model(
    ref: str | Path, *, cache: Path, door: HubDoor, suggestions: tuple[str, ...] = (), children: Children | None = None
) -> ModelSpec:
    """Return a model from outside the catalogue.

    Args:
        ref: Path of a config.json or of its folder, or a Hub id; references.py tells them apart.
        cache: Folder of introspected configs, by content.
        door: Looks up a Hub id.
        suggestions: Names of the catalogue that look like the Hub id, for the message if the model cannot be fetched.
        children: Child processes that introspect the config.json.
    """
    hint = f"{UnknownModelError(str(ref), suggestions)} " if suggestions else ""
    installed.require_trainer(f"{hint}Reading a model that is not in the catalogue")
    from rankviz.hub.remote import model_from_hub, model_from_path

    if isinstance(ref, Path):
        return model_from_path(ref, cache=cache, children=children)
    with door.config(ref, suggestions) as config:
        return model_from_hub(ref, config, cache=cache, children=children)


def find_config(ref: str | Path, *, door: HubDoor) -> dict[str, Any]:
    """Return the checked config.json of a model outside the catalogue, without introspecting it; ref as in
    find_model."""
    if isinstance(ref, str):
        with door.config(ref) as config:
            return read_config(config.path)
    path = ref / "config.json" if ref.is_dir() else ref
    if not path.is_file():
        raise BadConfigError(f"{path.name} holds no config.json: give the folder of a model, or its config.json.")
    return read_config(path)


def read_config(path: Path) -> dict[str, Any]:
    """Return a config.json on this disk; raise BadConfigError where it is malformed or too large."""
    from rankviz.core.model.config_check import MAX_CONFIG_BYTES, parse_config, too_large

    if (size := path.stat().st_size) > MAX_CONFIG_BYTES:
        raise BadConfigError(too_large(path.name, size))
    return parse_config(path.read_bytes(), name=path.name)


def find_adapter(ref: str, *, door: HubDoor, max_bytes: int, read: Path | None = None) -> Path:
    """Return the folder of the adapter with this Hub id, fetched unless a copy exists. read: as in HubDoor.adapter."""
    if not is_hub_id(ref):
        raise BadAdapterError(
            f"There is no adapter {quoted(ref)} here: give its files, a run's id or a Hub id (owner/name)."
        )
    return door.adapter(ref, max_bytes=max_bytes, read=read)
