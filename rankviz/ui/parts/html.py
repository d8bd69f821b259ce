"""Small pieces of HTML: tables, rows of numbers, lists, notices. Every text from outside is escaped here.

gr.HTML puts its value into the page unchanged, so no other module of ui/ writes a text between tags without `escape`.
"""

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

from rankviz.core.cost.estimate import FIT_WORDS
from rankviz.paths import ASSETS

COMMAND = re.compile("`([^`]+)`")
NATS = "{:.4f}".format
PER_TOKEN = "nats per token"
FIT_MARKS = {"fits": "✓", "tight": "✓", "uncertain": "?", "does_not_fit": "✕"}
FITS = {fit: f"{FIT_MARKS[fit]} {words}" for fit, words in FIT_WORDS.items()}
FEW_COLUMNS = 4
"""Most columns of numbers that stand side by side on a phone."""
MANY_LINES = 30
"""A longer text of code is folded."""


def markup(name: str) -> str:
    """Return a template of assets/html, whose places are filled by `format`."""
    return (ASSETS / "html" / f"{name}.html").read_text(encoding="utf-8").strip()


class Cell(NamedTuple):
    """Text of a table cell or another element, with the exact value on hover (title). kind: "" for a number, "left"
    for text, "narrow" and "wrap" for text that may break."""

    text: str
    title: str = ""
    kind: str = ""
    sub: "str | Cell" = ""
    """Second, quieter line, such as the estimate below a measured value."""
    href: str = ""
    """Link target of the text; only an https address becomes a link."""


class Row(NamedTuple):
    cells: Sequence[Cell | str]
    pick: str = ""
    """Value that a click on the row reports; empty for a row that cannot be clicked."""
    chosen: bool = False
    ticks: Sequence[str] = ()
    """Ids that the row's checkbox selects; empty for a row without a checkbox."""
    ticked: bool = False


def rounded(text: Callable[[float], str], value: float | None, unit: str, *, sub: str | Cell = "") -> Cell:
    """Return a rounded number with the exact value on hover; a dash for None. unit: for the exact value."""
    return Cell("–", sub=sub) if value is None else Cell(text(value), title=exact(value, unit), sub=sub)


def rounded_span(text: Callable[[Any], str], ends: Any, unit: str) -> Cell:
    """Return a range with `low` and `high`, with the exact ends on hover; `text` also gives the words for None."""
    return Cell(text(ends), title=exact_span(ends, unit) if ends else "")


def exact(value: float, unit: str = "") -> str:
    """Return 1_644_167_168 as "1,644,167,168 bytes"."""
    return f"{value:,.12g} {unit}".strip()


def exact_span(ends: Any, unit: str = "") -> str:
    """Return the exact ends of a range with `low` and `high`: "1 to 2 bytes"."""
    return f"{exact(ends.low)} to {exact(ends.high, unit)}"


def tag(name: str, content: str | Cell, css: str = "") -> str:
    """Return an HTML element with a text, whose exact value is shown on hover."""
    cell = content if isinstance(content, Cell) else Cell(content)
    attributes = {"class": css, "title": cell.title}
    written = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items() if value)
    return f"<{name}{written}>{prose(cell.text)}</{name}>"


def table(headers: Sequence[str], rows: Sequence[Row | Sequence[Cell | str]], *, label: str, left: int = 1) -> str:
    """Return a table; where it has no room, its rows are stacked if it has many columns or long texts (tables.css).
    left: this many columns at the left hold text."""
    rows = [row if isinstance(row, Row) else Row(row) for row in rows]
    ticking = any(row.ticks for row in rows)
    kinds = {i: cell.kind for row in rows[:1] for i, cell in enumerate(row.cells) if isinstance(cell, Cell)}
    text = {i for i, kind in kinds.items() if kind}
    stack = " rv-stack" if len(headers) > (2 if "wrap" in kinds.values() else FEW_COLUMNS) else ""
    head = ('<th class="rv-left"><span class="rv-unseen">Selected</span></th>' if ticking else "") + "".join(
        f'<th scope="col" class="{"rv-left" if i < left or i in text else ""}">{escape(h)}</th>'
        for i, h in enumerate(headers)
    )
    body = "".join(_row(row, left, ticking, headers) for row in rows)
    return (
        f'<div class="rv-table-box" role="region" aria-label="{escape(label)}"><table class="rv-table{stack}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Row, left: int, ticking: bool, headers: Sequence[str]) -> str:
    cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row.cells]
    parts = []
    if ticking:
        parts.append(
            f'<td class="rv-left"><input type="checkbox" data-tick="{escape(" ".join(row.ticks))}" '
            f'aria-label="Show {escape(cells[0].text)}"{" checked" if row.ticked else ""}></td>'
        )
    for i, (text, title, kind, sub, href) in enumerate(cells):
        text, title = escape(text), escape(title)
        if href.startswith("https://"):
            text = link(text, href)
        if row.pick and i == 0:
            state = ' aria-pressed="true"' if row.chosen else ""
            text = f'<button type="button"{state}>{text}</button>'
        if sub:
            text += tag("span", sub, "rv-under")
        classes = ("rv-left " if i < left or kind else "") + (f"rv-{kind}" if kind else "")
        hover = f' title="{title}"' if title else ""
        parts.append(f'<td class="{classes}"{hover} data-column="{escape(headers[i])}">{text}</td>')
    pick = f' data-pick="{escape(row.pick)}"' if row.pick else ""
    return f'<tr class="{"rv-chosen" if row.chosen else ""}"{pick}>{"".join(parts)}</tr>'


def link(text: str, url: str) -> str:
    """Return a link to another site as HTML."""
    return f'<a href="{escape(url)}" target="_blank" rel="noopener">{text}</a>'


def figures(row: Sequence[tuple[str, str | Cell, str | Cell]]) -> str:
    """Return numbers side by side, each with its name above and a remark below."""
    each = (
        f'<div class="rv-figure"><h2>{escape(name)}</h2>{tag("div", value, "rv-value")}'
        f"{tag('div', sub, 'rv-sub')}</div>"
        for name, value, sub in row
    )
    return f'<div class="rv-figures">{"".join(each)}</div>'


def named_values(pairs: Sequence[tuple[str, str | Cell]], css: str = "rv-steps") -> str:
    """Return names with their values: a line each, or side by side for the class "rv-stats"."""
    rows = (f"<dt>{escape(name)}</dt>{tag('dd', value)}" for name, value in pairs)
    each = "<div>{}</div>" if css == "rv-stats" else "{}"
    return f'<dl class="{css}">{"".join(each.format(row) for row in rows)}</dl>'


def titled(title: str, body: str) -> str:
    """Return a small heading above markup of this module."""
    return f'<h3 class="rv-section">{escape(title)}</h3>{body}'


def folded(summary: str, body: str, *, is_open: bool = False, name: str = "") -> str:
    """Return markup that is folded under a sentence; a click on the sentence shows it. name: identifies the fold, which
    stays open when its sentence changes."""
    attributes = (f' data-fold="{escape(name)}"' if name else "") + (" open" if is_open else "")
    return f'<details class="rv-details"{attributes}><summary>{escape(summary)}</summary>{body}</details>'


def verdict(body: str) -> str:
    return f'<div class="rv-verdict">{body}</div>'


def prose(text: str) -> str:
    """Return a sentence of RankViz as HTML, with `commands` as code."""
    return COMMAND.sub(r"<code>\1</code>", escape(text))


def notice_html(*sentences: str, kind: str = "note", models: Sequence[str] = ()) -> str:
    """Return sentences in a quiet box; empty without sentences. kind: note or error. models: names to choose from."""
    text = "".join(f"<p>{prose(sentence)}</p>" for sentence in sentences if sentence)
    text += model_buttons([(name, "") for name in models])
    role = "alert" if kind == "error" else "status"
    return f'<div class="rv-notice rv-{kind}" role="{role}">{text}</div>' if text else ""


def model_buttons(models: Sequence[tuple[str, str]], role: str = "") -> str:
    """Return buttons that put a model's name into its box. models: (name, size) of each. role: in a list."""
    looks = f'type="button" class="rv-button"{f" role={role} tabindex=-1" if role else ""}'
    return "".join(
        f'<button {looks} id="match-{at}" data-model="{escape(name)}">{escape(name)} {tag("span", size)}</button>'
        for at, (name, size) in enumerate(models)
    )


def paragraphs(*sentences: str | Cell, css: str = "rv-caption") -> str:
    shown = (tag("p", each) if isinstance(each, Cell) else f"<p>{prose(each)}</p>" for each in sentences if each)
    return f'<div class="{css}">{"".join(shown)}</div>'


def empty(*sentences: str) -> str:
    """Return a placeholder that says why there is nothing to show yet."""
    return paragraphs(*sentences, css="rv-empty")


def headlined(sentences: Sequence[str]) -> str:
    """Return the first sentence large and the others as a list below."""
    return paragraphs(sentences[0], css="rv-headline") + bullet_list(sentences[1:])


def bullet_list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{prose(item)}</li>" for item in items) + "</ul>" if items else ""


def progress(share: float | None, *, label: str) -> str:
    """Return a progress bar for a share from 0 to 1; a pulsing bar for None."""
    css, value, width = " rv-unknown", "", ""
    if share is not None:
        percent = max(0.0, min(1.0, share)) * 100
        css, value = "", f' aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent:.0f}"'
        width = f' style="width:{percent:.1f}%"'
    role = f'role="progressbar" aria-label="{escape(label)}"'
    return f'<div class="rv-progress{css}" {role}{value}><div{width}></div></div>'


def code_html(
    code: str, *, title: str, file_name: str = "", caption: str = "", tools: str = "", folded: str = ""
) -> str:
    """Return a text with buttons that copy and save all of it, for controls.copyable. file_name: name for saving;
    without a name there is only a copy button. caption, tools: markup below the title and before the buttons. folded:
    words of a fold that hides the text until it is opened; a long text is always folded."""
    save = '<button type="button" data-do="save">Download</button>' if file_name else ""
    shown, lines = f"<pre>{escape(code)}</pre>", code.count("\n")
    folded = folded or (f"Show all {lines} lines" if lines > MANY_LINES else "")
    return (
        f'<div class="rv-code" data-name="{escape(file_name)}"><div class="rv-code-top"><h2>{escape(title)}</h2>'
        f'<span class="rv-tools">{tools}{save}<button type="button" data-do="copy">Copy</button></span></div>{caption}'
        + (f"<details><summary>{escape(folded)}</summary>{shown}</details></div>" if folded else f"{shown}</div>")
    )


def written_html(written: Any, *about: str, title: str = "", tools: str = "") -> str:
    """Return an exported file (exports.Written) with its notes, and the files that belong to it, for
    controls.copyable. about: sentences before the notes. title, tools: as for `code_html`."""
    name, sentences = written.file_name, (*about, *written.notes)
    fold = "Show the notebook" if name.endswith(".ipynb") else ""
    looks = {"caption": paragraphs(*sentences) if sentences else "", "tools": tools, "folded": fold}
    more = (code_html(text, title=each, file_name=each) for each, text in written.extra_files)
    return code_html(written.text, title=title or name, file_name=name, **looks) + "".join(more)
