"""Checks the arguments of an endpoint before any code sees them: types as annotated, bounded sizes, finite numbers.

What a value may be beyond that, the core says.
"""

import reprlib
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from rankviz.core.bounds import MAX_KEYS, MAX_NUMBER, few, is_number, plain_text, shown
from rankviz.errors import InvalidSettingError

MAX_ARGUMENT = 10_000
"""Characters of a text."""
MAX_LIST = 256
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


def checked(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The operation, called only with arguments that its signature allows: InvalidSettingError names another one."""
    parameters = signature(operation).parameters

    @wraps(operation)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature(operation).bind(*args, **kwargs)
        for name in FILES:
            if name in bound.arguments:
                bound.arguments[name] = uploaded(bound.arguments[name])
        for name, value in bound.arguments.items():
            require(value, parameters[name].annotation, name)
        return operation(*bound.args, **bound.kwargs)

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
    """The path of a file as Gradio's clients send one once they have uploaded it; any other value as it is. Whether
    the path is this visitor's upload, the resolver of references decides."""
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
        _bound(each, name)


def _bound(value: object, name: str) -> None:
    if isinstance(value, str):
        plain_text(value, name, MAX_ARGUMENT)
    elif is_number(value) and not abs(value) <= MAX_NUMBER:
        raise InvalidSettingError(f"{name} must be finite and at most 10^18.")


def _is(value: object, kind: Any) -> bool:
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is(each, get_args(kind)[0]) for each in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_is(each, get_args(kind)[1]) for each in value.values())
    if kind is float:
        return is_number(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 2
