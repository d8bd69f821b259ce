"""Makes small pieces of HTML: tables, figures in a row, lists, notices. It escapes every text from outside.

gr.HTML puts its value into the page as it is, so nothing else in ui/ writes a text between tags without `escape`.
"""

import re
from collections.abc import Callable, Sequence
from html import escape as escaped
from typing import Any, NamedTuple

from rankviz.core.cost.estimate import FIT_WORDS
from rankviz.paths import ASSETS

SPECIAL = re.compile("[&<>\"']")
COMMAND = re.compile("`([^`]+)`")
NATS = "{:.4f}".format
"""How a loss is written."""
PER_TOKEN = "nats per token"
FIT_MARKS = {"fits": "✓", "tight": "✓", "uncertain": "?", "does_not_fit": "✕"}
FITS = {fit: f"{FIT_MARKS[fit]} {words}" for fit, words in FIT_WORDS.items()}


def escape(text: str) -> str:
    """As the standard library does; most texts have nothing to be escaped."""
    return escaped(text) if SPECIAL.search(text) else text


def markup(name: str) -> str:
    """A template of assets/html, for `format`."""
    return (ASSETS / "html" / f"{name}.html").read_text(encoding="utf-8").strip()


class Cell(NamedTuple):
    """A table's cell, or another text with the exact value on hover (title). kind: "" a number, "left" a text, "narrow"
    and "wrap" a text that may break."""

    text: str
    title: str = ""
    kind: str = ""
    sub: "str | Cell" = ""
    """A second, quieter line: what was estimated, where `text` was measured."""
    href: str = ""
    """Where the text leads; only an https address becomes a link."""
    column: str = ""
    """What names the text where a phone shows the cells of a row one under the other."""


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


class NamedNumber(NamedTuple):
    """One number of a row of them."""

    name: str
    value: str | Cell
    sub: str | Cell = ""


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


def table(headers: Sequence[str], rows: Sequence[Row | Sequence[Cell | str]], *, label: str, left: int = 1) -> str:
    """A table that scrolls sideways inside its own box. left: so many first columns hold text."""
    rows = [row if isinstance(row, Row) else Row(row) for row in rows]
    ticking = any(row.ticks for row in rows)
    text = {i for row in rows[:1] for i, cell in enumerate(row.cells) if isinstance(cell, Cell) and cell.kind}
    head = ('<th class="rv-left"><span class="rv-unseen">Selected</span></th>' if ticking else "") + "".join(
        f'<th scope="col" class="{"rv-left" if i < left or i in text else ""}">{escape(h)}</th>'
        for i, h in enumerate(headers)
    )
    body = "".join(_row(row, left, ticking) for row in rows)
    return (
        f'<div class="rv-table-box" tabindex="0" role="region" aria-label="{escape(label)}"><table class="rv-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Row, left: int, ticking: bool) -> str:
    cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row.cells]
    parts = []
    if ticking:
        parts.append(
            f'<td class="rv-left"><input type="checkbox" data-tick="{escape(" ".join(row.ticks))}" '
            f'aria-label="Show {escape(cells[0].text)}"{" checked" if row.ticked else ""}></td>'
        )
    for i, (text, title, kind, sub, href, column) in enumerate(cells):
        text, title = escape(text), escape(title)
        if href.startswith("https://"):
            text = link(text, href)
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


def link(text: str, url: str) -> str:
    """Markup as a link to another site."""
    return f'<a href="{escape(url)}" target="_blank" rel="noopener">{text}</a>'


def figures(row: Sequence[NamedNumber]) -> str:
    """Numbers in a row, each with its name."""
    each = (
        f'<div class="rv-figure"><h2>{escape(f.name)}</h2>{tag("div", f.value, "rv-value")}'
        f"{tag('div', f.sub, 'rv-sub')}</div>"
        for f in row
    )
    return f'<div class="rv-figures">{"".join(each)}</div>'


def named_values(pairs: Sequence[tuple[str, str | Cell]], css: str = "rv-steps") -> str:
    """Names on the left, values on the right, a small line for each."""
    rows = "".join(f"<dt>{escape(name)}</dt>{tag('dd', value)}" for name, value in pairs)
    return f'<dl class="{css}">{rows}</dl>'


def stats(pairs: Sequence[tuple[str, str | Cell]]) -> str:
    """Names and values side by side."""
    rows = "".join(f"<div><dt>{escape(name)}</dt>{tag('dd', value)}</div>" for name, value in pairs)
    return f'<dl class="rv-stats">{rows}</dl>'


def titled(title: str, body: str) -> str:
    """A small heading over markup of this module."""
    return f'<h3 class="rv-section">{escape(title)}</h3>{body}'


def folded(summary: str, body: str, *, is_open: bool = False, name: str = "") -> str:
    """A sentence that opens onto markup of this module. name: of one whose words change, so that it stays open."""
    attributes = (f' data-fold="{escape(name)}"' if name else "") + (" open" if is_open else "")
    return f'<details class="rv-details"{attributes}><summary>{escape(summary)}</summary>{body}</details>'


def verdict(body: str) -> str:
    return f'<div class="rv-verdict">{body}</div>'


def fit_chip(fit: str | None) -> str:
    return f'<span class="rv-fit rv-fit-{escape(fit)}">{FITS[fit]}</span>' if fit in FITS else ""


def prose(text: str) -> str:
    """A sentence of RankViz's, with `commands` as code."""
    return COMMAND.sub(r"<code>\1</code>", escape(text))


def notice_html(*sentences: str, kind: str = "note") -> str:
    """Sentences in a quiet box; nothing for no sentence. kind: note or error."""
    text = "".join(f"<p>{prose(sentence)}</p>" for sentence in sentences if sentence)
    role = "alert" if kind == "error" else "status"
    return f'<div class="rv-notice rv-{kind}" role="{role}">{text}</div>' if text else ""


def paragraphs(*sentences: str | Cell, css: str = "rv-caption") -> str:
    shown = (tag("p", each) if isinstance(each, Cell) else f"<p>{prose(each)}</p>" for each in sentences if each)
    return f'<div class="{css}">{"".join(shown)}</div>'


def empty(*sentences: str) -> str:
    """What stands where there is nothing to show yet."""
    return paragraphs(*sentences, css="rv-empty")


def headlined(sentences: Sequence[str]) -> str:
    """The first sentence large, the others under it."""
    return paragraphs(sentences[0], css="rv-headline") + bullet_list(sentences[1:])


def bullet_list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


def progress(share: float | None, *, label: str) -> str:
    """A bar from 0 to 1, or a pulsing one where the share is not known."""
    if share is None:
        return f'<div class="rv-progress rv-unknown" role="progressbar" aria-label="{escape(label)}"><div></div></div>'
    percent = max(0.0, min(1.0, share)) * 100
    return (
        f'<div class="rv-progress" role="progressbar" aria-label="{escape(label)}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent:.0f}"><div style="width:{percent:.1f}%"></div></div>'
    )


def code_html(
    code: str, *, title: str, file_name: str = "", caption: str = "", tools: str = "", folded: str = ""
) -> str:
    """A text with buttons that copy and save the whole of it, for controls.copyable.

    file_name: under which it is saved; without one it can only be copied. caption, tools: markup under the title and
    before the buttons. folded: what opens the text, which then starts closed.
    """
    save = '<button type="button" data-do="save">Download</button>' if file_name else ""
    shown = f'<pre tabindex="0">{escape(code)}</pre>'
    return (
        f'<div class="rv-code" data-name="{escape(file_name)}"><div class="rv-code-top"><h2>{escape(title)}</h2>'
        f'<span class="rv-tools">{tools}{save}<button type="button" data-do="copy">Copy</button></span></div>{caption}'
        + (f"<details><summary>{escape(folded)}</summary>{shown}</details></div>" if folded else f"{shown}</div>")
    )
