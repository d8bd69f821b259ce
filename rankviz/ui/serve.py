"""Serves the page, for app.py and `rankviz serve`."""

from rankviz.api import Api
from rankviz.ui.page import build_app
from rankviz.ui.theme import launch_options


def serve() -> None:
    """Build the page on the default runs folder, continue its queue and serve until the process ends."""
    api = Api()
    api.workspace.work_queue()
    build_app(api).queue(api_open=False).launch(**launch_options())
