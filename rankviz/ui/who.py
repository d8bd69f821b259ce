"""The line at the end of a shared page that says who one is, and the button to log in."""

from typing import Any

import gradio as gr

from rankviz.api import Api
from rankviz.shared.identity import login_is_on
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain
from rankviz.visitor import Visitor

ANONYMOUS = (
    "You are anonymous here. Your runs and uploads belong to this browser's cookie: other visitors do not see them. "
    "If you delete the cookie, you do not see them either."
)
UNKNOWN = (
    "This browser keeps no cookie of this page, so the page cannot tell you from others: you can explore, not train. "
    "Allow its cookie and reload."
)
ADMIN = "You are the admin: you see the runs of all visitors, and can end and delete them."
DOOR = '<a href="rankviz/admin">Admin</a>'
"""Relative, since a page may be served under a path."""


def login(api: Api) -> None:
    """Show the button in the header, where people can log in."""
    if api.workspace.shared and login_is_on():
        # Gradio's icon is a file of this machine, which the page hands out to nobody.
        gr.LoginButton(size="sm", min_width=160, scale=0, icon=None, elem_id="login")


def build(api: Api) -> dict[str, Any] | None:
    """Build the line; returns the event that fills it, None on a page of one's own."""
    if not api.workspace.shared:
        return None
    line = plain(elem_id="who")
    door = DOOR if api.workspace.settings.admin_token else ""
    return {"fn": lambda: who_html(api.workspace.visitor, door), "inputs": None, "outputs": line}


def who_html(visitor: Visitor, door: str = "") -> str:
    """Return the line's HTML. door: markup that leads to the admin's sign-in."""
    words = ANONYMOUS if visitor.id else UNKNOWN
    if visitor.admin:
        words = ADMIN
    elif visitor.name:
        words = f"You are {visitor.name}. Your runs and uploads belong to your Hugging Face account."
    return html.paragraphs(words) + (f'<p class="rv-caption">{door}</p>' if door else "")
