"""Shows the export section: a script, notebook or configuration file to copy or download."""

from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.errors import RankVizError
from rankviz.export.formats import FORMATS
from rankviz.ui.explore.advice import goal_of
from rankviz.ui.parts import html, question
from rankviz.ui.parts.controls import code_html, copyable
from rankviz.ui.wiring import notice_html

CHOICES = [(chosen.label, name) for name, chosen in FORMATS.items()]


class Exported(NamedTuple):
    code: str


def choice() -> gr.Dropdown:
    """The choice of a format, a part of the question, for takeaway_widgets to place."""
    return gr.Dropdown(
        CHOICES,
        value=question.DEFAULTS["take"],
        label="Export as",
        interactive=True,
        min_width=220,
        elem_id="take",
        render=False,
    )


def takeaway_widgets(take: gr.Dropdown) -> gr.HTML:
    """The choice, and the box that holds the file."""
    with gr.Row(elem_classes="rv-bar"):
        take.render()
    return copyable(elem_id="script")


def takeaway(api: Api, **values: Any) -> Exported:
    """The file for the widgets' values, with the recommended learning rate. A format that cannot express them says
    why in its place."""
    chosen = question.ask(values)
    chosen.validate()  # what is wrong there is said above, once
    try:
        written = api.exports.write(chosen, values["r"], values["take"], goal=goal_of(values))
    except RankVizError as error:
        return Exported(notice_html(str(error), kind="error"))
    boxes = [
        code_html(
            written.shown,
            title=written.file_name,
            file_name=written.file_name,
            file=written.text if written.text != written.shown else "",
            caption=html.paragraphs(*written.notes) if written.notes else "",
        )
    ]
    boxes += [code_html(text, title=name, file_name=name) for name, text in written.beside]
    return Exported("".join(boxes))
