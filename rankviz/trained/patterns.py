"""PEFT's patterns for module names (rank_pattern, alpha_pattern), matched in time that is bounded by their length."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rankviz.errors import BadAdapterError, quoted

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


MAX_PLACES = 10_000
"""Of one pattern, its repeats written out."""
MAX_STEPS = 2_000_000
"""Of all names and patterns of one adapter: seconds."""
STEPS_PER_PLACE = 20
"""What a place costs that has to be kept."""
REMEMBERED = 100_000
"""Places in the sets that are kept while names are matched."""
MAX_WRITTEN_OUT = 200_000
"""Characters of the names that one pattern stands for."""


class Shape(NamedTuple):
    """What patterns without operators have in common, so that those of a name are looked up at once."""

    length: int
    dots: tuple[int, ...]
    """Where "." stands, which is any character."""
    anchored: bool
    """Whether it must begin where the name does."""


class Patterns:
    """Patterns in their order, with what each stands for.

    BadAdapterError names the first one that is not read; and says so where they would take longer to match than those
    of any adapter do.
    """

    def __init__(self, values: Mapping[str, Any]):
        self._values, self._keys = values, tuple(values)
        self._plain: dict[Shape, dict[str, int]] = {}
        self._others: list[tuple[int, Pattern]] = []
        self._found: dict[str, str | None] = {}
        self._left = MAX_STEPS
        for order, key in enumerate(self._keys):
            names = _written_out(key.removeprefix("^"))
            self._spend(sum(map(len, names)) + 1)
            for name in names:
                dots = tuple(place for place, character in enumerate(name) if character == ".")
                shape = Shape(len(name), dots, key.startswith("^"))
                self._plain.setdefault(shape, {}).setdefault(name, order)
            if not names:
                self._others.append((order, self._read(key)))

    def _read(self, key: str) -> "Pattern":
        try:
            pattern = Pattern(key)
        except Unreadable as error:
            raise BadAdapterError(
                f"The pattern {quoted(key)} {error}. RankViz reads names and simple regular expressions."
            ) from None
        self._spend(STEPS_PER_PLACE * pattern.size)
        return pattern

    def get(self, name: str, default: Any) -> Any:
        """What the first pattern that matches stands for, else the default."""
        key = self.first(name)
        return default if key is None else self._values[key]

    def first(self, name: str) -> str | None:
        """The first pattern that matches the end of a name, from a dot or from its start."""
        if name not in self._found:
            self._found[name] = self._first(name)
        return self._found[name]

    def _first(self, name: str) -> str | None:
        self._spend(len(self._plain) + 1)
        orders = (self._looked_up(name, shape, known) for shape, known in self._plain.items())
        best = min((order for order in orders if order is not None), default=len(self._keys))
        for order, pattern in self._others:
            if order > best:
                break
            before = pattern.steps
            if pattern.matches(name):
                best = order
            self._spend(pattern.steps - before)
        return self._keys[best] if best < len(self._keys) else None

    def _looked_up(self, name: str, shape: Shape, known: Mapping[str, int]) -> int | None:
        start = len(name) - shape.length
        if start < 0 or (start and (shape.anchored or name[start - 1] != ".")):
            return None
        end = name[start:]
        if any(end[place] != "." for place in shape.dots):
            characters = list(end)
            for place in shape.dots:
                characters[place] = "."
            end = "".join(characters)
        return known.get(end)

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise BadAdapterError(
                "adapter_config.json has more patterns, or longer ones, than its modules need, so it is not read."
            )


def _written_out(key: str) -> Sequence[str]:
    """The names that a key without other operators stands for: "a.(0|3).b" is "a.0.b" and "a.3.b". None of others."""
    before, group, rest = key.partition("(")
    inside, closed, after = rest.partition(")")
    parts = [before, *inside.split("|"), after]
    if bool(group) != bool(closed) or (len(before) + len(after)) * len(parts) + len(inside) > MAX_WRITTEN_OUT:
        return ()
    if not all(map(_is_plain, parts)):
        return ()
    return [f"{before}{each}{after}" for each in inside.split("|")]


def _is_plain(text: str) -> bool:
    return all(each.isalnum() or each in "._-:/" for each in text)


class Place(NamedTuple):
    """One place of a pattern: what it does with the next character, and where that leads."""

    test: Test | str | None
    """A character, a test of it, "^" or "$" as places without one; None leads on as it is."""
    to: tuple[int, ...]
    anchor: bool = False


class Pattern:
    """One pattern, as the places that it can be at."""

    def __init__(self, text: str):
        self.steps = 0
        """Places that were gone through for all names."""
        self._kept = 0
        self._places: list[Place] = []
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        end = self._add(None, ())
        self._end = end
        inner = self._build(read_pattern(text), end)
        # (.*\.)? before it: stay on any character, or go on after a dot.
        dot = self._add(".", (inner,))
        stay = self._add(None, (dot,))
        more = self._add(any_character, (stay,))
        self._places[stay] = Place(None, (dot, more))
        self._start = self._add(None, (inner, stay))
        self._middle = self._reach((self._start,), at_start=True)

    @property
    def size(self) -> int:
        """Its places."""
        return len(self._places)

    def matches(self, name: str) -> bool:
        """Whether it matches from the start, or from after a dot, to the end of the name."""
        at = self._middle
        for place, character in enumerate(name):
            last = place == len(name) - 1
            at = self._after(at, character, last=last)
            if not at:
                return False
        if not name:
            at = self._reach((self._start,), at_start=True, at_end=True)
        return self._end in at

    def _after(self, at: frozenset[int], character: str, *, last: bool) -> frozenset[int]:
        key = (at, character if not last else character + "$")
        known = self._steps.get(key)
        self.steps += 1
        if known is None:
            places = (self._places[each] for each in at)
            to = [each for place in places if _takes(place, character) for each in place.to]
            known = self._reach(to, at_end=last)
            self.steps += len(at) + len(known)
            self._kept += len(at) + len(known)
            if self._kept > REMEMBERED:
                self._steps.clear()
                self._kept = len(at) + len(known)
            self._steps[key] = known
        return known

    def _reach(self, places: Iterable[int], *, at_start: bool = False, at_end: bool = False) -> frozenset[int]:
        """These places and those that they lead on to without a character."""
        reached, left = set(), list(places)
        while left:
            place = left.pop()
            if place in reached:
                continue
            reached.add(place)
            test, to, anchor = self._places[place]
            if test is None or (anchor and (at_start if test == "^" else at_end)):
                left.extend(to)
        return frozenset(reached)

    def _add(self, test: Test | str | None, to: tuple[int, ...], *, anchor: bool = False) -> int:
        if len(self._places) >= MAX_PLACES:
            raise Unreadable("is too long, its repeats written out")
        self._places.append(Place(test, to, anchor))
        return len(self._places) - 1

    def _build(self, part: Part, to: int) -> int:
        """The places of a part that goes on to `to`; where it begins."""
        kind, value = part
        if kind == "one":
            return self._add(value, (to,))
        if kind == "anchor":
            return self._add(value, (to,), anchor=True)
        if kind == "all":
            for each in reversed(value):
                to = self._build(each, to)
            return to
        if kind == "any of":
            return self._add(None, tuple(self._build(each, to) for each in value))
        repeated, least, most = value
        if most is None:
            again = self._add(None, ())
            self._places[again] = Place(None, (self._build(repeated, again), to))
            to = again
        else:
            for _ in range(most - least):
                to = self._add(None, (self._build(repeated, to), to))
        for _ in range(least):
            to = self._build(repeated, to)
        return to


def _takes(place: Place, character: str) -> bool:
    if place.test is None or place.anchor:
        return False
    return place.test == character if isinstance(place.test, str) else place.test(character)
