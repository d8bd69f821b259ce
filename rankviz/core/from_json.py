"""Reads JSON values into dataclasses by their annotations, and turns objects into JSON answers."""

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
    OrNan,
    Prose,
    printable,
)
from rankviz.core.quantity import Range
from rankviz.errors import shortened

T = TypeVar("T")
Reader = Callable[[Any], Any]
QUOTED = 60


class Misfit(ValueError):
    """A JSON value does not fit its field."""


def build(kind: type[T], row: object) -> T:
    """Return an instance of the dataclass from a JSON object; raise Misfit naming the first unreadable field."""
    return _of_dataclass(kind)(row)


def quoted(value: object) -> str:
    """Return the value as an error message quotes it, shortened."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_NUMBER:
        return f"a number of {math.floor(math.log10(abs(value))) + 1} digits"
    if isinstance(value, list | dict):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    return shortened(ascii(shortened(value, QUOTED)) if isinstance(value, str) else str(value), QUOTED)


@functools.cache
def _of_dataclass(kind: type) -> Reader:
    hints = get_type_hints(kind, include_extras=True)
    readers = [(field.name, _reader(hints[field.name])) for field in fields(kind)]
    required = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    contradiction = getattr(kind, "contradiction", None)

    def read(row: object) -> Any:
        if not isinstance(row, dict):
            raise Misfit(f"must be an object (got {quoted(row)})")
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
    """Return a reader of known keys by their hints, and of unknown keys (of later versions) with plain values."""
    readers = {name: _reader(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    key = _text(Letters(100))

    def read(row: object) -> dict[str, Any]:
        if not isinstance(row, dict) or len(row) > MAX_KEYS:
            raise Misfit(f"must be an object of at most {MAX_KEYS} entries (got {quoted(row)})")
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
                raise Misfit(f"{quoted(name)} {misfit}") from None
        return values

    return read


def _reader(hint: Any) -> Reader:
    bounds: dict[type, Any] = {}
    if get_origin(hint) is Annotated:
        hint, *annotations = get_args(hint)
        bounds = {type(bound): bound for bound in annotations}
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _either(options)
    if origin is Literal:
        return _one_of(options)
    if origin is tuple:
        item = _reader(options[0])
        return _sized(list, "a list", "items", bounds.get(Items, Items(0, MAX_ITEMS)), lambda v: tuple(map(item, v)))
    if origin is dict:
        key, item = map(_reader, options)
        items = bounds.get(Items, Items(0, MAX_KEYS))
        return _sized(
            dict, "an object", "entries", items, lambda v: {key(name): item(each) for name, each in v.items()}
        )
    if is_typeddict(hint):
        return _of_typed_dict(hint)
    if is_dataclass(hint):
        return _of_dataclass(hint)
    if hint is str:
        return _prose(bounds[Prose]) if Prose in bounds else _text(bounds.get(Letters, Letters(MAX_TEXT)))
    if hint is bool:
        return _exactly(bool, "true or false")
    if hint in (int, float):
        return _number(hint, bounds)
    raise TypeError(f"no JSON value is read as {hint}")


def _number(kind: type, bounds: Mapping[type, Any]) -> Reader:
    low, high = bounds.get(Between) or bounds.get(OrNan) or (-MAX_NUMBER, MAX_NUMBER)
    kinds, what = ((int,), "a whole number") if kind is int else ((float, int), "a number")

    def read(value: object) -> float:
        # By type, not isinstance: true and false are no numbers. nan lies between no two numbers.
        if type(value) in kinds:
            if low <= value <= high:
                return value
            if OrNan in bounds:
                return math.nan
        raise Misfit(f"must be {what} from {low:,} to {high:,} (got {quoted(value)})")

    return read


def _text(letters: Letters) -> Reader:
    most, pattern = letters

    def read(value: object) -> str:
        if type(value) is not str or len(value) > most or UNPRINTABLE.search(value):
            raise Misfit(f"must be a text of at most {most} printable characters (got {quoted(value)})")
        if pattern is not None and not pattern.fullmatch(value):
            raise Misfit(f"must be a plain name of letters, digits, '.', '_' and '-' (got {quoted(value)})")
        return value

    return read


def _prose(prose: Prose) -> Reader:
    text = _exactly(str, "a text")
    return lambda value: printable(text(value), prose.most, controls=prose.controls)


def _exactly(kind: type, words: str) -> Reader:
    def read(value: object) -> Any:
        if type(value) is not kind:
            raise Misfit(f"must be {words} (got {quoted(value)})")
        return value

    return read


def _one_of(options: tuple[str, ...]) -> Reader:
    def read(value: object) -> str:
        if type(value) is not str or value not in options:
            raise Misfit(f"must be one of {', '.join(options)} (got {quoted(value)})")
        return value

    return read


def _sized(kind: type, what: str, parts: str, items: Items, make: Reader) -> Reader:
    def read(value: object) -> Any:
        if type(value) is not kind or not items.least <= len(value) <= items.most:
            raise Misfit(f"must be {what} of {items.least} to {items.most:,} {parts} (got {quoted(value)})")
        return make(value)

    return read


_nothing = _exactly(NoneType, "null")


def _either(options: tuple[Any, ...]) -> Reader:
    if all(get_origin(option) is Literal for option in options):
        return _one_of(tuple(word for option in options for word in get_args(option)))
    readers = [_nothing if option is NoneType else _reader(option) for option in options]
    if len(readers) == 2 and _nothing in readers:
        (known,) = (reader for reader in readers if reader is not _nothing)
        return lambda value: None if value is None else known(value)

    def read(value: object) -> Any:
        for reader in readers:
            try:
                return reader(value)
            except Misfit as misfit:
                last = misfit
        raise last

    return read


_PLAIN = {kind: _reader(kind) for kind in (bool, int, float, str)} | {NoneType: _nothing}


@functools.cache
def shape(kind: type) -> Any:
    """Return the TypedDict of a dataclass or NamedTuple, named with "JSON" appended, nested ones included."""
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


def as_answer(kind: type, row: Any, **others: Any) -> Any:
    """Return a JSON object with the keys of a TypedDict, taken from attributes of the row or from `others`. A Range
    becomes an object, of whole numbers where the key ends in "_bytes"; tuples become lists."""
    names = kind.__annotations__
    return {name: _plain(name, others[name] if name in others else getattr(row, name)) for name in names}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Range):
        return value.whole_json() if name.endswith("_bytes") else value.as_json()
    return list(value) if type(value) is tuple else value
