"""The Runs tab as Gradio draws it, whatever a test leaves open, and the form of Train as its widgets hold it."""

from rankviz.api import Api
from rankviz.ui.runs.view import runs_view
from rankviz.ui.train.form import DEFAULTS
from rankviz.ui.wiring import View

NOTHING_CHOSEN = {
    **{"showing": "showing", "text": "", "x": "adapter", "selected": (), "sweep_id": "", "run_id": ""},
    **{"metric": "loss", "tolerance": "", "seen": ""},
}


def drawn(api: Api, **choices: object) -> View:
    """What the tab shows for these choices, all of it."""
    return runs_view(api, **NOTHING_CHOSEN | choices)


FORM = {**DEFAULTS, "mode": "sweep", "ranks": ["16", "4"]}
