"""Checks the arguments of endpoints (types as annotated, bounded sizes, finite numbers) and makes JSON of answers.

What a value may be beyond that, the core says.
"""

import reprlib
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import signature
from itertools import islice
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypedDict, TypeVar, get_args, get_origin

import gradio as gr

from rankviz.core.bounds import MAX_KEYS, MAX_NUMBER, few, is_number, plain_text, shown, whole
from rankviz.errors import InvalidSettingError

Entry = TypeVar("Entry")

MAX_ARGUMENT = 10_000
"""Characters of a text."""
MAX_LIST = 256
MAX_PART = 500
"""Entries that one call returns."""
FILES = ("data", "adapter")
"""The arguments that may be a file."""
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
"""The types that an argument may have."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 2


class FileJSON(TypedDict):
    """A file that this call made: Gradio's clients fetch it, others read `url`."""

    path: str
    orig_name: str
    meta: dict[str, str]


def checked(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operation, called only with arguments that its signature allows; null stands for numbers that JSON
    does not have. InvalidSettingError names a wrong argument."""
    parameters = signature(operation).parameters

    @wraps(operation)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature(operation).bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            bound.arguments[name] = uploaded(value) if name in FILES else value
            require(bound.arguments[name], parameters[name].annotation, name)
        return finite(operation(*bound.args, **bound.kwargs))

    return call


def require_call(operation: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """InvalidSettingError unless the operation can be called with these arguments, by name. All have defaults."""
    parameters = signature(operation).parameters
    for name, value in given.items():
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise InvalidSettingError(f"{operation.__name__} has no argument {shown(name)}. Its arguments: {known}.")
        require(uploaded(value) if name in FILES else value, parameters[name].annotation, name)


def uploaded(value: object) -> object:
    """Return the path of a file as Gradio's clients send one once they have uploaded it; any other value unchanged.
    Whether the path is this visitor's upload, the resolver of references decides."""
    is_file = isinstance(value, dict) and value.get("meta") == {"_type": "gradio.FileData"}
    return value.get("path") if is_file else value


def require(value: object, kind: Any, name: str) -> None:
    """InvalidSettingError unless the value is of this type and no larger than an argument may be."""
    if isinstance(value, list):
        few(value, name, MAX_LIST)
    if isinstance(value, dict):
        few(list(value), name, MAX_KEYS)
    options = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if not any(_is(value, option) for option in options):
        words = " or ".join(WORDS[option] for option in options)
        raise InvalidSettingError(f"{name} must be {words} (got {_SHORT.repr(value)}).")
    for each in value if isinstance(value, list) else (*value, *value.values()) if isinstance(value, dict) else [value]:
        if isinstance(each, str):
            plain_text(each, name, MAX_ARGUMENT)
        elif is_number(each) and not abs(each) <= MAX_NUMBER:
            raise InvalidSettingError(f"{name} must be finite and at most 10^18.")


def _is(value: object, kind: Any) -> bool:
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is(each, get_args(kind)[0]) for each in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_is(each, get_args(kind)[1]) for each in value.values())
    if kind is float:
        return is_number(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by None, at any depth."""
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def part(entries: Iterable[Entry], limit: int, offset: int) -> list[Entry]:
    """Return `limit` entries from `offset` on; InvalidSettingError where these are no part of a list."""
    whole(limit, "limit", 1, MAX_PART)
    whole(offset, "offset", 0, 10**9)
    return list(islice(entries, offset, offset + limit))


def file(path: Path) -> FileJSON:
    """Return a file as Gradio serves it."""
    return FileJSON(path=str(path), orig_name=path.name, meta=gr.FileData(path=str(path)).model_dump()["meta"])
