"""The line at the end of a shared page that says who one is."""

from rankviz.ui.parts import html
from rankviz.visitor import Visitor

ANONYMOUS = (
    "You are anonymous here. Your runs and uploads belong to this browser's cookie: other visitors do not see them. "
    "If you delete the cookie, you do not see them either."
)
UNKNOWN = "This browser keeps no cookie of this page, so you can explore, not train. Allow its cookie and reload."
ADMIN = "You are the admin: you see the runs of all visitors, and can end and delete them."


def who_html(visitor: Visitor, *, has_admin: bool) -> str:
    """Return the line's HTML. has_admin: whether there is a sign-in of the admin to lead to."""
    words = ANONYMOUS if visitor.id else UNKNOWN
    if visitor.admin:
        words = ADMIN
    elif visitor.name:
        words = f"You are {visitor.name}. Your runs and uploads belong to your Hugging Face account."
    # Relative, since a page may be served under a path.
    return html.paragraphs(words) + ('<p class="rv-caption"><a href="rankviz/admin">Admin</a></p>' if has_admin else "")
