"""The export in each format: the requested adapter, or a note that says what it is instead; and tables as files."""

import csv
import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import yaml

from rankviz import __version__
from rankviz.api import Api
from rankviz.catalog.models import load_index, load_model
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.core.lora.resolve import resolve
from rankviz.errors import InvalidSettingError, NotYoursError
from rankviz.exports import FORMATS, recipe, write
from rankviz.exports.configs import adapter_config
from rankviz.exports.tables import ranks_table, write_table
from rankviz.ui.parts import widgets
from rankviz.visitor import acting_as
from tests.support.models.recipes import SETTINGS, made
from tests.support.quick import first_quick
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished
from tests.support.runs.toy import ASSETS
from tests.support.web.visitors import ANN, BEN

MOE = "Qwen/Qwen3-30B-A3B"
PUBLISHED = {
    "openai/gpt-oss-20b": "Mxfp4Config",
    "deepseek-ai/DeepSeek-V3": "FineGrainedFP8Config",
    "mistralai/Ministral-3-3B-Instruct-2512": "FineGrainedFP8Config",
}
"""Checkpoints that are published quantized, and the class that loads them."""
REFUSED = {
    "Conv1D": ("gpt2", {"target_modules": ("c_attn", "c_proj", "c_fc"), "precision": "bf16", "max_length": 1024}),
    "scheme": (MOE, {"moe_scheme": "peft-remap"}),
    "experts": (MOE, {"target_modules": "mlp"}),
    "flag": ("Qwen/Qwen3-4B", {"finetune_mlp_modules": False}),
    "head": ("Qwen/Qwen3-4B", {"target_modules": ("lm_head",)}),
    "dots": (MOE, {"target_modules": ("self_attn.q_proj",)}),
}
"""What Unsloth refuses and another tool trains."""


@pytest.mark.parametrize("model_id", PUBLISHED)
@pytest.mark.parametrize(("name", "precision"), [("trl", "nf4"), ("peft", "bf16")])
def test_the_script_dequantizes_with_the_class_of_the_checkpoint(model_id, name, precision):
    question = questions.question(model_id, framework="trl", precision=precision)
    export = write(load_model(ASSETS, model_id), question, 8, name)

    assert f"quantization_config={PUBLISHED[model_id]}(dequantize=True)," in export.text
    assert f", {PUBLISHED[model_id]}" in export.text.split("model =")[0]
    assert "BitsAndBytesConfig" not in export.text
    (note,) = (note for note in export.notes if "is published in" in note)
    assert ("bit, so it trains in 16 bit" in note) is (precision != "bf16")


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize(
    "name", [name for name, each in FORMATS.items() if each.trained_by not in (None, "unsloth", "mlx")]
)
def test_another_tools_file_is_counted_as_that_tool_trains_it(case, name):
    model_id, settings = REFUSED[case]
    written = write(load_model(ASSETS, model_id), questions.question(model_id, **settings), 8, name)

    assert written.notes[0].startswith("Unsloth refuses this adapter, so this file is counted as ")
    assert not any("the requested adapter, with" in note for note in written.notes) or name == "llamafactory"
    assert "use_unsloth: true" not in written.text


def test_what_peft_refuses_is_written_for_unsloth_where_unsloth_trains_it():
    """PEFT takes no gate_proj without up_proj in this family, and Unsloth does."""
    model = load_model(ASSETS, MOE)
    question = questions.question(model.id, framework="trl", target_modules=("q_proj", "gate_proj"))

    written = write(model, question, 8, "unsloth")

    assert written.notes[0].startswith("TRL refuses this adapter, so this file is counted as Unsloth trains it.")
    assert f"counts {resolve(model, question.lora, 'unsloth').parameters(8):,} trainable" in written.text


def test_a_tool_that_cannot_name_experts_says_so_and_counts_what_it_trains(api):
    question = questions.question(MOE, framework="trl", moe_scheme="target-parameters", target_modules="attention")
    parameters = api.estimates.estimate(replace(question, ranks=(4,))).rank(4).adapter_parameters
    # 48 blocks: q 2048 to 4096, k and v 2048 to 512, o 4096 to 2048.
    attention = 4 * 48 * (2 * (2048 + 4096) + 2 * (2048 + 512))

    written = api.advice.export(question, 4, "llamafactory")
    assert "does not name the experts" in written.notes[0]
    assert f"trains {attention:,} parameters" in written.notes[1]
    assert f"has {parameters:,}" in written.notes[1]
    assert f"counts {attention:,} trainable parameters" in written.text
    comments = " ".join(line.removeprefix("# ") for line in written.text.splitlines() if line.startswith("#"))
    assert all(note in comments for note in written.notes[:3])
    assert "trains 60 steps" in written.notes[3]


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
        api.advice.export(Question(model_id="Qwen/Qwen3-4B"), 8, **values)


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
    assert (list(recipe.plan.modules_to_save) or None) == config.modules_to_save
    assert [] == [str(warning.message) for warning in recwarn if "Unexpected keyword" in str(warning.message)]
    assert set(json.loads(adapter_config(recipe))) <= set(config.to_dict())


@pytest.mark.parametrize(
    ("name", "epochs", "length"),
    [("axolotl", "num_epochs", "sequence_len"), ("llamafactory", "num_train_epochs", "cutoff_len")],
)
def test_data_set_epochs_of_a_configuration_file_and_leave_its_length(api, name, epochs, length):
    """5,000 examples on 8 a step are 625 steps an epoch, and 5 % of 1,250 steps are warmup. The length is as asked."""
    data = TrainingData(examples=5000, longest_tokens=1000, num_train_epochs=2)
    question = Question(model_id="Qwen/Qwen3-4B", training=TrainingSetup(data=data))
    config = yaml.safe_load(api.advice.export(question, 8, name).text)

    assert (2, 2048, 62) == (config[epochs], config[length], config["warmup_steps"])
    assert "max_steps" not in config


def test_a_configuration_file_does_not_name_sdpa_where_transformers_refuses_it(api):
    for name, line in (("axolotl", "\nattn_implementation: eager\n"), ("llamafactory", "\nflash_attn: disabled\n")):
        assert line in api.advice.export(Question(model_id="openai/gpt-oss-20b"), 16, name).text


def test_a_file_for_another_framework_says_where_the_gpu_is_too_small_for_it(api):
    asked = questions.question(MOE, gpu="rtx-5090")
    for name, start in (("trl", "With TRL this"), ("axolotl", "With Axolotl, estimated as TRL, this"), ("unsloth", "")):
        notes = [note for note in api.advice.export(asked, 16, name).notes if "fit" in note]
        assert [f"{start} needs 62.07 – 65.78 GiB: it does not fit the RTX 5090."] * bool(start) == notes


def test_mlx_lms_keys_name_what_is_counted_and_lora_plus_is_left_out(api):
    question = questions.question("Qwen/Qwen3-4B", target_modules="all-linear", lora_alpha=32.0, max_steps=50)
    written = api.advice.export(question, 8, "mlx", loraplus_lr_ratio=16)
    config, model = yaml.safe_load(written.text), load_model(ASSETS, "Qwen/Qwen3-4B")

    lora, counts = config["lora_parameters"], api.estimates.estimate(replace(question, ranks=(8,))).estimate.ranks[0]
    keyed = (each for each in model.layers if each.path.partition("{}.")[2] in lora["keys"])
    assert counts.adapter_parameters == sum(8 * each.count * (each.in_features + each.out_features) for each in keyed)
    assert (-1, 8, 4.0, 200) == (config["num_layers"], lora["rank"], lora["scale"], config["iters"])
    assert "mlx_model" == config["model"]
    assert "mlx_lm.convert --hf-path Qwen/Qwen3-4B --mlx-path mlx_model -q --q-bits 4" in written.text
    assert any("LoRA+ is left out" in note for note in written.notes)
    with pytest.raises(InvalidSettingError, match="MLX LM adapts the same linear layers in every block"):
        api.advice.export(replace(question, lora=replace(question.lora, target_modules=("1.mlp.up_proj",))), 8, "mlx")


MULTIMODAL = [row.id for row in load_index(ASSETS) if row.tower != "text"]
WHOLE_FOR_TEXT = ("google/gemma-3-4b-it", "google/gemma-4-26B-A4B", "mistralai/Ministral-3-3B-Instruct-2512")


def recipe_of(model_id, framework="trl", **settings):
    question = questions.question(model_id, framework=framework, **settings)
    return recipe(load_model(ASSETS, model_id), question, 8, framework=framework)


def whole_config(model_id):
    """The config.json as the Hub has it: of the whole model."""
    file = model_id.removesuffix(":whole").replace("/", "__")
    full = ASSETS / "configs" / f"{file}.full.json"
    return full if full.is_file() else ASSETS / "configs" / f"{file}.json"


@pytest.mark.torch
def test_the_class_that_loads_it_makes_the_architecture_that_was_counted():
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    for model_id in MULTIMODAL:
        export, config = recipe_of(model_id, "unsloth"), AutoConfig.from_pretrained(whole_config(model_id))
        classes = AutoModelForImageTextToText if export.plan.model.is_whole else AutoModelForCausalLM

        loaded = classes._model_mapping[type(config)].__name__
        is_whole = loaded != load_model(ASSETS, model_id).architecture
        assert (export.plan.model.tower == "whole for text") is is_whole, model_id


@pytest.mark.torch
@pytest.mark.parametrize("model_id", WHOLE_FOR_TEXT)
@pytest.mark.parametrize("targets", first_quick(["all-linear", "unsloth"]))
def test_peft_trains_by_the_pattern_what_was_counted(model_id, targets):
    from peft import LoraConfig, get_peft_model

    from tests.support.models.meta_models import build

    export = recipe_of(model_id, target_modules=targets)
    adapter = LoraConfig(
        r=8,
        target_modules=export.target_modules,
        target_parameters=list(export.target_parameters) or None,
        task_type="CAUSAL_LM",
    )

    model = get_peft_model(build(whole_config(model_id)), adapter, low_cpu_mem_usage=True)
    assert export.adapter_parameters == model.get_nb_trainable_parameters()[0]


@pytest.fixture
def ranks(api):
    question = Question(model_id="meta-llama/Llama-3.1-8B", ranks=(8, 16), gpu="l4")
    answer = api.estimates.estimate(question)
    return ranks_table(answer.estimate, answer.basis)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_csv_of_ranks_has_exact_numbers_and_their_sources_in_every_row(ranks, tmp_path):
    rows = rows_of(write_table(ranks, "csv", tmp_path))

    # 32 blocks of 81,920 a unit of r: 2,621,440 · 8 and · 16.
    assert ["20971520", "41943040"] == [row["adapter_parameters"] for row in rows]
    for row in rows:
        assert "meta-llama/Llama-3.1-8B nf4-dq L4" == f"{row['model_id']} {row['precision']} {row['gpu']}"
        assert f"RankViz {__version__}" == row["made_by"]
        assert "PEFT 0.21.2" in row["counted_by"]
        assert "2026-" in row["price_source"]


def test_parquet_keeps_types_and_carries_the_sources_in_its_metadata(ranks, tmp_path):
    table = pq.read_table(write_table(ranks, "parquet", tmp_path))

    assert [20_971_520, 41_943_040] == table["adapter_parameters"].to_pylist()
    assert "int64" == str(table.schema.field("memory_bytes_allocated").type)
    assert "double" == str(table.schema.field("lora_alpha").type)
    about = json.loads(table.schema.metadata[b"rankviz"])
    assert ("ranks", f"RankViz {__version__}") == (about["table"], about["made_by"])
    assert about["basis"] == table["basis"][0].as_py()


def test_the_runs_of_a_sweep_that_another_opened_are_shown_and_not_exported(tmp_path):
    api = Api(home=tmp_path / "home", shared=True)
    with acting_as(ANN):
        sweep_id = finished(api, {4: 2.0, 8: 1.9}).sweep_id
        api.runs.open_to_all(sweep_id, True)
        assert [4, 8] == [row["r"] for row in widgets.sweep_runs(api, sweep_id=sweep_id).rows]

    with acting_as(BEN):
        assert 2 == len(api.runs.sweep(sweep_id).runs)
        with pytest.raises(NotYoursError):
            widgets.sweep_runs(api, sweep_id=sweep_id)
