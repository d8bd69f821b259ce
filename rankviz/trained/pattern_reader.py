"""Reads a regular expression for module names into parts, as far as patterns.py follows them.

Read are characters, ".", escapes, [classes], groups with "|", "*", "+", "?", "{2,3}", "^" and "$", as Python's re has
them. Look-arounds, back references, flags, names of groups, word boundaries, and possessive and atomic parts are not.
"""

from collections.abc import Callable
from typing import Any

MAX_LENGTH = 20_000
"""Characters of one pattern."""
MAX_REPEAT = 1000
MAX_DEPTH = 50
CLASSES: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "w": lambda c: c.isalnum() or c == "_",
    "s": str.isspace,
    "D": lambda c: not c.isdecimal(),
    "W": lambda c: not (c.isalnum() or c == "_"),
    "S": lambda c: not c.isspace(),
}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}

Test = Callable[[str], bool]
Part = tuple[str, Any]
"""("one", a character or a Test), ("anchor", "^" or "$"), ("all", parts), ("any of", parts), or
("repeat", (part, least, most or None))."""


class Unreadable(ValueError):
    """Why a pattern is not read."""


def read_pattern(text: str) -> Part:
    """The whole pattern as one part."""
    if len(text) > MAX_LENGTH:
        raise Unreadable(f"has {len(text):,} characters, more than {MAX_LENGTH:,}")
    return _Reader(text).whole()


def any_character(character: str) -> bool:
    """What "." matches."""
    return character != "\n"


class _Reader:
    def __init__(self, text: str):
        self._text, self._at, self._depth = text, 0, 0

    def whole(self) -> Part:
        part = self._choice()
        if self._at < len(self._text):
            raise Unreadable("has a parenthesis that opens nowhere")
        return part

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        self._at += 1
        if self._at > len(self._text):
            raise Unreadable("ends too early")
        return self._text[self._at - 1]

    def _choice(self) -> Part:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable("is nested too deep")
        choices = [self._sequence()]
        while self._peek() == "|":
            self._take()
            choices.append(self._sequence())
        self._depth -= 1
        return choices[0] if len(choices) == 1 else ("any of", tuple(choices))

    def _sequence(self) -> Part:
        parts = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated())
        return "all", tuple(parts)

    def _repeated(self) -> Part:
        part = self._one()
        if (times := self._times()) is None:
            return part
        if part[0] == "anchor":
            raise Unreadable(f"repeats {part[1]}")
        if self._peek() == "?":  # as few as possible: matched in full, that is the same
            self._take()
        elif self._peek() == "+":
            raise Unreadable("has a possessive repeat")
        if self._times() is not None:
            raise Unreadable("repeats a repeat")
        return "repeat", (part, *times)

    def _times(self) -> tuple[int, int | None] | None:
        """The repeat that follows, which is consumed; None where none does."""
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._peek())
        if simple:
            self._take()
            return simple
        if self._peek() != "{":
            return None
        inside, closed, _ = self._text[self._at + 1 :].partition("}")
        least, comma, most = inside.partition(",")
        if not closed or not (least or comma) or not all(n.isascii() and n.isdigit() for n in (least, most) if n):
            return None  # a brace like any other character
        if len(inside) > 9 or max(int(least or 0), int(most or 0)) > MAX_REPEAT:
            raise Unreadable(f"repeats a part more than {MAX_REPEAT:,} times")
        self._at += len(inside) + 2
        low = int(least or 0)
        high = (int(most) if most else None) if comma else low
        if high is not None and high < low:
            raise Unreadable("has a repeat whose end is below its start")
        return low, high

    def _one(self) -> Part:
        character = self._take()
        match character:
            case "(":
                return self._group()
            case "[":
                return "one", self._class()
            case ".":
                return "one", any_character
            case "^" | "$":
                return "anchor", character
            case "\\":
                return "one", self._escape()
            case "*" | "+" | "?":
                raise Unreadable("repeats nothing")
            case "{" if self._is_repeat_here():
                raise Unreadable("repeats nothing")
        return "one", character

    def _is_repeat_here(self) -> bool:
        self._at -= 1
        times = self._times()
        if times is None:
            self._at += 1
        return times is not None

    def _group(self) -> Part:
        if self._peek() == "?":
            self._take()
            if self._take() != ":":
                raise Unreadable("has a group of another kind than ( ) and (?: )")
        part = self._choice()
        if self._take() != ")":
            raise Unreadable("has a parenthesis that is not closed")
        return part

    def _escape(self) -> str | Test:
        character = self._take()
        if character in CLASSES:
            return CLASSES[character]
        if character in ESCAPES:
            return ESCAPES[character]
        if character.isascii() and character.isalnum():
            raise Unreadable(f"has \\{character}")
        return character

    def _class(self) -> Test:
        negated = self._peek() == "^"
        if negated:
            self._take()
        tests: list[Test] = []
        first = True
        while first or self._peek() != "]":
            first = False
            low = self._member()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._take()
                high = self._member()
                if not (isinstance(low, str) and isinstance(high, str) and low <= high):
                    raise Unreadable("has a range that is none")
                tests.append(lambda c, low=low, high=high: low <= c <= high)
            else:
                tests.append(low.__eq__ if isinstance(low, str) else low)
        self._take()
        return lambda c: any(test(c) for test in tests) != negated

    def _member(self) -> str | Test:
        character = self._take()
        if character == "\\":
            return self._escape()
        if character in "[&~|" and self._peek() == character:
            raise Unreadable("has a set operation in a class")
        return character
