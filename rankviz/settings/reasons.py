"""Why pydantic refuses a value, in plain words."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

REASONS = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "it must be a whole number"),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "it must be a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "it must be 1 or 0"),
    **dict.fromkeys(("dict_type", "list_type", "string_type"), "it must be JSON of another kind"),
    "greater_than": "it must be more than {gt:g}",
    "greater_than_equal": "it must be at least {ge:g}",
    "less_than": "it must be less than {lt:g}",
    "less_than_equal": "it must be at most {le:g}",
    "string_pattern_mismatch": "it has a letter that cannot stand there",
    "string_too_long": "it may have {max_length} letters",
    "too_short": "it must have an entry",
}
"""Of pydantic's types of errors; of others its own words are shown."""


def reason(error: Mapping[str, Any]) -> str:
    """Of one of `ValidationError.errors()`."""
    words = REASONS.get(error["type"], error["msg"].removeprefix("Value error, "))
    return words.format(**error.get("ctx", {}))


def why_refused(error: BaseException | None) -> str:
    """Of an error of pydantic; empty of any other."""
    return reason(error.errors()[0]) if isinstance(error, ValidationError) else ""
