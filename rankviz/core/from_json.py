"""Builds dataclasses from JSON values, checked by type annotations, and turns objects into JSON answers."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypedDict,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from rankviz.core.bounds import (
    MAX_ITEMS,
    MAX_KEYS,
    MAX_NUMBER,
    MAX_TEXT,
    UNPRINTABLE,
    Between,
    Items,
    Letters,
    Prose,
    printable,
    shown,
)
from rankviz.core.quantity import Range

T = TypeVar("T")
Reader = Callable[[Any], Any]


class Misfit(ValueError):
    """A JSON value has the wrong type for its field, or is out of bounds."""


def build(kind: type[T], row: object) -> T:
    """Return an instance of a dataclass from a JSON object; raise Misfit, which names the first invalid field."""
    return _of_dataclass(kind)(row)


@functools.cache
def _of_dataclass(kind: type) -> Reader:
    hints = get_type_hints(kind, include_extras=True)
    readers = [(field.name, _reader(hints[field.name])) for field in fields(kind)]
    required = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    contradiction = getattr(kind, "contradiction", None)

    def read(row: object) -> Any:
        if not isinstance(row, dict):
            raise Misfit(f"must be an object (got {shown(row)})")
        values = {}
        for name, reader in readers:
            if name in row:
                try:
                    values[name] = reader(row[name])
                except Misfit as misfit:
                    raise Misfit(f"{name}{' ' if str(misfit).startswith('must ') else '.'}{misfit}") from None
            elif name in required:
                raise Misfit(f"{name} must be given (got nothing)")
        made = kind(**values)
        if contradiction is not None and (why := contradiction(made)):
            raise Misfit(why)
        return made

    return read


@functools.cache
def _of_typed_dict(kind: type) -> Reader:
    """Return a reader of known keys by their type hints, and of unknown keys (of later versions) with plain values."""
    readers = {name: _reader(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    key = _text(Letters(100))

    def read(row: object) -> dict[str, Any]:
        if not isinstance(row, dict) or len(row) > MAX_KEYS:
            raise Misfit(f"must be an object of at most {MAX_KEYS} entries (got {shown(row)})")
        values = {}
        for name, value in row.items():
            if (reader := readers.get(name)) is None:
                if isinstance(value, list | dict):
                    continue
                reader = _PLAIN[type(value)]
                key(name)
            try:
                values[name] = reader(value)
            except Misfit as misfit:
                raise Misfit(f"{shown(name)} {misfit}") from None
        return values

    return read


def _reader(hint: Any) -> Reader:
    bounds: dict[type, Any] = {}
    if get_origin(hint) is Annotated:
        hint, *annotations = get_args(hint)
        bounds = {type(bound): bound for bound in annotations}
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType) and all(get_origin(option) is Literal for option in options):
        origin, options = Literal, tuple(word for option in options for word in get_args(option))
    if origin is Literal:
        return _checked(lambda value: type(value) is str and value in options, f"one of {', '.join(options)}")
    if origin in (Union, UnionType):
        return _either(options)
    if origin is tuple:
        item, items = _reader(options[0]), bounds.get(Items, Items(0, MAX_ITEMS))
        return _sized(list, "a list", "items", items, lambda values: tuple(map(item, values)))
    if origin is dict:
        key, item = map(_reader, options)
        items = bounds.get(Items, Items(0, MAX_KEYS))
        return _sized(dict, "an object", "entries", items, lambda row: {key(k): item(v) for k, v in row.items()})
    if is_typeddict(hint):
        return _of_typed_dict(hint)
    if is_dataclass(hint):
        return _of_dataclass(hint)
    if hint is str and (prose := bounds.get(Prose)):
        words, text = "a text", lambda value: printable(value, prose.most, controls=prose.controls)
        return _checked(lambda value: type(value) is str, words, text)
    if hint is str:
        return _text(bounds.get(Letters, Letters(MAX_TEXT)))
    if hint is bool:
        return _checked(lambda value: type(value) is bool, "true or false")
    if hint in (int, float):
        return _number(hint, bounds.get(Between, Between(-MAX_NUMBER, MAX_NUMBER)))
    raise TypeError(f"no JSON value is read as {hint}")


def _checked(fits: Callable[[Any], bool], words: str, make: Reader = lambda value: value) -> Reader:
    """Return a reader that checks values with `fits` and converts them with `make`. words: Valid values, for errors."""

    def read(value: object) -> Any:
        if not fits(value):
            raise Misfit(f"must be {words} (got {shown(value)})")
        return make(value)

    return read


def _number(kind: type, bound: Between) -> Reader:
    low, high, or_nan = bound
    kinds, what = ((int,), "a whole number") if kind is int else ((float, int), "a number")
    words = f"{what} from {low:,} to {high:,}"
    if or_nan:
        return _checked(lambda v: type(v) in kinds, words, lambda v: v if low <= v <= high else math.nan)
    # By type, not isinstance: true and false are no numbers. nan lies between no two numbers.
    return _checked(lambda value: type(value) in kinds and low <= value <= high, words)


def _text(letters: Letters) -> Reader:
    most, pattern = letters
    plain = _checked(
        lambda value: type(value) is str and len(value) <= most and not UNPRINTABLE.search(value),
        f"a text of at most {most} printable characters",
    )
    if pattern is None:
        return plain
    words = "a plain name of letters, digits, '.', '_' and '-'"
    return _checked(lambda value: pattern.fullmatch(plain(value)) is not None, words)


def _sized(kind: type, what: str, parts: str, items: Items, make: Reader) -> Reader:
    words = f"{what} of {items.least} to {items.most:,} {parts}"
    return _checked(lambda value: type(value) is kind and items.least <= len(value) <= items.most, words, make)


def _either(options: tuple[Any, ...]) -> Reader:
    optional, readers = NoneType in options, [_reader(option) for option in options if option is not NoneType]

    def read(value: object) -> Any:
        if optional and value is None:
            return None
        for reader in readers:
            try:
                return reader(value)
            except Misfit as misfit:
                last = misfit
        raise last

    return read


_PLAIN = {kind: _reader(kind) for kind in (bool, int, float, str)} | {NoneType: lambda value: None}


@functools.cache
def shape(kind: type, *names: str) -> Any:
    """Return a TypedDict, named with "JSON" appended, for a dataclass or NamedTuple and all types nested in it. names:
    Names of the fields that it has; without any all fields."""
    hints = get_type_hints(kind)
    made = TypedDict(f"{kind.__name__}JSON", {name: _in_json(hints[name]) for name in names or hints})
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


def as_answer(kind: type, row: Any, **others: Any) -> Any:
    """Return a JSON object with the keys of a TypedDict, from attributes of `row` or from `others`. Dataclasses and
    NamedTuples become objects, a Range with whole numbers if the key ends in "_bytes"; tuples become lists."""
    names = kind.__annotations__
    return {name: _plain(name, others[name] if name in others else getattr(row, name)) for name in names}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Range):
        return value.whole_json() if name.endswith("_bytes") else value.as_json()
    if is_dataclass(value) or hasattr(value, "_fields"):
        return as_answer(shape(type(value)), value)
    if type(value) not in (tuple, list):
        return value
    is_plain = not value or isinstance(value[0], float | int | str)
    return list(value) if is_plain else [_plain(name, each) for each in value]
