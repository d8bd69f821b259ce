"""Strict checks of RankViz's own tables: pydantic's TypeAdapter over the dataclass that a row becomes.

Nothing unknown, nothing missing, nothing converted; the first row that is wrong is an AssetError that says what to do
with it. pydantic is imported here and in the modules that call this one, and those only where assets are built or
tested: reading an asset stays fast (tests/catalog/test_reading_is_light.py).
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, field, fields, make_dataclass
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError

from rankviz.errors import AssetError


def _existing_day(text: str) -> str:
    date.fromisoformat(text)
    return text


Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Day = Annotated[str, StringConstraints(pattern=r"^20\d{2}-\d{2}-\d{2}$"), AfterValidator(_existing_day)]
Link = Annotated[str, StringConstraints(pattern=r"^https://\S+$")]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def strict(
    row: type, *, laws: Callable[[Any], None] | None = None, optional: Collection[str] = (), **in_file: Any
) -> Any:
    """The dataclass as pydantic checks a row of it: every field given, no other, none converted.

    Args:
        laws: Raises ValueError where the fields of a row contradict each other.
        optional: Fields that a row may leave out.
        in_file: Types of fields that are narrower in the file than in the dataclass, or written in another way.
    """
    if unknown := {*in_file, *optional} - {each.name for each in fields(row)}:
        raise TypeError(f"{row.__name__} has no fields {sorted(unknown)}")
    checked = make_dataclass(
        row.__name__,
        [
            (
                each.name,
                in_file.get(each.name, each.type),
                field(kw_only=True, default=each.default if each.name in optional else MISSING),
            )
            for each in fields(row)
        ],
        namespace={"__pydantic_config__": {"extra": "forbid", "strict": True}},
    )
    return checked if laws is None else Annotated[checked, AfterValidator(_passing(laws))]


def _passing(laws: Callable[[Any], None]) -> Callable[[Any], Any]:
    def check(row: Any) -> Any:
        laws(row)
        return row

    return check


def validate(adapter: TypeAdapter, row: Any, where: str, *, instead: str = "") -> Any:
    """The row as an object of the schema; AssetError with where, field and remedy (or what to do instead)."""
    try:
        return adapter.validate_json(json.dumps(row))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the row"
        raise AssetError(f"{where}, {place}: {_remedy(first)}{instead and f', or {instead}'}.") from None


def check_sorted(file: str, rows: Iterable[Any], schema: Any, key: str) -> None:
    """The same of every row, and that they rise by `key`."""
    adapter, before = TypeAdapter(schema), ""
    for row in rows:
        name = row.get(key, "?") if isinstance(row, Mapping) else json.dumps(row)
        validate(adapter, row, f"{file}: row {name!r}")
        if name == before:
            raise AssetError(f"{file}: row {name!r} appears twice: keep one.")
        if name < before:
            raise AssetError(f"{file}: row {name!r} is out of order: move it above {before!r}.")
        before = name


def _remedy(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "missing; add it"
        case "unexpected_keyword_argument":
            return "not a field of this file; remove or rename it"
        case "value_error":
            return f"{error['ctx']['error']}; got {error['input']!r:.80}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}; got {error['input']!r:.80}"
