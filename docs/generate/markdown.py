"""Markdown pieces: tables, numbers, and the generated blocks of hand-written pages."""

import re
import textwrap
from collections.abc import Sequence

WIDTH = 120


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; pipes, and angle brackets outside code, are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _escaped(cell: str) -> str:
    text_and_code = cell.replace("|", "\\|").split("`")
    text_and_code[::2] = [text.replace("<", "&lt;") for text in text_and_code[::2]]
    return "`".join(text_and_code)


def replace_block(page: str, name: str, body: str) -> str:
    """The page with `body` between its markers <!-- generated: NAME --> and <!-- end: NAME -->."""
    start, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.S)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"The page needs the markers {start} and {end} once.")
    return pattern.sub(lambda _: f"{start}\n{body}\n{end}", page)


def filled(text: str) -> str:
    """The text with its plain paragraphs wrapped at WIDTH."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(each if each.startswith(("|", "#", "-", "*")) else _wrapped(each) for each in paragraphs)


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(" ".join(paragraph.split()), WIDTH, break_on_hyphens=False, break_long_words=False)


def percent(share: float, digits: int = 1) -> str:
    """0.0512 is 5.1 %."""
    return f"{100 * share:.{digits}f} %"


def signed_percent(share: float) -> str:
    """-0.0195 is −1.9 %."""
    return f"{100 * share:+.1f} %".replace("-", "−")


def signed_nats(difference: float | None) -> str:
    """A difference of losses; empty where there is none."""
    return "" if difference is None else f"{difference:+.3f}".replace("-", "−")
