"""Rows of RankViz's own data, checked one by one: the first that is wrong is an error that says what to do with it."""

import json
from typing import Any

from pydantic import BaseModel, ValidationError

from rankviz.errors import AssetError


def check_sorted(file: str, rows: list[dict], schema: type[BaseModel], key: str) -> None:
    """AssetError with file, row, field and remedy unless every row is as the schema says, and they rise by `key`."""
    before = ""
    for row in rows:
        name = row.get(key, "?") if isinstance(row, dict) else json.dumps(row)
        validate(schema, row, f"{file}: row {name!r}")
        if name == before:
            raise AssetError(f"{file}: row {name!r} is there twice: keep one.")
        if name < before:
            raise AssetError(f"{file}: row {name!r} is out of order: move it above {before!r}.")
        before = name


def validate(schema: type[BaseModel], row: Any, where: str) -> None:
    """The same of one row."""
    try:
        schema.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the row"
        raise AssetError(f"{where}, {field}: {_remedy(first)}.") from None


def _remedy(error: dict) -> str:
    match error["type"]:
        case "missing":
            return "missing; add it"
        case "extra_forbidden":
            return "not a field of this file; remove or rename it"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}; got {error['input']!r:.80}"
