"""Says on a shared page who one is and what that means, and where to log in. A page of one's own has none of it."""

from typing import Any

import gradio as gr

from rankviz.api import Api
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain
from rankviz.ui.visitors import login_is_on
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
    """The button in the header, where people can log in."""
    if api.workspace.shared and login_is_on():
        # Gradio's icon is a file of this machine, which the page hands out to nobody.
        gr.LoginButton(size="sm", min_width=160, scale=0, icon=None, elem_id="login")


def build(api: Api) -> dict[str, Any] | None:
    """The line at the end of the page, and the event that fills it; None on a page of one's own."""
    if not api.workspace.shared:
        return None
    line = plain(elem_id="who")
    door = DOOR if api.workspace.settings.admin_token else ""
    return {"fn": lambda: who_html(api.workspace.visitor, door), "inputs": None, "outputs": line}


def who_html(visitor: Visitor, door: str = "") -> str:
    """door: markup that leads to the admin's sign-in."""
    return html.paragraphs(in_words(visitor)) + (f'<p class="rv-caption">{door}</p>' if door else "")


def in_words(visitor: Visitor) -> str:
    if visitor.admin:
        return ADMIN
    if visitor.name:
        return f"You are {visitor.name}. Your runs and uploads belong to your Hugging Face account."
    return ANONYMOUS if visitor.id else UNKNOWN
