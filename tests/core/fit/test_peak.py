"""What a change does to the peak of memory, part by part."""

from types import SimpleNamespace

import pytest

from rankviz.catalog.models import load_model
from rankviz.core.cost.question import Question
from rankviz.core.fit.changes import PARTS, peak_words, setting
from rankviz.ui.explore.fit import knobs_html
from tests.core.fit.test_fit import on, question
from tests.support.runs.toy import ASSETS, ASSUMPTIONS, gpu

MIB = 2**20


def memory(static, activations, logits, other=0):
    sizes = {"static": static, "activations": activations, "logits": logits, "other": other}
    return SimpleNamespace(**{name: size * MIB for name, size in sizes.items()})


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            memory(651, 56, 264),
            memory(651, 416, 0),
            "Peak: activations 56 MiB → 416 MiB, logits 264 MiB → 0 MiB; 651 MiB of weights and optimizer states stay",
        ),
        (
            memory(3048, 4224, 0, 95),
            memory(3048, 8448, 0, 95),
            "Peak: activations 4.12 GiB → 8.25 GiB; 2.98 GiB of weights and optimizer states stay",
        ),
        (
            memory(651, 0, 264),
            memory(748, 0, 264),
            "Peak: weights and optimizer states 651 MiB → 748 MiB; 264 MiB of logits stay",
        ),
        (memory(651, 56, 264), memory(651, 56, 264), "Peak: no part changes"),
    ],
)
def test_the_parts_that_change_come_first_and_the_largest_of_the_rest_stays(before, after, words):
    assert words == peak_words(before, after)


def test_the_parts_add_up_to_what_is_allocated():
    """In 4 bit the peak holds scratch too: one weight unpacked."""
    asked = Question(model_id="Qwen/Qwen3-4B")
    estimate = setting(load_model(ASSETS, "Qwen/Qwen3-4B"), asked, None, ASSUMPTIONS).row.memory

    assert estimate.other > 0
    assert estimate.allocated == sum(getattr(estimate, field) for field in PARTS.values())


def test_a_doubled_length_says_so_in_its_row_and_a_rank_on_hover_alone():
    decided = on(question(), gpu())

    html = knobs_html(decided)

    longer = next(knob for knob in decided.knobs if knob.change.get("max_length") == 4096)
    higher = next(knob for knob in decided.knobs if "r" in knob.change)
    assert f'<span class="rv-under">{longer.peak}</span>' in html
    assert longer.peak.startswith("Peak: activations ")
    assert higher.peak.startswith("Peak: weights and optimizer states ")
    assert f'<span class="rv-under">{higher.peak}</span>' not in html
    assert f"Changes the training result. {higher.peak}." in html
