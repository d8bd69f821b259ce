"""The Adapter tab, as Gradio calls it."""

import json
import re
from pathlib import Path

import pytest

from rankviz.api import Api, adapters
from rankviz.children import FairLine
from rankviz.core.spectrum import proposed_rank
from rankviz.errors import BadAdapterError, BusyError
from rankviz.trained.read import read_adapter
from rankviz.ui import adapter
from tests.support.models.saved_adapters import Q, factors, save, two_blocks
from tests.support.runs.finished_runs import finished, text_of
from tests.support.runs.toy import ASSETS
from tests.support.web.endpoints import functions_of

K_DEAD = "model.layers.1.self_attn.v_proj"


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", assets=ASSETS, shared=False)


def shown(api, source, *, choice="r2", cell=""):
    return adapter.shown(api, source=source, choice=choice, cell=cell)


def test_an_adapter_is_a_sentence_numbers_pictures_and_a_table(api, tmp_path):
    view = shown(api, str(two_blocks(tmp_path / "mine", base_model_name_or_path="some/base")))

    assert (False, True) == (view.sample.visible, view.parts.visible)
    text = text_of(view.top)
    assert "Trained with r = 4; r = 4 keeps 99 % of the update&#x27;s energy, r = 2 keeps 90 %." in text
    assert "α 8, scale 2, fp32" in text
    for name in ("Energy: The squared", "Effective rank: How many", "Stable rank: The energy"):
        assert name in text
    assert f"1 of 4 {K_DEAD}" in text
    assert "on some/base" in text
    heat = json.loads(view.heat)["data"][0]
    assert (["0", "1"], ["q_proj", "v_proj"]) == (heat["x"], heat["y"])
    assert [["", ""], ["", "×"]] == heat["text"]
    assert "rank_pattern={" in view.pattern.replace("&quot;", '"')


def test_a_finished_run_of_this_machine_is_offered_and_opened_by_its_id(api):
    run, without = finished(api, {4: 1.0, 8: 1.0}).runs
    two_blocks(api.workspace.store.run_dir(run.run_id) / "adapter")

    assert ("r = 4, SmolLM2-135M-Instruct on phonemes", run.run_id) == adapter.run_choices(api).choices[1]
    assert (4, run.run_id) == (api.adapters.spectrum(run.run_id).r, api.adapters.spectrum(run.run_id).name)
    with pytest.raises(BadAdapterError, match="has no adapter here: none was saved"):
        api.adapters.spectrum(without.run_id)


def test_names_from_the_file_are_shown_as_text(api, tmp_path):
    """What no module can be called is no factor, and what is kept is named as text."""
    a, b = factors(10, 4, 12)
    odd = "base_model.model.<img src=x onerror=alert(1)>"
    tensors = {f"{name}.lora_{side}.weight": x for name in (odd, Q) for side, x in (("A", a), ("B", b))}
    folder = save(tmp_path / "mine", tensors)

    view = shown(api, str(folder))

    assert "<img" not in "".join(value for value in vars(view).values() if isinstance(value, str))
    assert 1 == len(api.adapters.spectrum(str(folder)).layers)


def test_what_a_resize_comes_to_is_what_the_zip_then_holds(api, tmp_path):
    folder = str(two_blocks(tmp_path / "mine"))

    path, words = adapter.zip_of(api, folder, "r1")
    after = read_adapter([Path(path)])

    # (12 + 10) and (12 + 6), twice
    assert f"mine-r1.zip has r = 1 and {after.outline.adapter_bytes:,} bytes of weights" in text_of(words)
    assert ("mine-r1", 1, 80) == (
        after.outline.name,
        after.r,
        sum(t.size for update in after.updates for t in after.pair(update)),
    )


def test_the_sample_opens_with_its_training_and_choices_with_exact_sizes(api):
    view = shown(api, "sample", choice="r3")

    assert "400 steps on phonemes" in text_of(view.top)
    assert ["r2", "r3", "r8", "e99"] == re.findall('data-pick="([^"]+)"', view.choices)
    assert 1 == view.choices.count('class="rv-chosen"')
    assert f'title="{api.adapters.plan_resize("sample", r=3).adapter_bytes:,} bytes"' in view.choices
    assert "Resize to r = 3 and download (361.1 kB)" == view.make.value


@pytest.mark.parametrize("odd", ["", "<script>", "r²", "e²", "r" + "9" * 5000, "e" + "9" * 400])
def test_a_choice_is_a_rank_an_energy_or_else_the_proposed_rank(api, odd):
    assert (8, None) == adapter.choice_of(api, "sample", "r8")
    assert (None, 0.99) == adapter.choice_of(api, "sample", "e99")
    assert (proposed_rank(api.adapters.spectrum("sample")), None) == adapter.choice_of(api, "sample", odd)


def test_after_few_steps_no_rank_is_recommended_and_half_the_trained_one_is_selected(api, tmp_path):
    (run,) = finished(api, {4: 1.0}).runs
    two_blocks(api.workspace.store.run_dir(run.run_id) / "adapter")

    view = shown(api, run.run_id, choice="")

    assert "After 2 steps, the spectrum is mostly noise, so no rank is recommended" in text_of(view.choices)
    assert "Resize to r = 2 and" in view.make.value and "secondary" == view.make.variant
    assert [2] == [plan.truncation.r for plan in api.adapters.open(run.run_id).truncations]
    assert "" == view.pattern


@pytest.mark.parametrize(
    "ask", [lambda *asked: adapter.choice_of(*asked, ""), lambda api, ref: functions_of(api)["spectrum"](ref)]
)
def test_a_rank_is_proposed_and_a_spectrum_answered_of_many_modules_in_the_line(api, tmp_path, monkeypatch, ask):
    monkeypatch.setattr(adapters, "MANY_MODULES", 3)
    api.adapters.spectrum(folder := str(two_blocks(tmp_path / "mine")))
    api.workspace.children.line = FairLine(1, busy="Busy with others.", seconds=0)

    with api.workspace.children.line.turn(), pytest.raises(BusyError):
        ask(api, folder)
