"""The fit section as Gradio calls it: values by name in, HTML out, clicks and edits back into the question."""

import re
from urllib.parse import parse_qsl

import pytest

from rankviz.api import Api
from rankviz.ui import link
from rankviz.ui.explore import sections
from rankviz.ui.parts.question import DEFAULTS

LLAMA = {**DEFAULTS, "model": "meta-llama/Llama-3.1-8B", "r": 16}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def shown(api, **changes):
    return sections.decisions(api, **{**LLAMA, **changes})


def test_every_change_on_the_page_can_be_clicked_into_the_question(api):
    """Each row's pick is read back by the same table that reads the address."""
    picks = [pick.replace("&amp;", "&") for pick in re.findall(r'data-pick="([^"]+)"', shown(api, batch=4).decisions)]

    picks = [pick for pick in picks if not pick.startswith("gpu=")]
    assert len(picks) > 8
    for pick in picks:
        _, notes = link.read(dict(parse_qsl(pick)))
        assert [] == notes
        assert sections.applied(pick)


@pytest.mark.parametrize(
    ("pick", "widgets"),
    [
        ("batch=1&accum=8", {"batch": 1, "accumulation": 8}),
        ("max_length=4096&steps=500", {"max_length": 4096, "length": 500, "length_unit": "steps"}),
        ("targets=attention", {"preset": "attention"}),
        ("r=5000&batch=1", {}),
        ("frobnicate=1", {}),
    ],
)
def test_a_click_sets_what_the_change_names_and_nothing_else(pick, widgets):
    assert widgets == sections.applied(pick)
