"""The folded section that publishes the open sweep or its open run; its result is a link. A typed token is sent once
and not stored, and its box is emptied."""

from functools import partial
from html import escape
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.sinks import Sending
from rankviz.core.runs.record import Sweep
from rankviz.errors import UserError
from rankviz.publish import ADAPTER, DATASET, TRACKIO, Destination, Token
from rankviz.publish.files import known_base
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain
from rankviz.ui.wiring import View, action, wire

POLL_SECONDS = 1.0
LABELS = {
    DATASET: "Hub: dataset of this sweep",
    ADAPTER: "Hub: adapter of the selected run",
    TRACKIO: "Trackio: runs of this sweep",
}
CHOOSE_A_RUN = "Select a run of this sweep first (click it in the list): an adapter belongs to one run."


def box_of(api: Api, sweep: Sweep) -> Any:
    """Return the section's visibility: shown for the visitor's own sweep with a completed run."""
    finished = not sweep.recorded and any(run.completed for run in sweep.runs)
    return gr.Accordion(visible=finished and api.sinks.is_own(sweep.sweep_id))


def form_view(api: Api, *, to: str, sweep_id: str, run_id: str) -> View:
    """Fill the form for a destination, with the status of publications."""
    return View(
        place=gr.Textbox(label="Project" if to == TRACKIO else "Repository (owner/name)"),
        space=gr.Textbox(visible=to == TRACKIO),
        base_model=gr.Textbox(visible=_base_is_folder(api, sweep_id)),
        use_login=gr.Checkbox(visible=api.sinks.has_login()),
        **vars(status_view(api, sweep_id=sweep_id, run_id=run_id)),
    )


def status_view(api: Api, *, sweep_id: str, run_id: str) -> View:
    """Show the status of publications of the open sweep and the open run; poll while one is running."""
    sendings = [sending for name in (sweep_id, run_id) if name and (sending := api.sinks.sending(name))]
    running = any(sending.ended_at is None for sending in sendings)
    return View(status="".join(map(_in_words, sendings)), timer=gr.Timer(active=running))


def _in_words(sending: Sending) -> str:
    place, result = sending.destination, sending.result
    where = place.space or place.name
    if sending.ended_at is None:
        return html.paragraphs(f"{where}: {sending.stage} ({units.duration(sending.seconds)}).")
    if result is None:
        return html.notice_html(sending.error, kind="error")
    words = escape(result.in_words(place).removesuffix(result.url or ""))
    link = html.link(escape(where), result.url) if result.url else ""
    return f'<div class="rv-notice rv-note" role="status"><p>{words}{link}</p></div>'


def start(
    api: Api,
    to: str,
    place: str,
    space: str,
    base_model: str,
    public: bool,
    use_login: bool,
    token: str,
    sweep_id: str,
    run_id: str,
) -> tuple[str, str, Any]:
    """Publish with the typed token, or with a Hugging Face login's token. Return an empty token, status and timer."""
    if to == ADAPTER and not run_id:
        raise UserError(CHOOSE_A_RUN)
    destination = Destination(
        to=to,
        name=place.strip(),
        public=bool(public),
        space=space.strip() if to == TRACKIO else "",
        base_model=base_model.strip() if _base_is_folder(api, sweep_id) else "",
    )
    login = api.workspace.visitor.login
    given = token.strip() or (login.token if login else "")
    subject = run_id if to == ADAPTER else sweep_id
    api.sinks.start(subject, destination, Token(given) if given else None, use_login=bool(use_login) and not given)
    view = status_view(api, sweep_id=sweep_id, run_id=run_id)
    return "", view.status, view.timer


def build(api: Api, sweep_id: gr.HTML, run_id: gr.HTML) -> tuple[gr.Accordion, dict[str, Any]]:
    """Build the section; return it with the event that draws it for the open sweep and run."""
    w: dict[str, Any] = {}

    def text(label: str, max_length: int = 200, **more: Any) -> gr.Textbox:
        return gr.Textbox("", label=label, max_lines=1, max_length=max_length, min_width=200, **more)

    with gr.Accordion("Publish", open=False, elem_id="sweep-publish") as box:
        with gr.Row(elem_classes="rv-bar"):
            offered = [(LABELS[each], each) for each in api.sinks.offered()]
            looks = {"interactive": True, "min_width": 220, "elem_id": "publish-to"}
            w["to"] = gr.Dropdown(offered, value=DATASET, label="Publish as", **looks)
            w["place"] = text("Repository (owner/name)")
            here = "" if api.workspace.shared else ", empty: this machine"
            w["space"] = text(f"Trackio Space (owner/name){here}", visible=False)
            w["base_model"] = text("Base model on the Hub (owner/name)", visible=False)
            label = "Hugging Face token with write access (empty: a login)"
            w["token"] = text(label, 500, type="password", elem_id="publish-token")
        with gr.Row(elem_classes="rv-bar"):
            w["public"] = gr.Checkbox(False, label="Public: everyone can see it", elem_id="publish-public")
            label = "Use the Hugging Face login of this machine"
            w["use_login"] = gr.Checkbox(False, label=label, visible=False, elem_id="publish-login")
            button = gr.Button("Publish", variant="primary", size="sm", elem_id="publish-it")
        w["status"] = plain(elem_id="publish-status")
        w["timer"] = gr.Timer(POLL_SECONDS, active=False)
    shown = {"sweep_id": sweep_id, "run_id": run_id}
    outputs = {name: w[name] for name in ("place", "space", "base_model", "use_login", "status", "timer")}
    drawing = wire(partial(form_view, api), inputs={"to": w["to"], **shown}, outputs=outputs)
    for event in (box.expand, w["to"].input):
        event(**drawing)
    status = {name: w[name] for name in ("status", "timer")}
    w["timer"].tick(**wire(partial(status_view, api), inputs=shown, outputs=status))
    form = [w[name] for name in ("to", "place", "space", "base_model", "public", "use_login", "token")]
    button.click(inputs=[*form, *shown.values()], outputs=[w["token"], *status.values()], **action(partial(start, api)))
    return box, drawing


def _base_is_folder(api: Api, sweep_id: str) -> bool:
    """True where the sweep's base was a local folder, so the visitor must name the base on the Hub."""
    return bool(sweep_id) and not known_base(api.runs.sweep(sweep_id).runs[0].request)
