"""Shows the export section: a notebook for Colab, and a script, notebook or configuration file, to copy or download."""

from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.errors import RankVizError
from rankviz.export.formats import FORMATS, Written
from rankviz.export.script import OPEN_IN_COLAB
from rankviz.ui.explore.advice import goal_of
from rankviz.ui.parts import html, question
from rankviz.ui.parts.controls import code_html, copyable
from rankviz.ui.wiring import notice_html

COLAB = "colab"
CHOICES = [(chosen.label, name) for name, chosen in FORMATS.items() if name != COLAB]
OPEN_COLAB = (
    '<a class="rv-button" href="https://colab.research.google.com/#upload=true" target="_blank" rel="noopener">'
    "Open Colab</a>"
)


class Exported(NamedTuple):
    colab: str
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


def takeaway_widgets(take: gr.Dropdown) -> dict[str, gr.HTML]:
    """The notebook for Colab, then the choice and its file; widgets by the names of Exported."""
    colab = copyable(elem_id="colab")
    with gr.Row(elem_classes="rv-bar"):
        take.render()
    return {"colab": colab, "code": copyable(elem_id="script")}


def takeaway(api: Api, **values: Any) -> Exported:
    """The files for the widgets' values, with the recommended learning rate. What cannot express them says why in its
    place, once."""
    chosen = question.ask(values)
    chosen.validate()  # what is wrong there is said above, once

    def written(name: str) -> Written | str:
        try:
            return api.exports.write(chosen, values["r"], name, goal=goal_of(values))
        except RankVizError as error:
            return str(error)

    notebook, file = written(COLAB), written(values["take"])
    return Exported(_colab(notebook), "" if file == notebook else _boxes(file))


def _colab(written: Written | str) -> str:
    if isinstance(written, str):
        return notice_html(written, kind="error")
    return code_html(
        written.text,
        title="Google Colab",
        file_name=written.file_name,
        caption=html.paragraphs(f"Download the notebook and open Colab. {OPEN_IN_COLAB}", *written.notes),
        tools=OPEN_COLAB,
        folded="Show the notebook",
    )


def _boxes(written: Written | str) -> str:
    if isinstance(written, str):
        return notice_html(written, kind="error")
    first = code_html(
        written.text,
        title=written.file_name,
        file_name=written.file_name,
        caption=html.paragraphs(*written.notes) if written.notes else "",
        folded="Show the notebook" if written.file_name.endswith(".ipynb") else "",
    )
    return first + "".join(code_html(text, title=name, file_name=name) for name, text in written.beside)
