"""The form of Train as a request, a stored sweep as the form, and Explore's question as the form that measures it."""

import pytest

from rankviz.core.lora.config import FLAGS
from rankviz.core.runs.request import quick_look, rate_first
from rankviz.errors import InvalidSettingError
from rankviz.ui.parts import question
from rankviz.ui.train.form import measuring, mode_chosen, request_of, values_of
from tests.support.runs import questions
from tests.support.web.tabs import FORM

ASKED = {**question.DEFAULTS, "data_file": None}


@pytest.mark.parametrize(
    ("unsloth_class", "parts", "flags"),
    [
        ("FastLanguageModel", ["language", "attention", "mlp"], (None, None, None, None)),
        ("FastLanguageModel", ["language", "attention"], (False, True, True, False)),
        ("FastModel", ["language", "attention", "mlp"], (False, True, True, True)),
    ],
)
def test_unsloths_class_and_parts_become_flags_where_they_are_not_the_classs_own_default(unsloth_class, parts, flags):
    request = request_of({**FORM, "unsloth_class": unsloth_class, "parts": parts})

    assert (unsloth_class, flags) == (request.lora.unsloth_class, request.lora.flags)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mode": "quick", "alpha_rule": "r"}, "A quick look needs a fixed alpha, such as 32 .got r."),
        (
            {"mode": "fast", "independent": "16"},
            "An independent run must have a lower rank than the truncated one, r = 16",
        ),
        ({"mode": "single"}, "A single run takes one rank .got 2.: clear the others, or choose Sweep."),
    ],
)
def test_a_mode_that_doesnt_fit_the_ranks_says_so(settings, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        request_of({**FORM, **settings})


def test_what_one_entered_stays_in_another_mode_and_a_modes_defaults_do_not():
    own = mode_chosen(mode="sweep", ranks=["8", "32"], steps=30, held_out=16)
    usual = mode_chosen(mode="single", ranks=["64", "4"], steps=24, held_out=32)

    assert not any("value" in each for each in (own.ranks, own.steps, own.held_out))
    assert (["16"], 40, 64) == (usual.ranks.value, usual.steps, usual.held_out)


@pytest.mark.parametrize(
    "field", ("steps", "seeds", "batch", "accumulation", "max_length", "held_out", "exact_match", "answers")
)
def test_an_emptied_number_is_refused_not_replaced_by_the_default(field):
    with pytest.raises(InvalidSettingError, match="must be"):
        request_of({**FORM, field: None})


@pytest.mark.parametrize(
    "request_",
    [
        quick_look(questions.sweep(data="pairs", max_steps=12, r=1), (4, 64)),
        quick_look(questions.sweep(lora_alpha="16"), (2, 24)),
        quick_look(questions.sweep(), repeat=False),
        rate_first(questions.sweep()),
        questions.sweep(ranks=(8, 64), cut_ranks=(1, 4, 8), exact_match_examples=8),
        questions.sweep(ranks=(4, 16, 512), lora_alpha="2r", learning_rates=(3e-4, 1e-3), seeds=(0, 1, 2)),
        questions.sweep(ranks=(16,), base="owner/model", target_modules=("q_proj", "v_proj"), use_dora=True),
        questions.sweep(
            ranks=(4, 16), precision="bf16", max_length=64, **dict(zip(FLAGS, (False, True, True, False), strict=True))
        ),
        questions.sweep(ranks=(4, 8), data="/data/letters.jsonl", use_rslora=True, shown_answers=0),
    ],
)
def test_a_stored_sweep_fills_the_form_that_asks_for_the_same_sweep(request_):
    runs = request_.runs(sweep_id="s", created_at=0.0)

    again = request_of(values_of(runs, ["phonemes", "syllables", "pairs"])).runs(sweep_id="s", created_at=0.0)

    assert sorted(runs, key=repr) == sorted(again, key=repr)


def test_explores_question_is_measured_by_a_quick_look_of_its_model_and_adapter(api):
    asked = {**ASKED, "model": "Qwen/Qwen3-4B", "preset": "attention", "rslora": True, "batch": 1}

    request = request_of(measuring(api, asked))

    assert ("Qwen/Qwen3-4B", (4, 64), (4, 8, 16, 32)) == (request.base, request.ranks, request.cut_ranks)
    assert ("attention", True, 1) == (
        request.lora.target_modules,
        request.lora.use_rslora,
        request.training.per_device_train_batch_size,
    )
    assert (3e-4,) == request.learning_rates  # as the card recommends
    assert "auto" == request.training.precision or api.workspace.here().cuda


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("seeds", 30_000_000, "The number of seeds must be a whole number from 1 to 256 (got 30,000,000)."),
        ("learning_rates", "1e-3," * 30_000_000, "Learning rates can have at most 2,000 characters"),
        ("other_ranks", "9" * 5000, "Ranks can have at most 2,000 characters (got 5,000)."),
        ("learning_rates", ",".join(f"{n}e-6" for n in range(1, 300)), "A sweep needs 1 to 256 learning rates"),
    ],
)
def test_lists_are_bounded_before_they_are_made(field, value, sentence):
    with pytest.raises(InvalidSettingError) as refusal:
        request_of({**FORM, field: value})

    assert sentence in str(refusal.value)
    assert len(str(refusal.value)) < 200
