"""What fits on the toy and on real models, what a change costs, what to change, and that sentences keep their word.

Cards are made to measure from the estimate's own figures, so that nothing here depends on a constant's value.
"""

import pytest

from rankviz.api import Api
from rankviz.catalog.hardware import find_gpu, load_assumptions, load_gpus
from rankviz.catalog.models import load_model
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Price, TrainingSetup
from rankviz.core.fit import as_json, changed, decide, fit_in_words, knobs, limits, methods, setting
from rankviz.core.quantity import Range, by_level
from rankviz.paths import ASSETS
from tests.support.runs import questions
from tests.support.runs.toy import ASSUMPTIONS, gpu, layer, model

API = Api()
WIDE = model(
    (
        *(
            layer(f"self_attn.{name}_proj", 2048, width)
            for name, width in zip("qkvo", (2048, 512, 512, 2048), strict=True)
        ),
        *(layer(f"mlp.{name}_proj", 2048, 8192, part="mlp") for name in ("gate", "up")),
        layer("mlp.down_proj", 8192, 2048, part="mlp"),
    ),
    hidden_size=2048,
    intermediate_size=8192,
    num_attention_heads=16,
    num_key_value_heads=4,
    head_dim=128,
    vocab_size=32_000,
    id="toy/wide",
)
"""Wide enough for activations and adapters to count beside the CUDA context."""


def question(**more):
    training = {"max_steps": 10, "gradient_checkpointing": "hf", "framework": "trl", **more.pop("training", {})}
    return questions.question(**{"model_id": "toy/wide", "target_modules": "all-linear", **training} | more)


def on(question, card, spec=WIDE, gpus=None, prices=None):
    return decide(spec, question, card, gpus or (card,), ASSUMPTIONS, prices)


def needs(question, spec=WIDE) -> Range:
    """The band around nvidia-smi's figure, on a card with room to spare."""
    return setting(spec, question, gpu(usable_bytes=2**40), ASSUMPTIONS).row.memory.device_band


def priced(usd_per_hour):
    return Price(usd_per_hour=usd_per_hour, provider="Toy cloud", source="made up", checked="2026-11-25")


@pytest.mark.parametrize(("option", "largest_one"), [("r", 48), ("batch", 5), ("max_length", 1088)])
def test_the_largest_that_fits_is_the_one_the_card_was_made_for(option, largest_one):
    card = gpu(usable_bytes=int(needs(changed(question(), {option: largest_one})).high) + 1)

    limit = next(limit for limit in on(changed(question(), {option: 1}), card).limits if limit.option == option)

    assert largest_one == limit.surely
    assert limit.expected > limit.surely


def test_a_knob_costs_what_asking_again_gives():
    chosen, card = question(), gpu()
    before = setting(WIDE, chosen, card, ASSUMPTIONS).row
    after = setting(WIDE, changed(chosen, {"r": 32}), card, ASSUMPTIONS).row

    knob = next(knob for knob in on(chosen, card).knobs if dict(knob.change) == {"r": 32})

    assert after.memory.device - before.memory.device == knob.device_bytes > 0
    assert pytest.approx(after.duration.total.expected - before.duration.total.expected) == knob.seconds
    assert pytest.approx(knob.seconds / 3600 * 3.6) == knob.usd
    assert "fits" == knob.fit


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

    names = [card.gpu_id for card in decided.cards]
    assert ["e-cheap", "c-dear", "d-slow-but-cheap-an-hour"] == names[:3]
    assert {"b-unpriced", "f-unknown-speed"} == set(names[3:5])
    assert ["a-small", "g-no-bf16"] == names[5:]
    assert [None, None] == [card.usd for card in decided.cards[3:5]]
    assert "Choose precision fp16" in decided.cards[-1].reason
    own = on(question(training={"precision": "bf16"}), cards[4], gpus=cards, prices={"e-cheap": 8.0})
    card = next(card for card in own.cards if card.gpu_id == "e-cheap")
    assert card.usd == next(each.usd for each in own.methods if each.chosen) == decided.cards[0].usd.times(4)


HEAVY = {"loss_path": "full", "optim": "adamw_torch", "per_device_train_batch_size": 4}


def test_of_changes_that_keep_the_result_the_one_that_adds_no_time_comes_first():
    """A smaller batch would do as well, but launches more kernels."""
    chosen = question(training=HEAVY)
    either = max(needs(changed(chosen, change)).high for change in ({"loss_path": "fused"}, {"batch": 1, "accum": 16}))

    decided = on(chosen, gpu(usable_bytes=int(either) + 1))

    assert {"loss_path": "fused"} == dict(decided.smallest.change)
    assert decided.sentence.startswith("Smallest change that makes it fit: fused loss (")


def test_where_nothing_is_enough_the_answer_has_what_helps_most_and_each_change_the_parts_it_moves():
    answer = as_json(on(question(training=HEAVY), gpu(usable_bytes=2**20)))

    assert answer["smallest_change"] is None
    assert min(answer["knobs"], key=lambda knob: knob["device_bytes"]) == answer["helps_most"]
    assert f"makes it fit: {answer['helps_most']['label']} helps most (" in answer["sentence"]
    peaks = {knob["label"]: knob["peak"] for knob in answer["knobs"]}
    assert "Peak: activations 160 MiB → 1.11 GiB, logits 2.93 GiB → 0 MiB" == peaks["fused loss"]


def of_catalogue(model, card, r, **training):
    asked = Question(model_id=model, ranks=(r,), gpu=card, training=TrainingSetup(**training))
    card = find_gpu(load_gpus(ASSETS), card)
    return setting(load_model(ASSETS, model), asked, card, load_assumptions(ASSETS))


def test_where_loading_takes_most_the_sentences_quote_it_and_no_rank_helps():
    """Loading decides the verdict on a T4, so no sentence quotes the training step, which would fit."""
    start = of_catalogue("Qwen/Qwen3-30B-A3B", "t4", 8, max_length=128, per_device_train_batch_size=1)
    start = setting(start.model, changed(start.question, {"targets": "attention"}), start.gpu, start.assumptions)
    loading = f"{start.row.memory.while_loading / 2**30:.2f} GiB"

    sentence = fit_in_words(start)

    assert start.row.memory.while_loading > start.row.memory.device
    assert f"{loading} expected while loading" in sentence
    assert f"r = 1 does not fit: {loading} expected while loading" in limits(start)[0].note
    assert "no setting lowers what loading takes" in sentence
    assert any(f"Loading takes {loading}" in note for note in by_level(start.notes)[0])


def test_a_checkpoint_that_loads_in_16_bit_alone_is_estimated_so_and_offered_no_4_bit():
    start, half = (
        of_catalogue("openai/gpt-oss-20b", "l40s", 16, framework="trl", precision=each) for each in ("nf4", "bf16")
    )

    assert (start.row, "bf16") == (half.row, start.question.training.precision)
    assert not any("4-bit" in knob.label for knob in knobs(start))
    assert ["lora", "full"] == [method.name for method in methods(start)]


RANKS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32, 48, 64, 128, 256)
MODELS = ("openai/gpt-oss-20b", "Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-14B")
CARDS = ("T4", "L4")


def question_of(model_id, gpu, ranks):
    setup = {"framework": "unsloth", "precision": "nf4-dq", "per_device_train_batch_size": 2, "max_length": 2048}
    return questions.question(model_id, ranks=ranks, gpu=gpu, target_modules="unsloth", max_steps=10, **setup)


@pytest.mark.parametrize("gpu", CARDS)
@pytest.mark.parametrize("model_id", MODELS)
def test_the_largest_rank_is_no_smaller_than_any_that_an_estimate_lets_fit(model_id, gpu):
    ranks = API.estimates.estimate(question_of(model_id, gpu, RANKS)).estimate.ranks
    limits = {each.option: each for each in API.estimates.fit(question_of(model_id, gpu, (2,)), 2).limits}

    surely = [rank.r for rank in ranks if rank.fit in ("fits", "tight")]
    expected = [rank.r for rank in ranks if rank.margin_bytes >= 0]
    assert max(surely, default=0) <= (limits["r"].surely or 0)
    assert max(expected, default=0) <= (limits["r"].expected or 0)


@pytest.mark.parametrize(("name", "limit", "why"), [("gpt2", 1024, "index error"), ("Qwen3-4B", 40_960, "not trained")])
def test_above_the_models_own_limit_of_tokens_a_caution_says_what_happens(name, limit, why):
    asked = questions.question(name, target_modules="all-linear", framework="trl", gpu="h200-sxm", max_length=limit)

    assert f"the model itself takes at most {limit:,} tokens" in API.estimates.fit(asked, 16).limits[-1].note
    for above in (0, 1):
        each = changed(asked, {"max_length": limit + above})
        notes = *by_level(API.estimates.estimate(each).estimate.notes)[0], *API.advice.export(each, 16).notes
        assert 2 * above == sum(why in note and f"at most {limit:,}." in note for note in notes)
