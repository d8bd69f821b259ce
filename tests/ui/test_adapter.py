"""The Adapter tab, as Gradio calls it."""

import json
import re
from pathlib import Path

import pytest

from rankviz.api import adapters
from rankviz.children import FairLine
from rankviz.errors import BadAdapterError, BusyError
from rankviz.trained.read import read_adapter
from rankviz.ui import adapter
from tests.support.models.saved_adapters import CONFIG, Q, factors, save, two_blocks
from tests.support.runs.finished_runs import finished, text_of
from tests.support.web.endpoints import functions_of
from tests.ui.runs.test_tab import CUTS, fast

K_DEAD = "model.layers.1.self_attn.v_proj"


def shown(api, source, *, choice="r2", cell=""):
    return adapter.shown(api, source=source, choice=choice, cell=cell)


def test_an_adapter_is_a_sentence_numbers_pictures_and_a_table(api, tmp_path):
    view = shown(api, str(two_blocks(tmp_path / "mine", base_model_name_or_path="some/base")))

    assert (False, True) == (view.sample.visible, view.parts.visible)
    text = text_of(view.top)
    assert "Trained with r = 4; r = 4 is enough for 99 % of the update&#x27;s energy, r = 2 for 90 %." in text
    assert "α 8, scale 2, fp32" in text
    for name in ("Energy: The squared", "Effective rank: How many", "Stable rank: The energy"):
        assert name in text
    assert f"1 of 4 {K_DEAD}" in text
    assert "on some/base" in text
    heat = json.loads(view.heat)["data"][0]
    assert (["0", "1"], ["q_proj", "v_proj"]) == (heat["x"], heat["y"])
    assert [["", ""], ["", "×"]] == heat["text"]
    assert "No rank is recommended. The energy is spread over most of the rank" in text_of(view.choices)


def test_a_finished_run_of_this_machine_is_offered_and_opened_by_its_id(api):
    run, without = finished(api, {4: 1.0, 8: 1.0}).runs
    two_blocks(api.workspace.store.run_dir(run.run_id) / "adapter")

    assert ("r = 4, SmolLM2-135M-Instruct on phonemes", run.run_id) == adapter.run_choices(api).choices[1]
    assert (4, run.run_id) == (api.adapters.spectrum(run.run_id).r, api.adapters.spectrum(run.run_id).name)
    with pytest.raises(BadAdapterError, match="has no adapter here: no adapter was saved"):
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
    assert ("Resize to r = 3 and download (361.1 kB)", "primary") == (view.make.value, view.make.variant)
    assert "Recommended: r = 3, since it keeps 99 % of the energy, and its measured loss" in text_of(view.choices)
    assert {"measured loss": [(1, 1.4703), (2, 1.1594), (3, 1.1492), (8, 1.1381), (16, 1.1374)]} == losses_in(view)


@pytest.mark.parametrize("odd", ["", "<script>", "r²", "e²", "r" + "9" * 5000, "e" + "9" * 400])
def test_a_choice_is_a_rank_an_energy_or_else_the_proposed_rank(api, odd):
    chosen = [adapter.choice_of(api, "sample", text)[0] for text in ("r8", "e99", odd)]
    assert [(8, None), (None, 0.99), (3, None)] == chosen


def losses_in(view):
    """The measured losses in the chart, as (rank, loss) by name."""
    traces = [trace for trace in json.loads(view.energy_chart)["data"] if "yaxis" in trace]
    return {trace["name"]: [*zip(trace["x"], trace["y"], strict=True)] for trace in traces}


def test_what_a_fast_curve_measured_of_its_adapter_is_drawn_and_supports_a_rank(api):
    (run,) = fast(api, cuts=CUTS, independent={}).runs
    a, b = factors(70, 64, 70)
    tensors = {f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b}
    save(api.workspace.store.run_dir(run.run_id) / "adapter", tensors, {**CONFIG, "r": 64})

    view = shown(api, run.run_id, choice="")

    after = {"measured loss": [(8, 1.612), (32, 1.601), (64, 1.6)], "after some more steps": [(2, 1.7)]}
    assert after == losses_in(view)
    assert "Recommended: r = 8, since it keeps 99 % of the energy" in text_of(view.choices)
    assert "Resize to r = 8 and" in view.make.value and "primary" == view.make.variant


@pytest.mark.parametrize(
    "ask", [lambda *asked: adapter.choice_of(*asked, ""), lambda api, ref: functions_of(api)["spectrum"](ref)]
)
def test_a_rank_is_proposed_and_a_spectrum_answered_of_many_modules_in_the_line(api, tmp_path, monkeypatch, ask):
    monkeypatch.setattr(adapters, "MANY_MODULES", 3)
    api.adapters.spectrum(folder := str(two_blocks(tmp_path / "mine")))
    api.workspace.children.line = FairLine(1, busy="Busy with others.", seconds=0)

    with api.workspace.children.line.turn(), pytest.raises(BusyError):
        ask(api, folder)
