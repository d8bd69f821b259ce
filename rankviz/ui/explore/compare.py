"""Compares up to four pinned configurations: settings and figures side by side, and a trade-off chart for each.

A pin is the query string of an address, so a comparison is part of the page's own address.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import parse_qsl

from rankviz.api import Api
from rankviz.core.bounds import one_of
from rankviz.core.forecast.tradeoff import SHORTFALL_LOSS, SHORTFALLS
from rankviz.errors import InvalidSettingError, RankVizError
from rankviz.figures import X_LABELS, hero_figure, hero_info
from rankviz.figures.style import CHOSEN, vertical_line
from rankviz.ui import link
from rankviz.ui.explore.answer import FIGURES, FORECAST, X_DEFAULT, question_of, records
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import PANEL_HEIGHT, chart_json
from rankviz.ui.parts.html import Cell
from rankviz.ui.parts.question import ask

MAX_PINS, MAX_PIN_LENGTH = 4, 2000
LETTERS = "ABCD"
PROBLEM = "Cannot be shown"
TITLES = {
    "gpu": "GPU",
    "usd": "$ per hour",
    "rslora": "rsLoRA",
    "dora": "DoRA",
    "moe": "Experts",
    "save": "modules_to_save",
    "class": "Unsloth class",
    "accum": "Accumulation",
    "optim": "Optimizer",
    "loss_path": "Loss",
    "file": "Data file",
    "longest": "Longest example",
    "example_tokens": "Tokens per example",
    "forgetting": "Must not forget",
}
"""Titles of settings whose names in an address are not suitable as titles."""
EMPTY = (
    "Nothing is pinned. Press “Pin to compare” beside the chart to keep a configuration here, then change the model or "
    "the rank."
)


def compare(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the comparison's markup and a chart for each configuration. body: `pins`, a list of query strings; `x`
    and `y`, the axes of the trade-off chart."""
    pins = body.get("pins")
    if not isinstance(pins, list) or not all(isinstance(pin, str) and len(pin) <= MAX_PIN_LENGTH for pin in pins):
        raise InvalidSettingError("The pinned configurations could not be read. Remove pin from the address.")
    if len(pins) > MAX_PINS:
        raise InvalidSettingError(f"At most {MAX_PINS} configurations can be pinned (got {len(pins)}).")
    if not pins:
        return {"html": html.empty(EMPTY), "charts": []}
    x = body.get("x") or X_DEFAULT
    one_of(x, "Cost axis", tuple(X_LABELS))
    quality = body.get("y") if body.get("y") in tuple(SHORTFALLS) else SHORTFALL_LOSS
    columns, charts = [], []
    for letter, pin in zip(LETTERS, pins, strict=False):
        values, notes = question_of(api, dict(parse_qsl(pin.lstrip("?"))))
        title = f"{letter}: {values['model'].rsplit('/', 1)[-1]}, r = {values['r']}"
        try:
            if notes:
                raise InvalidSettingError(" ".join(notes))
            tradeoff = api.studies.tradeoff(ask(values), values["use_case"], quality)
        except RankVizError as error:
            columns.append((title, pin, {"Model": Cell(values["model"]), PROBLEM: Cell(str(error))}))
            continue
        info, r = hero_info(tradeoff, x=x), values["r"]
        drawing = hero_figure(info, height=PANEL_HEIGHT)
        if r <= len(info.xs) and (place := info.xs[r - 1]) is not None:
            drawing.layout["shapes"] = [vertical_line(place, CHOSEN)]
        charts.append({"title": title, **chart_json(drawing, file=f"compare-{letter}")})
        record = records(tradeoff, {r})[str(r)]
        cells = {"Model": Cell(values["model"]), "Rank": Cell(f"r = {r}")}
        own = {name: text for name, text in link.write(values).items() if name not in ("r", "model", "take")}
        cells |= {name: Cell(text) for name, text in own.items() if text is not None}
        cells |= {name: Cell(*figure[:2]) for name, figure in zip(FIGURES, record["figures"], strict=True)}
        cells["Fit"] = Cell(html.FITS.get(record["fit"], ""))
        cells[FORECAST] = Cell(record["quality"], title=record["quality_exact"])
        columns.append((title, pin, cells))
    return {"html": _table(columns), "charts": charts}


def _table(columns: Sequence[tuple[str, str, Mapping[str, Cell]]]) -> str:
    """Return a table with settings first and figures last; a row in which the columns differ is marked."""
    ends = [*FIGURES, "Fit", FORECAST]
    names = list(dict.fromkeys(name for _, _, cells in columns for name in cells if name not in ends)) + ends
    head = "".join(
        f'<th scope="col" class="rv-left">{escape(label)} <a href="?{escape(pin.lstrip("?"))}">Open</a> '
        f'<button type="button" data-unpin="{place}" aria-label="Unpin {escape(label)}">Unpin</button></th>'
        for place, (label, pin, _) in enumerate(columns)
    )
    body = ""
    for name in names:
        # A setting that the address leaves out is as usual; a column that cannot be shown has dashes.
        usual = Cell("" if name == PROBLEM else link.usual(name))
        shown = [cells.get(name, Cell("–") if PROBLEM in cells else usual) for _, _, cells in columns]
        differs = len({cell.text for cell in shown}) > 1
        mark, css = ('<span class="rv-unseen">differs: </span>', "rv-differs") if differs else ("", "")
        title = escape(TITLES.get(name) or name[0].upper() + name[1:].replace("_", " "))
        cells = "".join(html.tag("td", cell, "rv-narrow rv-left") for cell in shown)
        body += f'<tr class="{css}"><th scope="row">{mark}{title}</th>{cells}</tr>'
    return (
        '<div class="rv-table-box" role="region" aria-label="Pinned configurations"><table class="rv-table rv-compare">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
