"""What whoever looks at a sweep may do with it. Others than its owner read it, where the owner shares it."""

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from rankviz.errors import EngineUnavailableError, WorkerError, quoted
from rankviz.store.temp import Usage
from rankviz.ui.parts import html
from rankviz.ui.requests.event_errors import toast

SHARE = "Share: anyone who has the link can read this sweep"
COPY_IT = "Copy link, at the top of the page, copies the address of this sweep."
OF_ANOTHER = "This sweep belongs to another visitor, who shares it: you can read it, not change it."


def not_here(api: Api, run_or_sweep_id: str) -> str:
    """Of what whoever looks may not see, which is answered as what isn't there."""
    closed = ", or its owner does not share it" if api.workspace.shared else ""
    return f"No run or sweep {quoted(run_or_sweep_id)} here{closed}."


def may_change(api: Api, sweep: Sweep) -> bool:
    """Whether whoever looks at it may cancel, extend, export and delete it."""
    return not sweep.recorded and api.runs.is_mine(sweep.sweep_id)


def cancel(api: Api, run_or_sweep_id: str) -> None:
    """Cancel a run or a sweep. Where that is not possible now and the wish is kept, a note says so, and no error."""
    try:
        api.runs.cancel(run_or_sweep_id)
    except (EngineUnavailableError, WorkerError) as error:
        is_sweep = api.runs.is_sweep(run_or_sweep_id)
        runs = api.runs.sweep(run_or_sweep_id).runs if is_sweep else [api.runs.get(run_or_sweep_id)]
        if not all(run.state.ended for run in runs) and not api.runs.are_unwanted(runs):
            raise
        gr.Info(toast(error), duration=10)


def kept_words(api: Api) -> str:
    """How long the runs and uploads of visitors stay; nothing on a page of one's own."""
    days = api.workspace.limits.days_kept
    if not api.workspace.shared or days is None:
        return ""
    hours = units.counted(api.workspace.settings.temp_hours, "hour")
    return html.paragraphs(
        f"Your runs stay for {units.counted(days, 'day')} after they end. Imported runs and runs that did not complete "
        "are removed sooner, the oldest first, when this server is full. Download the runs that you want to keep. "
        f"Files that you upload stay for {hours}, unless you delete them."
    )


def uploads_button(uploads: Usage) -> gr.Button:
    """It deletes what is still here."""
    size = f"{units.counted(uploads.files, 'file')}, {units.file_size(uploads.size_bytes)}"
    return gr.Button(f"Delete my uploads ({size})", visible=bool(uploads.files))


def share_box(api: Api, sweep: Sweep, mine: bool) -> gr.Checkbox:
    """On a shared page, for its owner."""
    shown = mine and api.workspace.shared
    return gr.Checkbox(value=shown and api.runs.is_open(sweep.sweep_id), visible=shown)


def words_on_owner(api: Api, sweep: Sweep, mine: bool) -> str:
    """Whose it is, where that is not plain; nothing on a page of one's own."""
    if not api.workspace.shared or sweep.recorded:
        return ""
    if not mine:
        return html.paragraphs(OF_ANOTHER)
    if owner := api.runs.owner_of(sweep.runs[0].run_id):
        return html.paragraphs(f"This sweep belongs to {owner}.")
    return html.paragraphs(COPY_IT) if api.runs.is_open(sweep.sweep_id) else ""
