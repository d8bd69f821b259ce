"""Reads the assets that RankViz ships, only when needed; a file that cannot be read raises an AssetError that names it.
The content is trusted, because tests check it with `tools.asset_schema`."""

import json
from pathlib import Path
from typing import Any

from rankviz.errors import AssetError, json_place

RESTORE = "repair or restore it"


def read_json(path: Path, remedy: str = RESTORE) -> Any:
    """Return the content of a JSON file; raise AssetError, with the remedy, for a missing or invalid file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise AssetError(f"{path.name}: no such file in {path.parent}; {remedy}.") from None
    except ValueError as error:
        raise AssetError(f"{path.name}: not JSON{json_place(error)}; {remedy}.") from None


def read_rows(path: Path, key: str) -> list[dict]:
    """Return the list of rows under `key` in a JSON file."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise AssetError(f"{path.name}: not a JSON object with a list {key!r}; {RESTORE}.")
    return content[key]
