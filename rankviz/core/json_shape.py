"""The shapes of JSON answers: named fields with types, which the HTTP endpoints publish as their schemas.

A shape is a TypedDict. That of a dataclass or NamedTuple whose fields go into JSON as they are is made from it, so that
they stand once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, TypedDict, Union, get_args, get_origin, get_type_hints


def shape(kind: type) -> Any:
    """The TypedDict of a dataclass or NamedTuple, and of those in it, each as an object."""
    made = TypedDict(f"{kind.__name__}JSON", {name: _in_json(hint) for name, hint in get_type_hints(kind).items()})
    made.__doc__ = kind.__doc__
    return made


def _in_json(hint: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint) or hasattr(hint, "_fields"):
        return shape(hint)
    if origin in (Union, UnionType):
        return Union[tuple(_in_json(each) for each in args)]  # noqa: UP007 - of types known only here
    if origin in (tuple, list, Sequence):
        return list[_in_json(args[0])]
    if origin in (dict, Mapping):
        return dict[str, _in_json(args[1])]
    return NoneType if hint is None else hint
