"""The export in each format: the adapter that was requested, or a note that says what it is instead."""

import json
import re

import pytest
import yaml

from rankviz.core.advice.use_case import Goal
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.core.lora.config import UNSLOTH_VERSION
from rankviz.errors import InvalidSettingError
from rankviz.export import FORMATS, LEARNING_RATE
from rankviz.export.formats import adapter_config
from rankviz.export.script import header
from tests.support.models.recipes import SETTINGS, made
from tests.support.quick import first_quick
from tests.support.runs import questions

MOE = "Qwen/Qwen3-30B-A3B"


def test_the_learning_rate_is_the_one_given_or_that_of_the_use_case(api):
    question, goal = Question(model_id="Qwen/Qwen3-4B"), Goal(use_case="pretraining")
    advised = api.advice.advise(question, goal).advice.learning_rate

    assert advised != LEARNING_RATE
    assert f"learning_rate={LEARNING_RATE:g}," in api.exports.write(question, 16).text
    assert f"learning_rate={advised:g}," in api.exports.write(question, 16, goal=goal).text
    assert "learning_rate=0.001," in api.exports.write(question, 16, learning_rate=1e-3, goal=goal).text


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_names_the_model_the_rank_and_the_alpha(api, name):
    written = api.exports.write(Question(model_id="Qwen/Qwen3-4B", alpha="2r"), 24, name)

    assert "Qwen/Qwen3-4B" in written.text
    assert "24" in written.text
    assert "48" in written.text
    assert () == written.notes[name == "colab" :]  # there the first is the estimate for a T4


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("model", first_quick([MOE, "openai/gpt-oss-20b", "google/gemma-3-4b-it"]))
def test_names_in_place_of_all_linear_are_explained_by_the_flag_in_every_format(api, model, name):
    question = questions.question(model, target_modules="all-linear", finetune_mlp_modules=False)

    written = api.exports.write(question, 8, name)

    (note,) = (note for note in written.notes if "ignores its flags beside the word all-linear" in note)
    assert "q_proj" in note
    assert not re.search(r"""target(_modules)?["']?[:=] ?["']?(all-linear|all)\b""", written.text)


def test_presets_become_the_models_own_names(api):
    written = api.exports.write(questions.question("gpt2", target_modules="attention", framework="trl"), 8, "axolotl")

    assert ["c_attn", "attn.c_proj"] == yaml.safe_load(written.text)["lora_target_modules"]


def test_unsloths_way_with_the_head_is_kept_by_tools_that_would_put_lora_on_it(api):
    question = questions.question("Qwen/Qwen3-4B", target_modules=("q_proj", "lm_head"))

    for name in ("trl", "peft", "axolotl", "llamafactory"):
        written = api.exports.write(question, 16, name)
        # 36 blocks, q_proj 2560 to 4096; the head 151,936 × 2560, trained in full.
        assert f"{16 * 36 * (2560 + 4096) + 151_936 * 2560:,} trainable parameters" in written.text
        assert "the tie is lost" in written.notes[-1]
        assert not any(" trains " in note and " parameters" in note for note in written.notes)


def test_experts_that_unsloth_adds_by_itself_are_named_for_tools_that_do_not(api):
    question = Question(model_id=MOE)
    parameters = api.estimates.adapter(question, 4).parameters

    written = api.exports.write(question, 4, "axolotl")
    config = yaml.safe_load(written.text)
    assert ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"] == config["lora_target_parameters"]
    assert f"{parameters:,} trainable parameters" in written.text
    assert "target_parameters=" not in api.exports.write(question, 4, "unsloth").text


def test_a_tool_that_cannot_name_experts_says_so_and_counts_what_it_trains(api):
    question = questions.question(MOE, framework="trl", moe_scheme="target-parameters", target_modules="attention")
    parameters = api.estimates.adapter(question, 4).parameters
    # 48 blocks: q 2048 to 4096, k and v 2048 to 512, o 4096 to 2048.
    attention = 4 * 48 * (2 * (2048 + 4096) + 2 * (2048 + 512))

    written = api.exports.write(question, 4, "llamafactory")
    assert "does not name the experts" in written.notes[0]
    assert f"trains {attention:,} parameters" in written.notes[1]
    assert f"has {parameters:,}" in written.notes[1]
    assert f"counts {attention:,} trainable parameters" in written.text
    comments = " ".join(line.removeprefix("# ") for line in written.text.splitlines() if line.startswith("#"))
    assert all(note in comments for note in written.notes)


@pytest.mark.parametrize("name", ["unsloth", "trl", "axolotl", "llamafactory"])
def test_names_that_would_reach_the_experts_are_left_out_where_these_were_not_asked_for(api, name):
    """Unsloth and PEFT take gate_proj as a word for the experts too."""
    question = questions.question(MOE, moe_scheme="linear-only")

    written = api.exports.write(question, 4, name)
    # 48 blocks: q 2048 to 4096, k and v 2048 to 512, o 4096 to 2048.
    assert f"{4 * 48 * (2 * (2048 + 4096) + 2 * (2048 + 512)):,} trainable parameters" in written.text
    (note,) = written.notes
    assert note.startswith("No adapter on the experts")
    assert "gate_proj" not in written.text


def test_what_a_list_of_names_trains_besides_is_said_with_both_numbers(api):
    """all-linear is one word: Unsloth brings the experts in, and no list says otherwise."""
    question = questions.question(MOE, moe_scheme="peft-remap", framework="trl", target_modules="all-linear")
    parameters = api.estimates.adapter(question, 4).parameters

    written = api.exports.write(question, 4, "unsloth")
    assert f"has {parameters:,}" in written.notes[0]
    assert "Unsloth trains " in written.notes[0]


@pytest.mark.parametrize("name", ["script", "colab", "trl", "peft"])
def test_a_script_reads_the_measured_file_in_its_form_and_marks_the_upper_estimate(api, name):
    data = TrainingData(
        examples=80, longest_tokens=900, epochs=1, form="text", file_name='my "rows".CSV', longest_is_upper=True
    )
    question = Question(model_id="Qwen/Qwen3-4B", training=TrainingSetup(data=data))
    text = api.exports.write(question, 8, name).text
    code = "".join(json.loads(text)["cells"][3]["source"]) if name == "colab" else text

    assert """data_file = "my \\"rows\\".CSV"  #""" in code
    assert 'form = "text"' in code
    assert "the longest 900 tokens (upper estimate)" in code


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"format_name": "word"}, "No format 'word': choose one of colab, script, notebook"),
        ({"learning_rate": -1.0}, r"Learning rate must be a number above 0 and at most 1 \(got -1\)"),
        ({"learning_rate": float("nan")}, r"Learning rate must be .* \(got nan\)"),
    ],
)
def test_a_mistake_says_what_to_do(api, values, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        api.exports.write(Question(model_id="Qwen/Qwen3-4B"), 8, **values)


def test_what_the_estimate_notes_stands_in_the_export_too(api):
    """Phi-4-mini: 32 blocks; o_proj 3072 to 3072 and down_proj 8192 to 3072 match, and on a CPU qkv_proj (3072 to 5120)
    and gate_up_proj (3072 to 16,384) are added."""
    question = questions.question("microsoft/Phi-4-mini-instruct")
    on_gpu = 8 * 32 * ((3072 + 3072) + (8192 + 3072))
    on_cpu = on_gpu + 8 * 32 * ((3072 + 5120) + (3072 + 16_384))

    for name in FORMATS:
        written = api.exports.write(question, 8, name)
        comments = " ".join(line.lstrip("# ") for line in written.text.splitlines())
        for note in written.notes:
            assert name == "adapter-config" or note in comments or json.dumps(note)[1:-1] in comments
        assert "gate_proj and up_proj match nothing in this model" in written.notes[name == "colab"]
        assert any(f"trains {on_cpu:,} parameters" in note for note in written.notes) == (
            name in ("colab", "script", "notebook", "unsloth")
        )
    assert f"counts {on_gpu:,} trainable" in api.exports.write(question, 8).text


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("google/gemma-3-4b-it:whole", "trains no multimodal models, so this script needs one."),
        ("mistralai/Ministral-3-3B-Instruct-2512", "cannot load this checkpoint, which is multimodal."),
        (
            "google/gemma-3-4b-it",
            "loads this checkpoint with its other towers, and target names reach into them.",
        ),
    ],
)
def test_an_unsloth_script_of_a_multimodal_model_says_what_it_does_without_a_gpu(api, model, sentence):
    unsloth, trl = (api.exports.write(Question(model_id=model), 8, name).notes for name in ("unsloth", "trl"))

    assert f"Without a GPU, Unsloth {UNSLOTH_VERSION} {sentence}" in unsloth
    assert not any(note.startswith("Without a GPU") for note in trl)


def test_llamafactory_gets_a_second_file_and_the_others_none(api):
    question = Question(model_id="Qwen/Qwen3-4B")
    beside = {name: [file for file, _ in api.exports.write(question, 8, name).beside] for name in FORMATS}

    assert {"llamafactory": ["dataset_info.json"]} == {name: files for name, files in beside.items() if files}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"precision": "nf4"}, "always quantizes the constants"),
        ({"attn_implementation": "eager"}, "chooses the attention itself: 'eager' is not set"),
        ({"loss_path": "full"}, "chooses the loss itself: loss path 'full' is not set"),
        ({"framework": "trl"}, "become plain gradient checkpointing here"),
        ({"framework": "trl", "loss_path": "full"}, "loss path 'full' is not set"),
        ({"framework": "peft"}, "holds all logits: loss path 'fused' is not set"),
    ],
)
def test_what_a_script_cannot_say_is_said_above_it(changes, sentence):
    assert any(sentence in each for each in header(made(**changes)))


@pytest.mark.torch
@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_peft_reads_adapter_config_json_without_a_warning(changes, tmp_path, recwarn):
    from peft import LoraConfig

    recipe = made(**changes)
    (tmp_path / "adapter_config.json").write_text(adapter_config(recipe))

    config = LoraConfig.from_pretrained(tmp_path)
    assert (recipe.lora.r, recipe.lora_alpha) == (config.r, config.lora_alpha)
    wanted = recipe.target_modules if isinstance(recipe.target_modules, str) else set(recipe.target_modules)
    assert wanted == config.target_modules
    assert (recipe.lora.use_dora, recipe.lora.use_rslora) == (config.use_dora, config.use_rslora)
    assert (list(recipe.modules_to_save) or None) == config.modules_to_save
    assert [] == [str(warning.message) for warning in recwarn if "Unexpected keyword" in str(warning.message)]
    assert set(json.loads(adapter_config(recipe))) <= set(config.to_dict())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("model", first_quick(["deepseek-ai/DeepSeek-V2-Lite", MOE]))
def test_experts_asked_of_trl_by_unsloths_scheme_are_trained_by_every_tool_that_can_name_them(api, model, name):
    question = questions.question(model, framework="trl", moe_scheme="unsloth")
    parameters = api.estimates.adapter(question, 4).parameters

    written = api.exports.write(question, 4, name)

    others = [re.search(r"trains ([\d,]+) parameters", note) for note in written.notes if f"has {parameters:,}" in note]
    counts = [int(found[1].replace(",", "")) for found in others]
    if name == "llamafactory":
        assert counts[0] < parameters  # it names no experts
    elif name in ("colab", "unsloth") and model != MOE:
        assert counts[0] > parameters  # shared experts carry LoRA too
    else:
        assert [] == counts
        assert name == "adapter-config" or f"counts {parameters:,} trainable" in written.text
