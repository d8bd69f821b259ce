"""Checks of endpoint arguments (annotated types, sizes, finite numbers), and conversion of answers to JSON.

All other limits on values are checked in the core.
"""

import reprlib
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import signature
from itertools import islice
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypedDict, TypeVar, Union, get_args, get_origin

import gradio as gr

from rankviz.core.bounds import MAX_KEYS, MAX_NUMBER, few, is_number, one_of, plain_text, shown, whole
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
WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: "empty",
    list[int]: "a list of whole numbers, such as [16]",
    list[float]: "a list of numbers, such as [0.001]",
    list[str]: "a list of texts",
    dict[str, float]: "numbers by name",
}
"""Names of the types that an argument may have, for error messages."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 2


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
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    choices = [choice for option in options if get_origin(option) is Literal for choice in get_args(option)]
    options = [str if get_origin(option) is Literal else option for option in options]
    if not any(_is(value, option) for option in options):
        words = " or ".join(WORDS[option] for option in options)
        raise InvalidSettingError(f"{name} must be {words} (got {_SHORT.repr(value)}).")
    for each in value if isinstance(value, list) else (*value, *value.values()) if isinstance(value, dict) else [value]:
        if isinstance(each, str):
            plain_text(each, name, MAX_ARGUMENT)
        elif is_number(each) and not abs(each) <= MAX_NUMBER:
            raise InvalidSettingError(f"{name} must be finite and at most 10^18.")
    if choices and value is not None:
        one_of(value, name, choices)


def describe(endpoint: Mapping[str, Any], operation: Callable[..., Any]) -> None:
    """Add meaning and default of each argument to Gradio's description of an endpoint, from which OpenAPI and MCP take
    it."""
    _, meanings = described(operation)
    for each in endpoint["parameters"]:
        default = {} if each["parameter_default"] in (None, "") else {"default": each["parameter_default"]}
        each["type"] = {**each["type"], "description": meanings[each["parameter_name"]], **default}


def _is(value: object, kind: Any) -> bool:
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is(each, get_args(kind)[0]) for each in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_is(each, get_args(kind)[1]) for each in value.values())
    if kind is float:
        return is_number(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


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
