"""The folded section that publishes the open sweep or its open run; its result is a link. A typed token is sent once
and not stored, and its box is emptied."""

from functools import partial
from html import escape
from typing import Any

import gradio as gr

from rankviz import installed
from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from rankviz.errors import UserError
from rankviz.publish import ADAPTER, DATASET, TRACKIO, Destination, Token
from rankviz.publish.files import known_base
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import busy, busy_line, done, plain
from rankviz.ui.wiring import View, action, wire

LABELS = {
    DATASET: "Hub: dataset of this sweep",
    ADAPTER: "Hub: adapter of the selected run",
    TRACKIO: "Trackio: runs of this sweep",
}
CHOOSE_A_RUN = "Select a run of this sweep first (click it in the list): an adapter belongs to one run."


def box_of(api: Api, sweep: Sweep) -> Any:
    """Return the section's visibility: shown for the visitor's own sweep with a completed run."""
    finished = not sweep.recorded and any(run.completed for run in sweep.runs)
    return gr.Accordion(visible=finished and api.runs.is_own(sweep.sweep_id))


def form_view(api: Api, *, to: str, sweep_id: str) -> View:
    """Show the fields that a destination needs. The base is asked for where the sweep's base was a local folder."""
    asks = bool(sweep_id) and not known_base(api.runs.sweep(sweep_id).runs[0].request.base)
    return View(
        place=gr.Textbox(label="Project" if to == TRACKIO else "Repository (owner/name)"),
        space=gr.Textbox(visible=to == TRACKIO),
        base_model=gr.Textbox(visible=True) if asks else gr.Textbox("", visible=False),
        use_login=gr.Checkbox(visible=bool(api.runs.hub_login())),
        status="",
    )


def send(api: Api, *, sweep_id: str, run_id: str, token: str, **form: Any) -> str:
    """Publish with the typed token, or with a Hugging Face login's token. Return the result as HTML. form: `to`,
    `place`, `space`, `base_model`, `public` and `use_login`, as the widgets have them."""
    to = form["to"]
    if to == ADAPTER and not run_id:
        raise UserError(CHOOSE_A_RUN)
    space, base = (form["space"].strip() if to == TRACKIO else ""), form["base_model"].strip()
    name = form["place"].strip()
    destination = Destination(to=to, name=name, public=bool(form["public"]), space=space, base_model=base)
    login = api.workspace.visitor.login
    given = token.strip() or (login.token if login else "")
    subject = run_id if to == ADAPTER else sweep_id
    use_login = bool(form["use_login"]) and not given
    result = api.runs.publish(subject, destination, Token(given) if given else None, use_login=use_login)
    words = escape(result.in_words(destination).removesuffix(result.url))
    link = html.link(escape(space or destination.name), result.url) if result.url else ""
    return f'<div class="rv-notice rv-note" role="status"><p>{words}{link}</p></div>'


def build(api: Api, sweep_id: gr.HTML, run_id: gr.HTML) -> tuple[gr.Accordion, dict[str, Any]]:
    """Build the section; return it with the event that draws it for the open sweep."""
    w: dict[str, Any] = {}

    def text(label: str, max_length: int = 200, **more: Any) -> gr.Textbox:
        return gr.Textbox("", label=label, max_lines=1, max_length=max_length, min_width=200, **more)

    with gr.Accordion("Publish", open=False, elem_id="sweep-publish") as box:
        with gr.Row(elem_classes="rv-bar"):
            offered = [(label, to) for to, label in LABELS.items() if to != TRACKIO or installed.has("trackio")]
            looks = {"interactive": True, "min_width": 220, "elem_id": "publish-to"}
            to = gr.Dropdown(offered, value=DATASET, label="Publish as", **looks)
            w["place"] = text("Repository (owner/name)")
            here = "" if api.workspace.shared else ", empty: this machine"
            w["space"] = text(f"Trackio Space (owner/name){here}", visible=False)
            w["base_model"] = text("Base model on the Hub (owner/name)", visible=False)
            label = "Hugging Face token with write access (empty: a login)"
            token = text(label, 500, type="password", elem_id="publish-token")
        with gr.Row(elem_classes="rv-bar"):
            public = gr.Checkbox(False, label="Public: everyone can see it", elem_id="publish-public")
            label = "Use the Hugging Face login of this machine"
            w["use_login"] = gr.Checkbox(False, label=label, visible=False, elem_id="publish-login")
            button = gr.Button("Publish", variant="primary", size="sm", elem_id="publish-it")
        busy_line("publish-busy")
        w["status"] = plain(elem_id="publish-status")
    drawing = wire(partial(form_view, api), inputs={"to": to, "sweep_id": sweep_id}, outputs=w)
    for event in (box.expand, to.input):
        event(**drawing)
    form = {**w, "to": to, "public": public, "token": token, "sweep_id": sweep_id, "run_id": run_id}
    del form["status"]
    sent = button.click(inputs_kwargs=form, outputs=w["status"], **action(partial(send, api)))
    button.click(**busy("publish-busy", "Publishing…"))
    sent.then(**done("publish-busy")).then(None, None, token, js="() => ''")
    return box, drawing
