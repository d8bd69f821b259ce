"""What the endpoints answer, in docs/http_and_mcp.md: a row of fields for each kind of object in their results."""

from collections.abc import Iterator
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from docs.generate.markdown import table

WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", NoneType: "null"}


def returned(hint: Any) -> str:
    """A type in words; objects by their names in the table of results."""
    args = get_args(hint)
    if is_typeddict(hint):
        return _name(hint)
    if get_origin(hint) is list:
        return f"list of {returned(args[0])}"
    if get_origin(hint) is dict:
        return f"{returned(args[1])} by name"
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(returned, args))
    return WORDS[hint]


def objects(hints: Iterator[Any]) -> str:
    """A row for each object in results of these types, by name. ValueError where two have one name."""
    kinds: dict[str, Any] = {}
    for kind in (each for hint in hints for each in _objects(hint)):
        if get_type_hints(kinds.setdefault(_name(kind), kind)) != get_type_hints(kind):
            raise ValueError(f"Two kinds of results are called {_name(kind)}.")
    return table(["Object", "Meaning", "Fields"], [_row(kinds[name]) for name in sorted(kinds)])


def _objects(hint: Any) -> Iterator[Any]:
    if is_typeddict(hint):
        yield hint
        inner = get_type_hints(hint).values()
    else:
        inner = () if get_origin(hint) is Literal else get_args(hint)
    for each in inner:
        yield from _objects(each)


def _row(kind: Any) -> list[str]:
    fields = ", ".join(f"`{name}` {returned(hint)}" for name, hint in get_type_hints(kind).items())
    return [_name(kind), " ".join(cleandoc(kind.__doc__).split()), fields]


def _name(kind: Any) -> str:
    return kind.__name__.removesuffix("JSON")
