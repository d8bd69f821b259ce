"""The form of Train as a request, a stored sweep as the form, and Explore's question as the form that measures it."""

import pytest

from rankviz.api import Api
from rankviz.errors import InvalidSettingError
from rankviz.ui.parts import question
from rankviz.ui.train.form import measuring, mode_chosen, request_of
from tests.support.web.train_form import FORM

ASKED = {**question.DEFAULTS, "data_file": None}


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


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


def test_ranks_that_one_ticked_stay_in_another_mode_and_a_modes_default_ranks_do_not():
    assert "value" not in mode_chosen(mode="sweep", ranks=["8", "32"]).ranks
    assert ["16"] == mode_chosen(mode="single", ranks=["64", "4"]).ranks.value


@pytest.mark.parametrize(
    "field", ("steps", "seeds", "batch", "accumulation", "max_length", "held_out", "exact_match", "answers")
)
def test_an_emptied_number_is_refused_not_replaced_by_the_default(field):
    with pytest.raises(InvalidSettingError, match="must be"):
        request_of({**FORM, field: None})


def test_explores_question_is_measured_by_a_quick_look_of_its_model_and_adapter(api):
    asked = {**ASKED, "model": "Qwen/Qwen3-4B", "preset": "attention", "rslora": True, "batch": 1}

    request = request_of(measuring(api, asked))

    assert ("Qwen/Qwen3-4B", (4, 64), (1, 2, 4, 8, 16, 32)) == (request.base, request.ranks, request.cut_ranks)
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
