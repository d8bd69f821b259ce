"""Pinned configurations side by side."""

import pytest

from rankviz.api import Api
from rankviz.errors import InvalidSettingError
from rankviz.ui.explore.compare import compare
from tests.support.runs.finished_runs import text_of

LLAMA, QWEN = "?model=meta-llama/Llama-3.1-8B&r=16", "?model=Qwen/Qwen3-8B&r=64&dora=1"


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def test_only_rows_that_differ_are_marked(api):
    marked = compare(api, {"pins": [LLAMA, QWEN]})["html"].split("<tr")
    differing = [text_of("<tr" + row).split("differs: ")[1] for row in marked if "rv-differs" in row]

    assert {"DoRA", "Rank", "Adapter"} <= {row.split()[0] for row in differing}
    assert 0 == compare(api, {"pins": [LLAMA, LLAMA]})["html"].count("rv-differs")


def test_each_has_a_chart_with_its_rank_on_axes_of_its_own(api):
    first, second = compare(api, {"pins": [LLAMA, QWEN]})["charts"]

    assert ["A: Llama-3.1-8B, r = 16", "B: Qwen3-8B, r = 64"] == [first["title"], second["title"]]
    every = next(trace for trace in first["data"] if trace["name"] == "every rank")
    assert [every["x"][15]] == [shape["x0"] for shape in first["layout"]["shapes"]]
    assert first["layout"]["height"] == second["layout"]["height"]


@pytest.mark.parametrize("pins", [None, "x", [1], ["?r=8"] * 5, ["?" + "x" * 3000]])
def test_what_no_page_pins_is_refused(api, pins):
    with pytest.raises(InvalidSettingError):
        compare(api, {"pins": pins})


@pytest.mark.parametrize("bad", ["?model=nosuch", "?r=9999"])
def test_a_pin_that_cannot_be_shown_says_why_beside_the_others_and_can_be_unpinned(api, bad):
    shown = compare(api, {"pins": [LLAMA, bad]})

    text = text_of(shown["html"])
    assert "41.94 M" in text and "Cannot be shown" in text
    assert 2 == shown["html"].count("data-unpin")


@pytest.mark.parametrize("axis", [[], {}, 3])
def test_an_axis_that_is_no_text_is_refused_or_passed_over(api, axis):
    assert "41.94 M" in text_of(compare(api, {"pins": [LLAMA], "y": axis})["html"])
    if axis:
        with pytest.raises(InvalidSettingError, match="Cost axis"):
            compare(api, {"pins": [LLAMA], "x": axis})


def test_a_pin_cannot_write_into_the_page(api):
    assert "<img" not in compare(api, {"pins": [LLAMA + "&x=<img src=x>"]})["html"]
