"""Finds rounded quantities in a page's HTML, and whether the exact value of each is on hover."""

import re
from html.parser import HTMLParser

UNITS = {
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30,
    "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12,
    "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "days": 86400,
}  # fmt: skip
NUMBER = r"\d[\d,]*(?:\.\d+)?"
_UNIT = "|".join(sorted(UNITS, key=len, reverse=True))
_HOURS = re.compile(r"\b(\d+) h (\d+) min\b")
_QUANTITY = re.compile(rf"(?<![\w.])({NUMBER})(?: – ({NUMBER}))? ({_UNIT})\b")
_MONEY = re.compile(rf"\$({NUMBER})(?: – ({NUMBER}))?")
_LOSS = re.compile(r"(?<![\w.$])(\d+\.\d{3,})(?![\d%])")
_EXACT = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
AS_WRITTEN = ("Learning rate",)
"""Columns and definitions whose numbers are not rounded."""
PEAK = "Peak: "
"""How a sentence about the peak of memory begins."""
VOID = ("input", "br", "img", "hr", "wbr")


def unexplained(markup: str) -> list[str]:
    """Rounded quantities of cells, values and captions without an exact value that rounds to them, as "text [title]".

    Not looked at: sentences, which come from the core as text (they end with a full stop, or say how a peak moves).
    """
    walker = _Walker()
    walker.feed(markup)
    return [f"{text} [{title}]" for text, title in walker.texts if not _explained(text, title)]


class _Walker(HTMLParser):
    """(text, nearest title) of each text inside a table's cell, a definition or a figure."""

    def __init__(self):
        super().__init__()
        self.texts, self._open, self._headers, self._column, self._term = [], [], [], -1, ""

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "table":
            self._headers = []
        if tag == "tr":
            self._column = -1
        if tag in ("td", "th"):
            self._column += 1
        if tag not in VOID:
            self._open.append((tag, given.get("title", ""), given.get("class") or ""))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tags = [tag for tag, _, _ in self._open]
        if "th" in tags and "thead" in tags:
            self._headers.append(data)
        if tags[-1:] == ["dt"]:
            self._term = data
        css = " ".join(css for _, _, css in self._open)
        looked_at = {"td", "dd"} & set(tags) or "rv-value" in css or "rv-sub" in css
        header = self._headers[self._column] if "td" in tags and 0 <= self._column < len(self._headers) else ""
        header = self._term if "dd" in tags else header
        prose = "rv-how" in css or "rv-wrap" in css or data.startswith(PEAK) or data.rstrip().endswith(".")
        if looked_at and not prose and header not in AS_WRITTEN:
            self.texts.append((data, next((title for _, title, _ in reversed(self._open) if title), "")))


def _explained(text: str, title: str) -> bool:
    known = [float(found.replace(",", "")) for found in _EXACT.findall(title)]
    return all(any(abs(each - value) <= within * 1.001 for each in known) for value, within in quantities(text))


def quantities(text: str) -> list[tuple[float, float]]:
    """(value in base units, half of its last digit) of each rounded quantity."""
    found = [(60.0 * (60 * int(h) + int(m)), 30.0) for h, m in _HOURS.findall(text)]
    rest = _HOURS.sub("", text)
    for low, high, unit in _QUANTITY.findall(rest):
        found += [_value(each, UNITS[unit]) for each in (low, high) if each]
    rest = _QUANTITY.sub("", rest)
    found += [_value(each, 1) for pair in _MONEY.findall(rest) for each in pair if each]
    return found + [_value(each, 1) for each in _LOSS.findall(_MONEY.sub("", rest))]


def _value(text: str, factor: float) -> tuple[float, float]:
    digits = len(text.partition(".")[2])
    return float(text.replace(",", "")) * factor, factor * 10.0**-digits * (1.0 if text == "0.01" else 0.5)
