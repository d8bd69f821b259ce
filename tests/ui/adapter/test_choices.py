"""What an adapter can be resized to: choices with exact sizes, and what is recommended after how many steps."""

import re
from pathlib import Path

import pytest

from rankviz.trained.read import read_adapter
from rankviz.ui.adapter import tab as adapter
from tests.support.models.saved_adapters import two_blocks
from tests.support.runs.finished_runs import finished, text_of
from tests.ui.adapter.views import shown


def test_what_a_resize_comes_to_is_what_the_zip_then_holds(api, tmp_path):
    folder = str(two_blocks(tmp_path / "mine"))

    text = text_of(shown(api, folder, r=1).sizes)
    path, words = adapter.zip_of(api, folder, adapter.BY_RANK, 1, 99, adapter.AS_IT_IS)
    after = read_adapter([Path(path)])

    # (12 + 10) and (12 + 6), twice
    assert "Parameters 80" in text
    assert f"File {after.file.file_bytes:,} bytes" in text
    assert f"mine-r1.zip has r = 1 and {after.file.file_bytes:,} bytes of weights" in text_of(words)
    assert ("mine-r1", 1, 80) == (after.name, after.r, sum(t.size for pair in after.pairs.values() for t in pair))


@pytest.mark.parametrize("source", ["[]", " [ ] "])
def test_where_no_file_is_left_the_tab_is_as_at_the_beginning(api, source):
    slider, *_ = adapter.opened(api, source)

    assert {"__type__": "update"} == slider
    assert "Open a trained LoRA adapter" in text_of(shown(api, adapter.ref_of(source)).top)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": adapter.BY_ENERGY, "energy": 0}, "above 0 % and at most 100 % (got 0 %)"),
        ({"mode": adapter.BY_ENERGY, "energy": 101}, "above 0 % and at most 100 % (got 101 %)"),
        ({"r": 4}, "a resize only lowers the rank: give a rank from 1 to 3"),
    ],
)
def test_a_resize_that_cannot_be_says_why_beside_a_spectrum_that_stays(api, tmp_path, settings, message):
    view = shown(api, str(two_blocks(tmp_path / "mine")), **settings)

    assert message in text_of(view.choices)
    assert not view.make.interactive
    assert "Trained with r = 4" in text_of(view.top)


def test_the_sample_opens_with_its_training_and_choices_with_exact_sizes(api):
    view = shown(api, "sample", r=3)

    assert "400 steps on phonemes" in text_of(view.top)
    assert ["r2", "r3", "r8", "e99"] == re.findall('data-pick="([^"]+)"', view.choices)
    assert 1 == view.choices.count('class="rv-chosen"')
    plan = api.adapters.plan_resize("sample", r=3)
    assert f'title="{plan.file_bytes:,} bytes"' in view.choices
    assert "Resize to r = 3 and download (361.1 kB)" == view.make.value


def test_a_choice_sets_the_rank_or_the_energy():
    def choice(name):
        return adapter.choose(name)

    assert [adapter.BY_RANK, 8] == choice("r8")[:2]
    assert [adapter.BY_ENERGY, 99.0] == choice("e99")[::2]
    assert adapter.BY_RANK not in choice("<script>")
    for odd in ("r²", "e²", "r" + "9" * 5000, "e" + "9" * 400):
        assert choice("<script>") == choice(odd)


def test_after_few_steps_no_rank_is_recommended_and_half_the_trained_one_is_selected(api, tmp_path):
    (run,) = finished(api, {4: 1.0}).runs
    two_blocks(api.workspace.store.run_dir(run.run_id) / "adapter")

    slider, _, _ = adapter.opened(api, run.run_id)
    view = shown(api, run.run_id)

    assert 2 == slider.value
    assert "After 2 steps, the spectrum is mostly noise, so no rank is recommended" in text_of(view.choices)
    assert "secondary" == view.make.variant
    assert [2] == [choice.r for choice, _ in api.adapters.truncations(run.run_id)]
    assert api.adapters.suggested_ranks(run.run_id) is None
    assert "" == shown(api, run.run_id, detailed=True).pattern
