"""The YAML for LLaMA-Factory: it carries the chosen values, and LLaMA-Factory's own parser takes every argument."""

import pytest
import yaml

from rankviz.errors import InvalidSettingError
from rankviz.export.llamafactory import VERSION, llamafactory, trains_with_unsloth
from tests.support.recipes import SETTINGS, made
from tests.support.tool_wheels import LLAMAFACTORY, checked, unpacked

PARSE = """
import json, sys
from llamafactory.hparams.parser import get_train_args
results = {}
for name, config in json.load(sys.stdin).items():
    config["use_cpu"] = True  # this machine's card, or none, is not what is checked
    config.pop("enable_liger_kernel", None) if name != "liger" else None
    try:
        model, data, training, tuning, _ = get_train_args(config)
        results[name] = {
            "error": None, "model": model.model_name_or_path, "bits": model.quantization_bit, "r": tuning.lora_rank,
            "alpha": tuning.lora_alpha, "targets": tuning.lora_target, "saved": tuning.additional_target,
            "dora": tuning.use_dora, "rslora": tuning.use_rslora, "length": data.cutoff_len,
            "steps": training.max_steps, "rate": training.learning_rate, "optim": str(training.optim.value),
            "batch": training.per_device_train_batch_size, "accumulation": training.gradient_accumulation_steps,
        }
    except (ValueError, ImportError) as error:
        results[name] = {"error": str(error)}
print("CHECKED", json.dumps(results))
"""


def config(**changes):
    return yaml.safe_load(llamafactory(made(**{"framework": "trl", **changes})))


@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
    """What LLaMA-Factory's parser makes of each setting, and of some that are wrong."""
    cases = {name: config(**changes) for name, changes in SETTINGS.items()}
    cases["liger"] = config()
    cases["misspelt"] = {**config(), "lora_r": 8}
    cases["wrong"] = {**config(), "optim": "no_such_optimizer"}
    folder = unpacked(LLAMAFACTORY, tmp_path_factory.mktemp("llamafactory"))
    return checked(folder, PARSE, cases, tmp_path_factory.mktemp("run"))


def test_it_carries_the_chosen_values():
    values = config(use_dora=True, max_length=512, optim="sgd", max_steps=70, learning_rate=1e-4, precision="nf4")

    assert ("Qwen/Qwen3-4B", "lora", 8, 16) == (
        values["model_name_or_path"],
        values["finetuning_type"],
        values["lora_rank"],
        values["lora_alpha"],
    )
    assert (4, "nf4", False) == (values["quantization_bit"], values["quantization_type"], values["double_quantization"])
    assert "q_proj,v_proj" == values["lora_target"]
    assert (True, False) == (values["use_dora"], values["use_rslora"])
    assert ("sgd", 70, 1e-4, 512) == (
        values["optim"],
        values["max_steps"],
        values["learning_rate"],
        values["cutoff_len"],
    )


def test_all_linear_is_its_own_word_and_modules_to_save_are_additional_targets():
    values = config(target_modules="all-linear", modules_to_save=("lm_head", "embed_tokens"))

    assert "all" == values["lora_target"]
    assert "lm_head,embed_tokens" == values["additional_target"]


def test_checkpointing_is_unsloths_where_unsloth_trains_and_otherwise_as_asked():
    assert config(framework="unsloth")["use_unsloth"] is True
    assert config(gradient_checkpointing="unsloth")["use_unsloth_gc"] is True
    assert config(gradient_checkpointing="none")["disable_gradient_checkpointing"] is True
    assert "use_unsloth" not in config()


@pytest.mark.parametrize(("precision", "does"), [("nf4-dq", True), ("bf16", True), ("int8", False), ("fp32", False)])
def test_unsloth_trains_there_only_what_it_can_load(precision, does):
    assert does is trains_with_unsloth("unsloth", precision)
    assert False is trains_with_unsloth("trl", precision)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"precision": "fp32"}, "no fp32 base"),
        ({"loss_path": "triton"}, "no setting for the loss path 'triton'"),
        ({"framework": "unsloth", "gradient_checkpointing": "none"}, "checkpointing is always Unsloth's"),
        ({"framework": "unsloth", "precision": "nf4"}, "as nf4-dq does"),
    ],
)
def test_what_it_has_no_word_for_is_said_in_a_comment(changes, sentence):
    text = llamafactory(made(**{"framework": "trl", **changes}))

    comments = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    assert sentence in comments
    assert "not of LLaMA-Factory" in comments


def test_half_an_alpha_is_refused_since_llamafactory_has_whole_ones():
    with pytest.raises(InvalidSettingError, match=r"whole number as lora_alpha \(got 2\.5\)"):
        llamafactory(made(lora_alpha=2.5))


@pytest.mark.torch
def test_the_version_is_the_one_that_is_checked():
    assert f"llamafactory=={VERSION}" == LLAMAFACTORY[0]


@pytest.mark.torch
@pytest.mark.parametrize("setting", SETTINGS)
def test_llamafactorys_own_parser_takes_it(parsed, setting):
    result, recipe = parsed[setting], made(**{"framework": "trl", **SETTINGS[setting]})

    assert result["error"] is None
    assert (recipe.lora.r, recipe.lora_alpha) == (result["r"], result["alpha"])
    assert (recipe.lora.use_dora, recipe.lora.use_rslora) == (result["dora"], result["rslora"])
    assert {"nf4": 4, "nf4-dq": 4, "int8": 8}.get(recipe.training.precision) == result["bits"]
    assert (list(recipe.modules_to_save) or None) == result["saved"]
    assert (recipe.max_steps, recipe.learning_rate) == (result["steps"], result["rate"])
    assert recipe.training.max_length == result["length"]
    assert recipe.training.per_device_train_batch_size == result["batch"]
    assert recipe.training.gradient_accumulation_steps == result["accumulation"]


@pytest.mark.torch
def test_the_fused_loss_asks_for_liger_kernel(parsed):
    assert parsed["liger"]["error"] is None or "liger-kernel" in parsed["liger"]["error"]


@pytest.mark.torch
def test_the_check_sees_an_argument_and_a_value_that_llamafactory_does_not_know(parsed):
    assert "lora_r" in parsed["misspelt"]["error"]
    assert "no_such_optimizer" in parsed["wrong"]["error"]
