"""The table of GPUs: verdict, total and price, at one's own prices too."""

import pytest

from rankviz.errors import InvalidSettingError
from tests.core.fit.toy_fits import needs, on, priced, question
from tests.support.runs.toy import gpu


def test_gpus_stand_by_verdict_then_by_total_and_what_is_not_known_comes_last():
    roomy = 2**40
    cards = (
        gpu(id="a-small", usable_bytes=2**20),
        gpu(id="b-unpriced", usable_bytes=roomy, prices=()),
        gpu(id="c-dear", usable_bytes=roomy, prices=(priced(4.0),)),
        gpu(id="d-slow-but-cheap-an-hour", usable_bytes=roomy, prices=(priced(1.0),), bf16_flops_per_second=1e11),
        gpu(id="e-cheap", usable_bytes=roomy, prices=(priced(2.0),)),
        gpu(id="f-unknown-speed", usable_bytes=roomy, bf16_flops_per_second=None),
        gpu(id="g-no-bf16", usable_bytes=roomy, supports_bf16=False),
    )

    decided = on(question(training={"precision": "bf16"}), cards[4], gpus=cards)

    names = [card.gpu.id for card in decided.cards]
    assert ["e-cheap", "c-dear", "d-slow-but-cheap-an-hour"] == names[:3]
    assert {"b-unpriced", "f-unknown-speed"} == set(names[3:5])
    assert ["a-small", "g-no-bf16"] == names[5:]
    assert [None, None] == [card.usd for card in decided.cards[3:5]]
    assert "Choose precision fp16" in decided.cards[-1].reason


def test_the_margin_is_against_usable_memory_at_both_ends_of_the_band():
    card = gpu(usable_bytes=22 * 2**30)

    spare = on(question(), card).setting.spare

    band = needs(question())
    assert (22 * 2**30 - band.high, 22 * 2**30 - band.low) == (spare.low, spare.high)


def test_ones_own_prices_replace_the_tables_and_reorder_it():
    cheap, dear = gpu(id="cheap", prices=(priced(1.0),)), gpu(id="dear", prices=(priced(2.0),))

    decided = on(question(), cheap, gpus=(cheap, dear), prices={"dear": 0.5})

    assert ["dear", "cheap"] == [card.gpu.id for card in decided.cards]
    assert "your own price" == decided.cards[0].price.provider
    assert pytest.approx(decided.cards[0].usd.expected * 2) == decided.cards[1].usd.expected


def test_the_questions_own_price_holds_for_its_card_alone():
    here, there = gpu(id="here"), gpu(id="there")

    decided = on(question(gpu="here", usd_per_hour=0.1), here, gpus=(here, there))

    assert {"here": 0.1, "there": 3.6} == {card.gpu.id: card.price.usd_per_hour for card in decided.cards}


@pytest.mark.parametrize("price", [-0.5, float("nan"), float("inf"), "cheap", True])
def test_a_price_that_cant_be_names_the_card_and_what_to_give(price):
    with pytest.raises(InvalidSettingError) as error:
        on(question(), gpu(), prices={"toy-card": price})

    message = f"The price per hour of the Toy card must be a number from 0 to 1,000,000 (got {price!r})."
    assert message == str(error.value)
