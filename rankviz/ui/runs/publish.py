"""Publishes the open sweep, or the open run of it: one folded section, whose result is a link.

The form is sent once and holds the token for that one call: nothing here keeps it, and the box is emptied.
"""

from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.sinks import Sending
from rankviz.core.runs.record import Sweep
from rankviz.errors import UserError
from rankviz.shared.identity import login_is_on
from rankviz.sinks import ADAPTER, DATASET, TRACKIO, Destination, Token
from rankviz.sinks.files import known_base
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain
from rankviz.ui.wiring import action, notice_html, wire

POLL_SECONDS = 1.0
LABELS = {
    DATASET: "Hub: dataset of this sweep",
    ADAPTER: "Hub: adapter of the selected run",
    TRACKIO: "Trackio: runs of this sweep",
}
CHOOSE_A_RUN = "Select a run of this sweep first (click it in the list): an adapter belongs to one run."
OF_A_LOGIN = "Token with write access (empty: your Hugging Face login)"


class FormView(NamedTuple):
    """Which fields the destination needs, by the names of the section's widgets."""

    place: Any
    space: Any
    base_model: Any
    public: Any
    use_login: Any
    token: Any
    status: str
    timer: Any


def box_of(api: Api, sweep: Sweep) -> Any:
    """The section, shown where there is something of one's own to publish."""
    finished = not sweep.recorded and any(run.completed for run in sweep.runs)
    return gr.Accordion(visible=finished and api.sinks.is_own(sweep.sweep_id))


def form_view(api: Api, *, to: str, space: str, use_login: bool, sweep_id: str, run_id: str) -> FormView:
    """The form for this destination, and how far a publication is of the sweep and the run that are open."""
    leaves = to != TRACKIO or bool(space.strip()) or api.workspace.shared
    login = leaves and api.sinks.has_login()
    view = status_view(api, sweep_id=sweep_id, run_id=run_id)
    return FormView(
        place=gr.Textbox(label="Project" if to == TRACKIO else "Repository (owner/name)"),
        space=gr.Textbox(visible=to == TRACKIO),
        base_model=gr.Textbox(visible=_is_of_a_folder(api, sweep_id)),
        public=gr.Checkbox(visible=leaves),
        use_login=gr.Checkbox(visible=login),
        token=gr.Textbox(visible=leaves and not (login and use_login)),
        status=view.status,
        timer=view.timer,
    )


class StatusView(NamedTuple):
    """How far it is."""

    status: str
    timer: Any


def status_view(api: Api, *, sweep_id: str, run_id: str) -> StatusView:
    """Of the open sweep and of the open run."""
    sendings = [sending for name in (sweep_id, run_id) if name and (sending := api.sinks.sending(name))]
    going_on = any(sending.ended_at is None for sending in sendings)
    return StatusView("".join(map(_in_words, sendings)), gr.Timer(active=going_on))


def _in_words(sending: Sending) -> str:
    place = sending.destination
    where = place.space or place.name
    if sending.ended_at is None:
        return html.paragraphs(f"{where}: {sending.stage} ({units.duration(sending.seconds)}).")
    if sending.result is None:
        return notice_html(sending.error, kind="error")
    if not sending.result.url:
        return notice_html(sending.result.in_words(place))
    url = escape(sending.result.url, quote=True)
    words = escape(sending.result.in_words(place).removesuffix(sending.result.url))
    link = f'<a href="{url}" target="_blank" rel="noopener noreferrer">{escape(where)}</a>'
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
    """Start it, with the token that was typed or else that of a Hugging Face login; returns an empty token, the status
    and a timer."""
    if to == ADAPTER and not run_id:
        raise UserError(CHOOSE_A_RUN)
    destination = Destination(
        to=to,
        name=place.strip(),
        public=bool(public),
        space=space.strip() if to == TRACKIO else "",
        base_model=base_model.strip() if _is_of_a_folder(api, sweep_id) else "",
    )
    login = api.workspace.visitor.login
    given = token.strip() or (login.token if login else "")
    with_login = bool(use_login) and not token.strip()
    subject = run_id if to == ADAPTER else sweep_id
    api.sinks.start(subject, destination, Token(given) if given else None, use_login=with_login)
    status, timer = status_view(api, sweep_id=sweep_id, run_id=run_id)
    return "", status, timer


def build(api: Api, sweep_id: gr.HTML, run_id: gr.HTML) -> tuple[gr.Accordion, gr.Textbox, dict[str, Any]]:
    """The section, its box of a base, and the event that draws it for the sweep and run that are open."""
    offered = api.sinks.offered()
    logins = api.workspace.shared and login_is_on()
    w: dict[str, Any] = {}
    with gr.Accordion("Publish", open=False, elem_id="sweep-publish") as box:
        with gr.Row(elem_classes="rv-bar"):
            to = gr.Dropdown(
                [(LABELS[each], each) for each in offered],
                value=DATASET,
                label="Publish as",
                interactive=True,
                min_width=220,
                elem_id="publish-to",
            )
            w["place"] = gr.Textbox("", label="Repository (owner/name)", max_lines=1, max_length=200, min_width=200)
            w["space"] = gr.Textbox(
                "",
                label="Trackio Space (owner/name)" + ("" if api.workspace.shared else ", empty: this machine"),
                max_lines=1,
                max_length=200,
                visible=False,
                min_width=200,
            )
            w["base_model"] = gr.Textbox(
                "",
                label="Base model on the Hub (owner/name)",
                max_lines=1,
                max_length=200,
                visible=False,
                min_width=200,
            )
            w["token"] = gr.Textbox(
                "",
                label=OF_A_LOGIN if logins else "Hugging Face token with write access",
                type="password",
                max_lines=1,
                max_length=500,
                min_width=200,
                elem_id="publish-token",
            )
        with gr.Row(elem_classes="rv-bar"):
            w["public"] = gr.Checkbox(False, label="Public: everyone can see it", elem_id="publish-public")
            w["use_login"] = gr.Checkbox(
                False, label="Use the Hugging Face login of this machine", visible=False, elem_id="publish-login"
            )
            button = gr.Button("Publish", variant="primary", size="sm", elem_id="publish-it")
        w["status"] = plain(elem_id="publish-status")
        w["timer"] = gr.Timer(POLL_SECONDS, active=False)
    opened = {"sweep_id": sweep_id, "run_id": run_id}
    drawing = wire(
        partial(form_view, api),
        inputs={"to": to, "space": w["space"], "use_login": w["use_login"], **opened},
        outputs=w,
    )
    for event in (box.expand, to.input, w["space"].input, w["use_login"].input):
        event(**drawing)
    status = {name: w[name] for name in StatusView._fields}
    w["timer"].tick(**wire(partial(status_view, api), inputs=opened, outputs=status))
    form = [
        to,
        *(w[name] for name in ("place", "space", "base_model", "public", "use_login", "token")),
        sweep_id,
        run_id,
    ]
    button.click(inputs=form, outputs=[w["token"], w["status"], w["timer"]], **action(partial(start, api)))
    return box, w["base_model"], drawing


def _is_of_a_folder(api: Api, sweep_id: str) -> bool:
    """Whether others need to be told which base it is."""
    return bool(sweep_id) and not known_base(api.runs.sweep(sweep_id).runs[0].request)
