"""Sentences on fit say what the estimate says: each claim about a change is asked again."""

import random
import re
from dataclasses import replace

import pytest

from rankviz.catalog.hardware import find_gpu, load_assumptions, load_gpus
from rankviz.catalog.models import load_index, load_model
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.fit.changes import changed, knobs, limits, setting
from rankviz.core.fit.decide import fit_in_words
from rankviz.core.lora.config import LoraConfig
from rankviz.core.quantity import by_level
from rankviz.errors import InvalidSettingError
from rankviz.paths import ASSETS
from tests.core.fit.toy_fits import WIDE, card_for, needs, question
from tests.support.runs.toy import ASSUMPTIONS, gpu

ALONE = {
    "a lower rank": {"r": 1},
    "a smaller batch": {"batch": 1, "accum": 8},
    "a shorter length": {"max_length": 1},
}


def of_catalogue(model, card, r, **training):
    asked = Question(model_id=model, ranks=(r,), gpu=card, training=TrainingSetup(**training))
    card = find_gpu(load_gpus(ASSETS), card)
    return setting(load_model(ASSETS, model), asked, card, load_assumptions(ASSETS))


def test_where_a_lower_rank_makes_it_fit_and_batch_and_length_do_not_it_says_so():
    """The experts of this model have adapters: a quarter of the rank takes 4 GiB less."""
    start = of_catalogue("Qwen/Qwen3-30B-A3B", "l4", 16)

    sentence = fit_in_words(start)

    assert sentence.startswith("r = 16 does not fit L4: ")
    assert "Smallest change that makes it fit: r = 4 (" in sentence
    assert sentence.endswith("A smaller batch or a shorter length alone is not enough.")


@pytest.mark.parametrize(
    ("model", "length"), [("mistralai/Mistral-Small-24B-Base-2501", 512), ("Qwen/Qwen3-30B-A3B", 128)]
)
def test_where_loading_takes_most_the_sentences_quote_it_and_no_rank_helps(model, length):
    """Loading decides the verdict on a T4, so no sentence quotes the training step, which would fit."""
    start = of_catalogue(model, "t4", 8, max_length=length, per_device_train_batch_size=1)
    start = start.with_change({"targets": "attention"})
    loading = f"{start.row.memory.while_loading / 2**30:.2f} GiB"

    sentence = fit_in_words(start)

    assert start.row.memory.while_loading > start.row.memory.device
    assert f"{loading} expected while loading" in sentence
    assert f"r = 1 does not fit: {loading} needed while loading" in limits(start)[0].note
    assert "helps most" not in sentence and "no setting lowers what loading takes" in sentence
    assert any(f"Loading takes {loading}" in note for note in by_level(start.answer.notes)[0])


@pytest.mark.parametrize("r", [1, 8, 16, 64, 256])
@pytest.mark.parametrize(
    "model", ["Qwen/Qwen3-30B-A3B", "meta-llama/Llama-3.1-8B", "openai/gpt-oss-20b", "Qwen/Qwen3-32B"]
)
@pytest.mark.parametrize("card", ["t4", "l4"])
def test_every_change_that_a_sentence_names_does_what_it_says(model, card, r):
    start = of_catalogue(model, card, r, max_steps=100)

    sentence = fit_in_words(start).lower()

    assert sentence.startswith((f"r = {r} ", f"whether r = {r} fits "))
    named = re.search(r"change that makes it fit: r = (\d+) ", sentence)
    assert named is None or start.with_change({"r": int(named[1])}).row.fit in ("fits", "tight")
    not_enough = sentence.partition("change that makes it fit: ")[2].partition(". ")[2]
    for words, change in ALONE.items():
        assert words not in not_enough or start.with_change(change).row.fit not in ("fits", "tight"), words


def test_a_rank_that_fits_is_said_to():
    chosen = question()
    start = setting(WIDE, chosen, card_for(chosen), ASSUMPTIONS)

    assert fit_in_words(start).startswith("r = 16 barely fits ")
    assert "No GPU is selected, so it is not known whether the run fits." == fit_in_words(
        setting(WIDE, chosen, None, ASSUMPTIONS)
    )


def test_where_rank_is_too_little_it_is_not_named_as_a_remedy():
    tiny = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    chosen = question(training=tiny)
    roomy = int(needs(changed(chosen, {"batch": 1, "accum": 8})).high) + 1

    sentence = fit_in_words(
        setting(
            WIDE, replace(chosen, lora=LoraConfig(target_modules="all-linear")), gpu(usable_bytes=roomy), ASSUMPTIONS
        )
    )

    assert "makes it fit: batch 1, accumulation 8 (" in sentence
    assert "A lower rank alone is not enough." in sentence


def test_where_only_a_length_below_half_fits_that_is_the_change():
    training = {"framework": "peft", "gradient_checkpointing": "hf", "max_length": 2048, "max_steps": 100}
    start = of_catalogue("google/gemma-2-27b", "l4", 1, **training)

    sentence = fit_in_words(start)

    (length,) = re.findall("makes it fit: a length of at most ([0-9]+) tokens", sentence)
    assert start.with_change({"max_length": int(length)}).row.fit in ("fits", "tight")
    assert "A lower rank" not in sentence


@pytest.mark.parametrize(
    ("change", "label"),
    [({"precision": "nf4-dq"}, "double quantization"), ({"dora": False}, "LoRA instead of DoRA")],
)
def test_double_quantization_and_no_dora_are_changes(change, label):
    tiny = {"per_device_train_batch_size": 1, "max_length": 1, "precision": "nf4"}
    chosen = question(ranks=(1,), training=tiny, use_dora="dora" in change)

    start = setting(WIDE, chosen, card_for(changed(chosen, change)), ASSUMPTIONS)

    assert f"makes it fit: {label} (" in fit_in_words(start)


def test_no_sentence_contradicts_the_tables():
    """Forty settings drawn at random: a change that the tables show to fit is never said not to exist."""
    draw, models = random.Random(3), load_index(ASSETS)
    no_change = 0
    for _ in range(40):
        training = {
            "framework": draw.choice(["trl", "peft"]),
            "precision": draw.choice(["bf16", "nf4"]),
            "gradient_checkpointing": "hf",
            "per_device_train_batch_size": draw.choice([1, 2]),
            "max_length": draw.choice([2048, 8192, 32768]),
        }
        model, r = draw.choice(models).id, draw.choice([1, 16])
        try:
            start = of_catalogue(model, draw.choice(["a10", "l4", "rtx-4090"]), r, **training)
        except InvalidSettingError:
            continue

        sentence = fit_in_words(start)

        if "No single change" in sentence:
            no_change += 1
            assert not any(knob.makes_it_fit for knob in knobs(start)), sentence
            for words, change in {**ALONE, "": {"max_length": 128}}.items():
                assert start.with_change(change).row.fit not in ("fits", "tight"), f"{words}: {sentence}"
    assert no_change
