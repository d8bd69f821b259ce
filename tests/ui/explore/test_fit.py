"""The fit section as Gradio calls it: values by name in, HTML out, clicks and edits back into the question."""

import re
from types import SimpleNamespace
from urllib.parse import parse_qsl

import pytest

from rankviz.api import Api
from rankviz.errors import InvalidSettingError
from rankviz.ui import link, page
from rankviz.ui.explore import fit
from rankviz.ui.parts import html
from rankviz.ui.parts.question import DEFAULTS, ask, price_text, price_texts, prices_of
from tests.support.runs.finished_runs import text_of

LLAMA = {**DEFAULTS, "model": "meta-llama/Llama-3.1-8B"}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def shown(api, **changes):
    return fit.decisions(api, **{**LLAMA, **changes})


def click(pick):
    return SimpleNamespace(_data={"id": pick})


def applied(pick):
    """The widgets that a click sets."""
    return fit.applied(click(pick))


def test_the_verdict_says_the_margin_against_usable_memory(api):
    setting = api.estimates.fit(ask(LLAMA), LLAMA["r"]).setting

    text = text_of(shown(api).verdict)

    low, high = setting.spare.low / 2**30, setting.spare.high / 2**30
    usable = setting.answer.usable_bytes.expected / 2**30
    assert f"{low:.1f} to {high:.1f} GiB to spare of {usable:.2f} GiB usable on L4" in text


def test_the_rule_is_said_where_something_must_change(api):
    fits, does_not = shown(api), shown(api, model="meta-llama/Llama-3.1-70B", gpu="t4")

    assert "Order of changes: first those that leave the result unchanged" not in fits.verdict
    assert "Order of changes: first those that leave the result unchanged" in does_not.verdict
    assert " GiB short of 14.56 GiB usable on T4" in text_of(does_not.verdict)


def test_tight_is_shown_as_a_kind_of_fitting_with_its_meaning(api):
    view = shown(api, model="openai/gpt-oss-20b", r=8, gpu="t4", precision="nf4", batch=1, max_length=1024)

    assert "✓ fits, tight" in text_of(view.verdict)
    assert "It fits without changes, with less than 5 % to spare." in text_of(view.verdict)
    assert re.search(r"\d+ of 20 GPUs fit, \d+ of them tight \(less than 5 % to spare\);", text_of(view.cards))


def test_without_a_gpu_each_part_says_what_it_can(api):
    view = shown(api, gpu="none")

    assert "No GPU is chosen; the cheapest GPU that fits is the" in view.verdict
    assert "Select a GPU, or click one in the table below." in view.limits
    assert "not known" in view.knobs
    assert "not known" in view.methods
    assert "Fit" not in text_of(view.methods)
    assert 0 == view.cards.count("rv-chosen")


def test_every_change_on_the_page_can_be_clicked_into_the_question(api):
    """Each row's pick is read back by the same table that reads the address."""
    picks = [pick.replace("&amp;", "&") for pick in re.findall(r'data-pick="([^"]+)"', shown(api, batch=4).knobs)]

    assert len(picks) > 8
    for pick in picks:
        _, notes = link.read(dict(parse_qsl(pick)))
        assert [] == notes
        assert applied(pick)


@pytest.mark.parametrize(
    ("pick", "widgets"),
    [
        ("r=32", {"r": 32}),
        ("batch=1&accum=8", {"batch": 1, "accumulation": 8}),
        ("max_length=4096&steps=500", {"max_length": 4096, "length": 500, "length_unit": "steps"}),
        ("max_length=576&tokens=16384000", {"max_length": 576, "length": 16_384_000, "length_unit": "tokens"}),
        ("targets=attention", {"preset": "attention"}),
        ("gpu=t4", {"gpu": "t4"}),
        ("r=5000&batch=1", {}),
        ("frobnicate=1", {}),
    ],
)
def test_a_click_sets_what_the_change_names_and_nothing_else(pick, widgets):
    assert widgets == applied(pick)


def test_the_chosen_gpu_is_the_bold_row_and_every_gpu_has_a_price_to_write_over(api):
    cards = shown(api).cards

    assert '<tr class="rv-chosen" data-pick="gpu=l4">' in cards
    assert 20 == cards.count("data-edit=")
    assert "HF Spaces 1x L4, 2026-08-22" in cards


def test_a_gpu_that_cannot_run_it_says_why(api):
    cards = shown(api, precision="bf16").cards

    assert "cannot run this" in cards
    assert "T4 does not support bf16. Choose precision fp16" in cards
    assert "HF Spaces t4-small, 2026-08-22" in cards


def edit(prices, gpu, chosen="l4"):
    return lambda text: fit.priced(prices, chosen, SimpleNamespace(_data={"id": gpu, "text": text}))


def test_an_edited_price_joins_ones_own_and_an_emptied_one_leaves_them():
    assert "t4:0.2,a10:0.5" == edit("t4:0.2", "a10")("0.5").prices
    assert "t4:0.3" == edit("t4:0.2", "t4")("0.3").prices
    assert "" == edit("t4:0.2", "t4")("  ").prices


def test_an_edit_of_the_chosen_gpus_price_takes_the_place_of_the_box_beside_it():
    assert None is edit("", "l4")("0.5").usd_per_hour
    assert None is not edit("", "t4")("0.5").usd_per_hour


def test_ones_own_price_orders_the_table_and_prices_the_figures(api):
    values = {**LLAMA, "prices": "l4:0.01,t4:9"}

    cards = shown(api, prices=values["prices"]).cards

    assert re.search(r"<tbody><tr[^>]*data-pick=\"gpu=l4\"", cards)
    assert 'value="0.01"' in cards
    assert 0.01 == ask(values).usd_per_hour
    assert 2.0 == ask({**values, "usd_per_hour": 2.0}).usd_per_hour
    assert None is ask({**values, "gpu": "a10"}).usd_per_hour


@pytest.mark.parametrize("text", ["-1", "cheap", "nan", "1 5", ""])
def test_a_price_that_cant_be_is_refused_by_name(text):
    with pytest.raises(InvalidSettingError, match="price per hour of the t4 must be a number from 0"):
        ask({**LLAMA, "prices": f"l4:0.5,t4:{text}"})


def test_an_address_with_a_price_for_a_gpu_that_is_not_in_the_table_says_so_and_shows_the_tables(api):
    restored = page.restore(api, {"prices": "abacus:1", "r": "8"})

    assert "No GPU &#x27;abacus&#x27; in the table" in restored.notice
    assert ("", 8) == (restored.question["prices"], restored.question["r"])


def test_prices_are_read_as_they_are_written_whatever_is_written():
    assert [("l4", "1 5"), ("t4", "0.2")] == price_texts(price_text({"l4": "1,5", "t4": "0.2"}))
    assert {"l4": 0.5} == prices_of("l4:0.5")
    assert {} == prices_of("")


def test_a_box_in_a_cell_is_named_and_escaped():
    cell = html.Cell('"><img>', edit='"><img>', title='"><img>')

    markup = html.table(["a"], [html.Row(cells=[cell])], label="x")

    assert "<img" not in markup
    assert 'aria-label="&quot;&gt;&lt;img&gt;"' in markup
