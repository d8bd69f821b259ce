"""Take it away: the chosen adapter as a script, a notebook or a configuration file, to copy or to save."""

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


class Taken(NamedTuple):
    code: str


def takeaway_widgets() -> tuple[gr.Dropdown, gr.HTML]:
    """The choice of a format, and the box that holds the file."""
    with gr.Row(elem_classes="rv-bar"):
        take = gr.Dropdown(
            CHOICES,
            value=question.DEFAULTS["take"],
            label="Take it away as",
            interactive=True,
            min_width=220,
            elem_id="take",
        )
    return take, copyable(elem_id="script")


def taken(api: Api, **values: Any) -> Taken:
    """The file for the question that the widgets ask, with the learning rate that the advice card names. A format that
    can't say it says why in its place."""
    asked = question.ask(values)
    rate = api.advice.advise(asked, goal_of(values)).advice.learning_rate  # what it refuses is said above the figures
    try:
        written = api.exports.write(asked, values["r"], values["take"], rate)
    except RankVizError as error:
        return Taken(notice_html(str(error), kind="error"))
    return Taken(
        code_html(
            written.shown,
            title=written.file_name,
            file_name=written.file_name,
            file=written.text if written.text != written.shown else "",
            caption=html.paragraphs(*written.notes) if written.notes else "",
        )
    )
