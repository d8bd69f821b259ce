"""The Adapter tab, as Gradio calls it."""

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import AdapterSaved
from rankviz.errors import BadAdapterError, InvalidSettingError
from rankviz.ui.adapter import tab as adapter
from rankviz.ui.page import build_app
from rankviz.visitor import acting_as
from tests.support.models.saved_adapters import Q, factors, save, two_blocks
from tests.support.runs.finished_runs import finished, text_of
from tests.support.runs.toy import ASSETS
from tests.support.web.visitors import ANN
from tests.ui.adapter.views import K_DEAD, figure, shown, texts


def test_the_page_is_built_without_reading_an_adapter_and_the_tab_tells_of_the_sample_when_it_is_opened(api, tmp_path):
    others = tmp_path / "assets"
    others.mkdir()
    for each in ASSETS.iterdir():
        if each.name != "sample_adapter":
            (others / each.name).symlink_to(each)

    build_app(Api(home=tmp_path / "home", assets=others, shared=False))
    choices, top = adapter.run_choices(api), shown(api, "").top

    assert [("Sample: r = 16, SmolLM2-135M-Instruct on phonemes", "sample")] == choices.choices
    assert "r = 16, 400 steps on phonemes" in text_of(top)


def test_an_adapter_is_a_sentence_numbers_pictures_and_a_table(api, tmp_path):
    view = shown(api, str(two_blocks(tmp_path / "mine", base_model_name_or_path="some/base")))

    assert (False, True) == (view.sample.visible, view.parts.visible)
    text = text_of(view.top)
    assert "Trained with r = 4. 99 % of the update&#x27;s energy needs the full rank; r = 2 keeps 90 %." in text
    assert "α 8, scale 2, fp32" in text
    for name in ("Energy: The squared", "Effective rank: How many", "Stable rank: The energy"):
        assert name in text
    assert f"1 of 4 {K_DEAD}" in text
    assert "on some/base" in text
    heat = figure(view.heat)["data"][0]
    assert (["0", "1"], ["q_proj", "v_proj"]) == (heat["x"], heat["y"])
    assert [["", ""], ["", "×"]] == heat["text"]
    assert 5 == view.table.count("<tr")
    assert "no update" in text_of(view.table)
    assert "rank_pattern={" in view.pattern.replace("&quot;", '"')


def test_a_click_on_a_module_shows_its_singular_values(api, tmp_path):
    folder = two_blocks(tmp_path / "mine")
    name = "model.layers.1.self_attn.q_proj"

    values = figure(shown(api, str(folder), cell=name).values)

    faint, strong = values["data"]
    assert name == strong["name"]
    assert strong["y"] == pytest.approx(api.adapters.spectrum(str(folder)).layers[2].singular_values)
    assert "log" == values["layout"]["yaxis"]["type"]
    assert 5 == len(faint["y"])  # the same module in block 0, and a gap
    assert 2.5 == values["layout"]["shapes"][0]["x0"]


def test_what_is_no_adapter_gives_a_notice_and_the_one_before_is_gone(api, tmp_path):
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")

    view = shown(api, [str(tmp_path / "adapter_model.bin")])

    assert "pickle files can run code" in text_of(view.notice)
    assert (True, False) == (view.sample.visible, view.parts.visible)


def test_a_finished_run_of_this_machine_is_offered_and_opened_by_its_id(api):
    run, without = finished(api, {4: 1.0, 8: 1.0}).runs
    two_blocks(api.workspace.store.run_dir(run.run_id) / "adapter")

    choices = adapter.run_choices(api).choices

    assert [
        ("Sample: r = 16, SmolLM2-135M-Instruct on phonemes", "sample"),
        ("r = 4, SmolLM2-135M-Instruct on phonemes", run.run_id),
    ] == choices
    assert (4, run.run_id) == (api.adapters.spectrum(run.run_id).r, api.adapters.spectrum(run.run_id).name)
    with pytest.raises(BadAdapterError, match="has no adapter here: no adapter was saved, or the run was imported"):
        api.adapters.spectrum(without.run_id)


def test_a_run_cannot_name_a_folder_outside_its_own(api, tmp_path):
    """A journal may have been imported: what it says of a path is not followed out of the run."""
    (run,) = finished(api, {4: 1.0}).runs
    two_blocks(tmp_path / "elsewhere")
    api.workspace.store.append(run.run_id, AdapterSaved(time=9.5, path=str(tmp_path / "elsewhere"), file_bytes=1))

    assert [] == list(api.adapters.runs())
    with pytest.raises(BadAdapterError, match="has no adapter here"):
        api.adapters.spectrum(run.run_id)


def test_a_shared_page_reads_uploads_and_its_runs_and_nothing_else(tmp_path, monkeypatch):
    api = Api(home=tmp_path / "home", assets=ASSETS, shared=True)
    private = two_blocks(tmp_path / "private")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    with acting_as(ANN):
        (run,) = finished(api, {4: 1.0}).runs
    two_blocks(api.workspace.store.run_dir(run.run_id) / "adapter")

    for source in (str(private), [str(private / "adapter_model.safetensors"), str(private / "adapter_config.json")]):
        with pytest.raises(InvalidSettingError, match="This page is shared"):
            api.adapters.spectrum(source)
    upload = sorted(two_blocks(tmp_path / "uploads" / "mine").iterdir())
    for path in upload:
        api.workspace.temp.own(path, ANN.id)
    with acting_as(ANN):
        assert 4 == api.adapters.spectrum([str(path) for path in upload]).r
        assert 4 == api.adapters.spectrum(run.run_id).r


def test_names_from_the_file_are_shown_as_text(api, tmp_path):
    """What no module can be called is no factor, and what is kept is named as text."""
    a, b = factors(10, 4, 12)
    odd = "base_model.model.<img src=x onerror=alert(1)>"
    tensors = {f"{name}.lora_{side}.weight": x for name in (odd, Q) for side, x in (("A", a), ("B", b))}
    folder = save(tmp_path / "mine", tensors)

    view = shown(api, str(folder))

    assert "<img" not in "".join(texts(view))
    assert 1 == len(api.adapters.spectrum(str(folder)).layers)


@pytest.mark.parametrize("ref", ["~nobody-of-this-name/x", "no adapter!"])
def test_what_can_be_no_place_gets_one_sentence(api, ref):
    notice = text_of(shown(api, ref).notice)

    assert notice.startswith("There is no adapter ")
    assert len(notice) < 200
    assert notice.endswith("here: give its files, a run&#x27;s id or a Hub id (owner/name).")
