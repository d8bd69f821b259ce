"""Adds a download menu (CSV or Parquet) to a table. The file is written on demand."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.api.json.runs import listed_run_json
from rankviz.errors import UserError
from rankviz.export.tables import Table, file_name, runs_table, write_table
from rankviz.ui.parts.controls import file_button, pickable
from rankviz.ui.wiring import action, quiet

MENU = (
    '<div class="rv-table-tools"><details class="rv-menu"><summary aria-label="Download: {label}">Download</summary>'
    '<div class="rv-tools"><button type="button" data-pick="csv">CSV</button>'
    '<button type="button" data-pick="parquet">Parquet</button></div></details></div>'
)


class Offer(NamedTuple):
    """The menu, its markup, and the button behind it that hands the file to the browser."""

    menu: gr.HTML
    markup: str
    file: gr.DownloadButton


def download_widgets(label: str, *, elem_id: str, may_be_empty: bool = False) -> Offer:
    """The menu where it stands on the page; `offer` connects it later, when its inputs exist.

    may_be_empty: the table may have no rows; then `offer` shows the menu once it has some.
    """
    markup = MENU.format(label=label)
    return Offer(
        pickable("" if may_be_empty else markup, elem_id=elem_id),
        markup,
        file_button(f"{elem_id}-file"),
    )


def offer(
    api: Api, download: Offer, table: Callable[..., Table], inputs: Mapping[str, Any], *, of: gr.HTML | None = None
) -> None:
    """A choice in the menu writes the table of these inputs, passed by name, and downloads it.

    of: a table that may be empty; while it has no rows there is no menu.
    """
    if of is not None:
        shown = f"(html) => html?.includes('<td') ? {json.dumps(download.markup)} : ''"
        of.change(None, of, download.menu, js=shown, **quiet())
    names = list(inputs)

    # A closure: Gradio finds gr.EventData by the function's own type hints and loses it in a partial.
    def written(event: gr.EventData, *values: Any) -> str:
        data = table(**dict(zip(names, values, strict=True)))
        return written_table(api, data, str(event._data.get("id", "")))

    download.menu.select(inputs=list(inputs.values()), outputs=download.file, **action(written)).success(
        None, js=f"() => {{ setTimeout(() => document.querySelector('#{download.file.elem_id}').click(), 60); }}"
    )


def written_table(api: Api, table: Table, kind: str) -> str:
    """The path of the table as a file to download."""
    name = file_name(table, kind)
    return str(api.workspace.download(name, lambda target: write_table(table, kind, target.parent)))


def sweep_runs(api: Api, *, sweep_id: str) -> Table:
    """The runs of one sweep, of one's own or of a recorded one."""
    if not sweep_id:
        raise UserError("No sweep yet: train one to download its runs.")
    sweep = api.runs.sweep(sweep_id)
    if not sweep.recorded:
        api.workspace.rights.required(sweep_id)
    rows = ((each.record, listed_run_json(each)) for each in api.runs.summaries(sweep.runs))
    return runs_table(rows, name=f"sweep-{sweep_id}")
