"""Checks of endpoint arguments (annotated types, sizes, finite numbers), and conversion of answers to JSON.

All other limits on values are checked in the core.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import signature
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_args, get_origin

import gradio as gr

from rankviz.core.bounds import MAX_KEYS, MAX_NUMBER, check_type, few, is_number, one_of, plain_text, shown, whole
from rankviz.errors import InvalidSettingError
from rankviz.options import described

Entry = TypeVar("Entry")

MAX_ARGUMENT = 10_000
"""Most characters of a text argument."""
MAX_LIST = 256
MAX_PART = 500
"""Most entries that one call returns."""
FILES = ("data", "adapter")
"""Names of the arguments that may be an uploaded file."""


class FileJSON(TypedDict):
    """A file made by this call. Gradio's clients download it; others read `url`."""

    path: str
    orig_name: str
    meta: dict[str, str]


def checked(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an operation: check its arguments against its signature, and replace numbers that JSON lacks by null in the
    answer. InvalidSettingError names a wrong argument."""

    @wraps(operation)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature(operation).bind(*args, **kwargs)
        given = {name: uploaded(value) if name in FILES else value for name, value in bound.arguments.items()}
        require_call(operation, given)
        return finite(operation(**given))

    return call


def require_call(operation: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise InvalidSettingError unless an operation can be called with these arguments, by name; all have defaults."""
    parameters = signature(operation).parameters
    for name, value in given.items():
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise InvalidSettingError(f"{operation.__name__} has no argument {shown(name)}. Its arguments: {known}.")
        require(uploaded(value) if name in FILES else value, parameters[name].annotation, name)


def uploaded(value: object) -> object:
    """Return the path in a file object of Gradio's clients; any other value unchanged. Does not check that the path is
    the visitor's own upload; the resolver of references does."""
    is_file = isinstance(value, dict) and value.get("meta") == {"_type": "gradio.FileData"}
    return value.get("path") if is_file else value


def require(value: object, kind: Any, name: str) -> None:
    """Raise InvalidSettingError unless the value has this type and is within the size limits of arguments."""
    if isinstance(value, list):
        few(value, name, MAX_LIST)
    if isinstance(value, dict):
        few(list(value), name, MAX_KEYS)
    check_type(value, kind, name)
    for each in value if isinstance(value, list) else (*value, *value.values()) if isinstance(value, dict) else [value]:
        if isinstance(each, str):
            plain_text(each, name, MAX_ARGUMENT)
        elif is_number(each) and not abs(each) <= MAX_NUMBER:
            raise InvalidSettingError(f"{name} must be finite and at most 10^18.")
    literals = [kind] if get_origin(kind) is Literal else [x for x in get_args(kind) if get_origin(x) is Literal]
    if literals and value is not None:
        one_of(value, name, get_args(literals[0]))


def describe(endpoint: Mapping[str, Any], operation: Callable[..., Any]) -> None:
    """Add meaning and default of each argument to Gradio's description of an endpoint, from which OpenAPI and MCP take
    it."""
    _, meanings = described(operation)
    for each in endpoint["parameters"]:
        default = {} if each["parameter_default"] in (None, "") else {"default": each["parameter_default"]}
        each["type"] = {**each["type"], "description": meanings[each["parameter_name"]], **default}


def finite(value: Any) -> Any:
    """Return the value with NaN and infinite numbers replaced by None, at any depth."""
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def part(entries: Iterable[Entry], limit: int, offset: int) -> list[Entry]:
    """Return `limit` entries starting at `offset`; InvalidSettingError where either is out of bounds."""
    whole(limit, "limit", 1, MAX_PART)
    whole(offset, "offset", 0, 10**9)
    return list(islice(entries, offset, offset + limit))


def file(path: Path) -> FileJSON:
    """Return the JSON of a file, from which Gradio makes the file's address."""
    return FileJSON(path=str(path), orig_name=path.name, meta=gr.FileData(path=str(path)).model_dump()["meta"])
