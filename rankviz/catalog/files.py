"""Reads asset files. Reading trusts them, because `tools.asset_schema` checks them in the tests; a file or row that
cannot be read at all is still an AssetError that names it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rankviz.errors import AssetError

Row = TypeVar("Row")
RESTORE = "repair or restore it"


def read_json(path: Path, remedy: str = RESTORE) -> Any:
    """Return the content of a JSON file; AssetError with the remedy where it is missing or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise AssetError(f"{path.name}: no such file in {path.parent}; {remedy}.") from None
    except ValueError as error:
        raise AssetError(f"{path.name}: not JSON ({error}); {remedy}.") from None


def read_rows(path: Path, key: str) -> list[dict]:
    """Return the list under the file's one key."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise AssetError(f"{path.name}: not a JSON object with a list {key!r}; {RESTORE}.")
    return content[key]


def made(make: Callable[[Mapping[str, Any]], Row], row: Any, file: str, key: str = "id") -> Row:
    """Make an object of a row; AssetError with file and row where that fails."""
    try:
        return make(row)
    except (KeyError, TypeError, ValueError) as error:
        name = row.get(key, "?") if isinstance(row, dict) else row
        raise AssetError(
            f"{file}: row {name!r} cannot be read ({error}); give it the fields that its neighbours have."
        ) from None
