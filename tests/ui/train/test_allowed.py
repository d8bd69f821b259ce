"""Train says what a run may be before someone asks for more, and what to do where nothing can be trained."""

import pytest

from rankviz.api import Api
from rankviz.api.workspace import INSTEAD, ON_ZERO_GPU
from rankviz.errors import NotInstalledError
from rankviz.ui.train import before
from rankviz.ui.train.allowed import allowed_html
from rankviz.ui.train.progress import train_button
from rankviz.ui.train.request import DEFAULTS, request_of
from rankviz.visitor import acting_as
from tests.support.finished_runs import text_of
from tests.support.visitors import ANN


def test_a_shared_page_says_its_limits(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_MAX_STEPS", "50")
    monkeypatch.setenv("RANKVIZ_MAX_RUN_MINUTES", "1")
    monkeypatch.setenv("RANKVIZ_MAX_TOKENS_PER_BATCH", "")

    words = text_of(allowed_html(Api(home=tmp_path, shared=True)))

    assert words.startswith("This page is shared. It allows at most: 12 runs per sweep, 50 steps per run, rank 256, ")
    assert "1 minute per run" in words
    assert "tokens per batch" not in words


def test_a_page_of_ones_own_says_none(tmp_path):
    assert "" == allowed_html(Api(home=tmp_path, shared=False))


def test_on_zero_gpu_nothing_trains_and_train_says_what_to_do_instead(tmp_path, monkeypatch):
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    api = Api(home=tmp_path, shared=True)

    assert ON_ZERO_GPU == api.workspace.why_not_train()
    assert INSTEAD in ON_ZERO_GPU
    assert not train_button(api)["interactive"]
    with acting_as(ANN), pytest.raises(NotInstalledError, match="ZeroGPU"):
        api.runs.start(request_of(DEFAULTS))


def test_where_nothing_trains_the_form_still_gives_its_estimate_and_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    api = Api(home=tmp_path, shared=True)

    shown = before.before(api, **{**DEFAULTS, "base": "Qwen/Qwen3-0.6B"})

    assert "Memory:" in text_of(shown.expected)
    assert shown.notebook.visible
    assert not shown.embedded.visible
