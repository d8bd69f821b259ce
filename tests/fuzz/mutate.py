"""Broken input, made from valid input: what a hostile or a faulty writer sends. The same seed gives the same bytes.

A reader's cases start from a valid sample, so that they get past its first check. `json_bytes` breaks an object as JSON
(types, numbers, texts, depth, keys), `file_bytes` breaks bytes of any form, `zip_bytes` a zip with its members.
"""

import copy
import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from random import Random
from typing import Any

DEPTH = 5000
"""Levels of nesting that overflow the stack of a recursive reader."""
LONG = 20_000

NUMBERS = (
    *(0, -1, 1, 2, 7, 255, 2**31, 2**53 + 1, 2**63, -(2**63), 10**9, 10**15, 10**18, 10**300, 10**400, -(10**400)),
    *(0.0, -0.0, 0.5, 1e-300, 5e-324, 1e18, -1e18, 1e300, 1.7e308, float("nan"), float("inf"), float("-inf")),
)
_WORDS = """
../../../etc/passwd /etc/passwd ~/../etc/passwd ~nosuchuser/x .. . C:\\x file:///etc/passwd =1+1 @SUM(A1) {{7*7}} ${x}
%s%n (a+)+$ (a|a)*b ((((((a*)*)*)*)*)*)*b [ (?P<x> a{1,99999}{1,99999} (?=.*a.*b.*c)* nan inf 1e999 ٣ １６ ² r² e² 0x10
1_000 true null None -0 <script>alert(1)</script>
"""
TEXTS = (
    *("", " ", "\x00", "a\x00b", "\ud800", "x\udfffy", "\u202e", "\ufeff", "\n", "\r\n", "ß" * 300, "🤖" * 100),
    *(*_WORDS.split(), "'\"><img src=x onerror=alert(1)>", ".*" * 50, "r" + "9" * 5000, "e" + "9" * 400),
    *("A" * 300, "A" * 5000, "q_proj," * 2000),
)
OTHERS = (None, True, False, [], {}, [[]], {"": {}}, [None], [{}], {"a": [1, {"b": None}]})


def junk(rng: Random) -> Any:
    """A value that stands where another was expected."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 6:
        return rng.choice(TEXTS)
    if kind == 6:
        return copy.deepcopy(rng.choice(OTHERS))
    return [rng.choice(NUMBERS)] * rng.choice((1, 3, 300, LONG))


def value(sample: Any, rng: Random, changes: int = 0) -> Any:
    """The sample with one to three changes somewhere in it, as Python values. It may no longer be JSON."""
    root = [copy.deepcopy(sample)]
    for _ in range(changes or rng.choice((1, 1, 1, 2, 3))):
        holder, key = rng.choice(_places(root))
        _change(holder, key, rng)
    return root[0]


def json_bytes(sample: Any, rng: Random) -> bytes:
    """The sample as JSON text, broken: as a value, as text, or both. NaN, Infinity and lone surrogates are written
    as Python's json would, in escapes."""
    text = json.dumps(value(sample, rng) if rng.random() < 0.85 else sample)
    kind = rng.random()
    if kind < 0.7:
        return text.encode()
    if kind < 0.8:
        return _twisted(text, rng).encode("utf-8", "surrogatepass")
    return file_bytes(text.encode(), rng)


def json_lines(rows: list[Any], rng: Random) -> bytes:
    """One JSON object a line, some of them broken, some repeated, left out or in another order."""
    rows = list(rows)
    lines = [json.dumps(row).encode() for row in rows]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines)) if lines else 0
        kind = rng.randrange(7)
        if not lines or kind == 0:
            lines.insert(at, json_bytes(rng.choice(rows) if rows else {}, rng))
        elif kind < 4:
            lines[at] = json_bytes(rows[at % len(rows)] if rows else {}, rng)
        elif kind == 4 and len(lines[at]) < LONG:  # else the harness fills the memory, and not the reader
            lines[at : at + 1] = [lines[at]] * rng.choice((0, 2, 50))
        elif kind == 5:
            rng.shuffle(lines)
        else:
            lines[at] = _deep(rng).encode()
    ending = rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b"\x0b", b""))
    data = ending.join(lines) + rng.choice((b"\n", b"\n", b""))
    return data if rng.random() < 0.8 else file_bytes(data, rng)


def file_bytes(data: bytes, rng: Random) -> bytes:
    """The file cut, flipped, repeated, or with something else in it."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 2, 8, 64, 1000)))
        kind = rng.randrange(8)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end] * rng.choice((1, 2, 100))
        elif kind == 3:
            data[at:end] = rng.randbytes(end - at)
        elif kind == 4 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 5:
            data[at:at] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
        elif kind == 6:
            data[at:end] = rng.choice((b"\xff" * 8, b"\x00" * 8, b"\xff\xff\xff\x7f", b"\xef\xbb\xbf", b"\xc3", b"\r"))
        else:
            data[:0] = rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"PK\x03\x04", b"\x1f\x8b", b"PAR1"))
    return bytes(data[: 1 << 20])


def table(header: list[str], rows: list[list[Any]], rng: Random) -> bytes:
    """A CSV file with broken cells, header, quotes or rows."""
    header, rows = list(header), [list(row) for row in rows]
    for _ in range(rng.choice((1, 1, 2, 4))):
        row = rng.choice([header, *rows])
        kind = rng.randrange(6)
        if kind < 3 and row:
            row[rng.randrange(len(row))] = rng.choice((rng.choice(TEXTS), rng.choice(NUMBERS), ""))
        elif kind == 3 and row:
            row.pop()
        elif kind == 4:
            row.append(rng.choice(TEXTS))
        else:
            rows.extend([list(row)] * rng.choice((1, 30)))
    separator = rng.choice((",", ",", ",", ",", ";", "\t"))
    text = "\n".join(separator.join(_cell(cell, rng) for cell in row) for row in [header, *rows]) + "\n"
    data = text.encode("utf-8", "surrogatepass")
    return data if rng.random() < 0.8 else file_bytes(data, rng)


def zip_bytes(members: Mapping[str, bytes], rng: Random) -> bytes:
    """A zip of the members with other names, repeated or missing members, lying headers, or broken bytes.

    Break the members' contents before; here at most one of them becomes very compressible."""
    files = list(members.items())
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(len(files)) if files else 0
        kind = rng.randrange(6)
        if not files or kind == 0:
            files.append((_name(rng), rng.randbytes(20)))
        elif kind == 1:
            files[at] = (_name(rng), files[at][1])
        elif kind == 2:
            files.append(files[at])
        elif kind == 3:
            files.pop(at)
        elif kind == 4:
            files[at] = (files[at][0], b"0" * rng.choice((0, 10**5, 3 * 10**6)))
        else:
            files[at] = (files[at][0] + rng.choice(("/", "\\", "\x00", " ", "/..", ".json")), files[at][1])
    out, packing = io.BytesIO(), rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, data in files:
            info = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
            info.compress_type = archive.compression
            if rng.random() < 0.05:
                info.external_attr = 0o120777 << 16  # a symbolic link
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of names that come twice
                archive.writestr(info, data)
    data = out.getvalue()
    return data if rng.random() < 0.7 else file_bytes(data, rng)


def _places(root: list) -> list[tuple[Any, Any]]:
    """Every value of a tree, as what holds it and where."""
    places, waiting = [], [root]
    while waiting:
        holder = waiting.pop()
        for key in range(len(holder)) if isinstance(holder, list) else list(holder):
            places.append((holder, key))
            if isinstance(holder[key], list | dict):
                waiting.append(holder[key])
    return places


def _change(holder: Any, key: Any, rng: Random) -> None:
    old = holder[key]
    kind = rng.randrange(12)
    if kind < 6:
        holder[key] = junk(rng)
    elif kind == 6 and isinstance(holder, dict):
        del holder[key]
    elif kind == 7 and isinstance(holder, dict):
        holder[rng.choice((*TEXTS, "__class__", "event", "run_id"))] = junk(rng)
    elif kind == 8 and isinstance(holder, dict) and holder:
        holder[key] = copy.deepcopy(holder[rng.choice(list(holder))])
    elif kind == 9:
        holder[key] = (old[0] if old else None) if isinstance(old, list) else _repeated(old, rng)
    elif kind == 10 and isinstance(old, int | float | str) and not isinstance(old, bool):
        holder[key] = _near(old, rng)
    else:
        holder[key] = {"x": old} if rng.random() < 0.5 else str(old)


def _repeated(old: Any, rng: Random) -> list:
    """Copies, so that a later change is not in each; never more than makes a file larger than any reader takes."""
    size = len(_places([old]))
    return [copy.deepcopy(old) for _ in range(min(rng.choice((1, 2, 1000)), 1 + 2 * LONG // size))]


def _near(old: int | float | str, rng: Random) -> Any:
    if isinstance(old, str):
        other = rng.choice(TEXTS)
        return rng.choice((old + other, other + old, old[: len(old) // 2], old.upper(), old * 50))
    half = old + 0.5 if abs(old) < 1e300 else 0.1
    return rng.choice((-old, old + 1, old - 1, old * 10**6, old // 2, str(old), half))


def _twisted(text: str, rng: Random) -> str:
    """JSON text that a value cannot give: repeated keys, bare surrogates, huge numbers, trailing things, depth."""
    kind = rng.randrange(6)
    if kind == 0 and text.startswith("{") and '"' in text[1:]:
        key = text[1:].partition(":")[0]
        return "{" + f"{key}: {json.dumps(rng.choice(OTHERS))}, " + text[1:]
    if kind == 1:
        return text.replace('"', '"\ud800', 1) if rng.random() < 0.5 else text.replace(": ", ': "\\ud800", "x": ', 1)
    if kind == 2:
        return text.replace(": ", ": 1" + "0" * rng.choice((400, 5000)) + ', "x": ', 1)
    if kind == 3:
        return text + rng.choice(("}", "\x00", "{}", "//", ","))
    if kind == 4:
        return text.replace(": ", f': {_deep(rng)}, "x": ', 1)
    return text.replace("true", "True").replace("null", rng.choice(("NaN", "Infinity", "-Infinity", "nil")))


def _deep(rng: Random) -> str:
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    return opening * DEPTH + rng.choice((closing * DEPTH, "", "1" + closing * DEPTH))


_NAMES = "../x /x runs/../x runs/a/b/c runs/x/request.json a\\b runs//request.json ü.json"


def _name(rng: Random) -> str:
    return rng.choice((*_NAMES.split(), "x" * 300))


def _cell(cell: Any, rng: Random) -> str:
    text = str(cell)
    if rng.random() < 0.03:
        return '"' + text
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n;\t') else text
