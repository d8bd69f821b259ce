"""Makes small pieces of HTML: tables, figures in a row, lists. It escapes every text from outside.

gr.HTML puts its value into the page as it is, so nothing else in ui/ writes a text between tags by itself.
"""

import re
from collections.abc import Callable, Sequence
from html import escape as escaped
from typing import Any, NamedTuple

from rankviz.core.cost.estimate import FIT_WORDS

SPECIAL = re.compile("[&<>\"']")


def escape(text: str) -> str:
    """As the standard library does; most texts have nothing to be escaped."""
    return escaped(text) if SPECIAL.search(text) else text


class Cell(NamedTuple):
    """A table's cell, or another text with the exact value on hover (title). kind: "" a number, "left" a text, "narrow"
    and "wrap" a text that may break."""

    text: str
    title: str = ""
    kind: str = ""
    sub: "str | Cell" = ""
    """A second, quieter line: what was estimated, where `text` was measured."""
    edit: str = ""
    """What an edit of the text reports; then it stands in a box that `title` names."""
    href: str = ""
    """Where the text leads; only an https address becomes a link."""
    column: str = ""
    """What names the text where a phone shows the cells of a row one under the other."""


COMMAND = re.compile("`([^`]+)`")
NATS = "{:.4f}".format
"""How a loss is written."""
PER_TOKEN = "nats per token"


def rounded(text: Callable[[float], str], value: float | None, unit: str, *, sub: str | Cell = "") -> Cell:
    """A rounded number, the exact one on hover; a dash where there is none."""
    return Cell("–", sub=sub) if value is None else Cell(text(value), title=exact(value, unit), sub=sub)


def rounded_span(text: Callable[[Any], str], ends: Any, unit: str) -> Cell:
    """The same of a range with `low` and `high`; what `text` has for None where there is none."""
    return Cell(text(ends), title=exact_span(ends, unit) if ends else "")


def exact(value: float, unit: str = "") -> str:
    """1_644_167_168 -> "1,644,167,168 bytes"."""
    return f"{value:,.12g} {unit}".strip()


def exact_span(ends: Any, unit: str = "") -> str:
    """The same of a range with `low` and `high`."""
    return f"{exact(ends.low)} to {exact(ends.high, unit)}"


def tag(name: str, content: str | Cell, css: str = "") -> str:
    """An element that holds a text, with its exact value on hover."""
    cell = content if isinstance(content, Cell) else Cell(content)
    attributes = {"class": css, "title": cell.title}
    written = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items() if value)
    return f"<{name}{written}>{escape(cell.text)}</{name}>"


class Row(NamedTuple):
    cells: Sequence[Cell | str]
    pick: str = ""
    """What a click on the row reports; empty for a row without a choice."""
    chosen: bool = False
    ticks: Sequence[str] = ()
    """The ids that its box selects; none for a row without a box."""
    ticked: bool = False
    opened: bool | None = None
    """Whether the rows that it opens onto are shown; None for a row that opens onto none."""


def table(headers: Sequence[str], rows: Sequence[Row], *, label: str, left: int = 1) -> str:
    """A table that scrolls sideways inside its own box. left: so many first columns hold text."""
    ticking = any(row.ticks for row in rows)
    text = {i for row in rows[:1] for i, cell in enumerate(row.cells) if isinstance(cell, Cell) and cell.kind}
    head = ('<th class="rv-left"><span class="rv-unseen">Selected</span></th>' if ticking else "") + "".join(
        f'<th scope="col" class="{"rv-left" if i < left or i in text else ""}">{escape(h)}</th>'
        for i, h in enumerate(headers)
    )
    body = "".join(_row(row, left=left, ticking=ticking) for row in rows)
    return (
        f'<div class="rv-table-box" tabindex="0" role="region" aria-label="{escape(label)}"><table class="rv-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Row, *, left: int, ticking: bool) -> str:
    parts = []
    if ticking:
        box = (
            f'<input type="checkbox" data-tick="{escape(" ".join(row.ticks))}" '
            f'aria-label="Show {escape(_text(row.cells[0]))}"{" checked" if row.ticked else ""}>'
        )
        parts.append(f'<td class="rv-left">{box}</td>')
    for i, cell in enumerate(row.cells):
        text, title, kind, sub, edit, href, column = cell if isinstance(cell, Cell) else Cell(cell)
        text, title = escape(text), escape(title)
        if href.startswith("https://"):
            text = f'<a href="{escape(href)}" target="_blank" rel="noopener">{text}</a>'
        if edit:
            text = (
                f'<input class="rv-edit" inputmode="decimal" data-edit="{escape(edit)}" value="{text}" '
                f'aria-label="{title}">'
            )
        if row.pick and i == 0:
            state = ' aria-pressed="true"' if row.chosen else ""
            if row.opened is not None:
                state = f' aria-expanded="{str(row.opened).lower()}"'
            text = f'<button type="button"{state}>{text}</button>'
        if sub:
            text += tag("span", sub, "rv-under")
        classes = ("rv-left " if i < left or kind else "") + (f"rv-{kind}" if kind else "")
        hover = f' title="{title}"' if title else ""
        named = f' data-column="{escape(column)}"' if column else ""
        parts.append(f'<td class="{classes}"{hover}{named}>{text}</td>')
    pick = f' data-pick="{escape(row.pick)}"' if row.pick else ""
    return f'<tr class="{"rv-chosen" if row.chosen else ""}"{pick}>{"".join(parts)}</tr>'


def _text(cell: Cell | str) -> str:
    return cell.text if isinstance(cell, Cell) else cell


class Figure(NamedTuple):
    """One number of a row of them."""

    name: str
    value: str | Cell
    sub: str | Cell = ""


FIT_MARKS = {"fits": "✓", "tight": "✓", "uncertain": "?", "does_not_fit": "✕"}
FITS = {fit: f"{FIT_MARKS[fit]} {words}" for fit, words in FIT_WORDS.items()}


def figures(row: Sequence[Figure]) -> str:
    return '<div class="rv-figures">' + "".join(_figure(f) for f in row) + "</div>"


def _figure(f: Figure) -> str:
    values = tag("div", f.value, "rv-value") + tag("div", f.sub, "rv-sub")
    return f'<div class="rv-figure"><h2>{escape(f.name)}</h2>{values}</div>'


def named_values(pairs: Sequence[tuple[str, str | Cell]]) -> str:
    """Names on the left, values on the right, a small line for each."""
    rows = "".join(f"<dt>{escape(name)}</dt>{tag('dd', value)}" for name, value in pairs)
    return f'<dl class="rv-steps">{rows}</dl>'


def titled(title: str, body: str) -> str:
    """A small heading over markup of this module."""
    return f'<h3 class="rv-section">{escape(title)}</h3>{body}'


def folded(summary: str, body: str, *, is_open: bool = False, name: str = "") -> str:
    """A sentence that opens onto markup of this module. name: of one whose words change, so that it stays open."""
    attributes = (f' data-fold="{escape(name)}"' if name else "") + (" open" if is_open else "")
    return f'<details class="rv-details"{attributes}><summary>{escape(summary)}</summary>{body}</details>'


def fit_chip(fit: str | None) -> str:
    return f'<span class="rv-fit rv-fit-{escape(fit)}">{FITS[fit]}</span>' if fit in FITS else ""


def prose(text: str) -> str:
    """A sentence of RankViz's, with `commands` as code."""
    return COMMAND.sub(r"<code>\1</code>", escape(text))


def paragraphs(*sentences: str | Cell, css: str = "rv-caption") -> str:
    shown = (tag("p", each) if isinstance(each, Cell) else f"<p>{prose(each)}</p>" for each in sentences if each)
    return f'<div class="{css}">{"".join(shown)}</div>'


def bullet_list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


def progress(share: float | None, *, label: str) -> str:
    """A bar from 0 to 1, or a pulsing one where the share is not known."""
    if share is None:
        return f'<div class="rv-progress rv-unknown" role="progressbar" aria-label="{escape(label)}"><div></div></div>'
    percent = max(0.0, min(1.0, share)) * 100
    return (
        f'<div class="rv-progress" role="progressbar" aria-label="{escape(label)}" aria-valuemin="0" '
        f'aria-valuemax="100" '
        f'aria-valuenow="{percent:.0f}"><div style="width:{percent:.1f}%"></div></div>'
    )


def stats(pairs: Sequence[tuple[str, str | Cell]]) -> str:
    """Names and values side by side."""
    rows = "".join(f"<div><dt>{escape(name)}</dt>{tag('dd', value)}</div>" for name, value in pairs)
    return f'<dl class="rv-stats">{rows}</dl>'


def preformatted(text: str, *, title: str) -> str:
    return f'<div class="rv-code"><h2>{escape(title)}</h2><pre tabindex="0">{escape(text)}</pre></div>'
