"""What whoever looks at a sweep may do with it. Others than its owner read it, where the owner shares it."""

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from rankviz.ui.parts import html

SHARE = "Share: anyone who has the link can read this sweep"
COPY_IT = "Copy link, at the top of the page, copies the address of this sweep."
OF_ANOTHER = "This sweep belongs to another visitor, who shares it: you can read it, not change it."


def may_change(api: Api, sweep: Sweep) -> bool:
    """Whether whoever looks at it may cancel, extend, export and delete it."""
    return not sweep.recorded and api.runs.is_mine(sweep.sweep_id)


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
    return html.paragraphs(COPY_IT) if api.runs.is_open(sweep.sweep_id) else ""
