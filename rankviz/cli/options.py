"""Options and arguments as commands declare them, and a reader for plain command lines that does not need Typer.

Importing Typer, and the pydantic that it reads values with, takes longer than an estimate does. So a command declares
its options here, `Commands` in commands.py makes Typer's of them, and `read` answers where nothing special is asked.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, NamedTuple, get_args

NUMBERS = {int: re.compile(r"\d{1,15}"), float: re.compile(r"\d{1,15}(\.\d{1,15})?")}


class Declared(NamedTuple):
    """An option or an argument, with what Typer's Option or Argument takes."""

    kind: str
    names: tuple[str, ...]
    more: dict[str, Any]


def Option(*names: str, **more: Any) -> Declared:
    return Declared("Option", names, more)


def Argument(**more: Any) -> Declared:
    return Declared("Argument", (), more)


def declared(parameter: inspect.Parameter) -> Declared | None:
    """How a parameter is declared here; None if it is Typer's or plain."""
    found = [each for each in getattr(parameter.annotation, "__metadata__", ()) if isinstance(each, Declared)]
    return found[0] if found else None


def read(command: Callable[..., None], words: Sequence[str]) -> dict[str, Any] | None:
    """The command's arguments; None where Typer must look at them: for help, for files, and for whatever is wrong."""
    parameters = inspect.signature(command).parameters
    values = {name: parameter.default for name, parameter in parameters.items()}
    places = [name for name, parameter in parameters.items() if _is_argument(parameter)]
    by_word = {word: (name, value) for name, parameter in parameters.items() for word, value in _words(name, parameter)}
    given: set[str] = set()
    rest = iter(words)
    for word in rest:
        word, equals, after = word.partition("=") if word.startswith("--") else (word, "", "")
        name, value = by_word.get(word, (None, None))
        if name is None and places and not word.startswith("-"):
            name, value = places.pop(0), word
        elif name is None or (value is not None and equals):
            return None
        elif value is None:
            value = _value(after if equals else next(rest, ""), parameters[name])
        is_list = _type(parameters[name]) == list[int]
        if value is None or (name in given and not is_list):
            return None
        values[name] = [*(values[name] or ()), value] if is_list else value
        given.add(name)
    return None if places or inspect.Parameter.empty in values.values() else values


def _is_argument(parameter: inspect.Parameter) -> bool:
    option = declared(parameter)
    return option is not None and option.kind == "Argument"


def _words(name: str, parameter: inspect.Parameter) -> list[tuple[str, bool | None]]:
    """What one may write for an option, each with its value; None where the value is the next word."""
    option = declared(parameter)
    if option is None or option.kind == "Argument":
        return []
    usual = name.replace("_", "-")
    if _type(parameter) is not bool:
        return [(word, None) for word in option.names or (f"--{usual}",)]
    if option.names:
        return [(word, True) for word in option.names]
    return [(f"--{usual}", True), (f"--no-{usual}", False)]


def _type(parameter: inspect.Parameter) -> Any:
    """What its values are, without the None of an optional one."""
    annotation = get_args(parameter.annotation)[0]
    if not isinstance(annotation, UnionType):
        return annotation
    return next(each for each in get_args(annotation) if each is not type(None))


def _value(text: str, parameter: inspect.Parameter) -> Any:
    """The text as the parameter's type, if it surely is one."""
    wanted = int if _type(parameter) == list[int] else _type(parameter)
    if wanted is str:
        return text if text and not text.startswith("-") else None
    return wanted(text) if wanted in NUMBERS and NUMBERS[wanted].fullmatch(text) else None
