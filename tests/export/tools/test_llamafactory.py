"""The YAML for LLaMA-Factory: it carries the chosen values, LLaMA-Factory's own parser takes every argument, and its
own template code trains the end token."""

import csv
import json

import pytest
import yaml

from rankviz.catalog.models import load_index, load_model
from rankviz.errors import InvalidSettingError
from rankviz.export import chat, recipe
from rankviz.export.tools.llamafactory import PLAIN_TEXT, VERSION, dataset_info, llamafactory, trains_with_unsloth
from tests.support import questions
from tests.support.recipes import SETTINGS, made
from tests.support.tool_wheels import LLAMAFACTORY, checked, unpacked
from tests.support.toy import ASSETS

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

ROWS = """
import ast, importlib.machinery, json, re, sys, types
audio = types.ModuleType("torchaudio")  # imported for models that hear, used by none here
audio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = audio
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.mm_plugin import get_mm_plugin
from llamafactory.data.parser import get_dataset_list
from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer
from llamafactory.extras import constants
from llamafactory.hparams import DataArguments
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
cases = json.load(sys.stdin)

def tokenizer_of(template):
    forms = (template.format_user, template.format_assistant, template.format_system, template.format_prefix)
    text = " ".join(map(str, [*(slot for form in forms for slot in form.slots), *template.stop_words]))
    marks = re.findall("<[^<>\\s]+>|\\[/?[A-Z]+\\]", text)
    markers = list(dict.fromkeys(["<s>", "</s>", *marks]))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(markers + alphabet)}, merges=[], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", additional_special_tokens=markers[2:]
    )

def learned(name, row):
    data = DataArguments(template=name, dataset_dir=cases["folder"], dataset=row["dataset"])
    tokenizer = tokenizer_of(TEMPLATES[name])
    template = get_template_and_fix_tokenizer(tokenizer, data)
    template.mm_plugin = get_mm_plugin("base")  # these rows have no pictures, and there is no processor to put them in
    (attributes,) = get_dataset_list([row["dataset"]], cases["folder"])
    aligned = get_dataset_converter(attributes.formatting, attributes, data)(row["row"])
    processor = SupervisedDatasetProcessor(template, tokenizer, None, data)
    (labels,) = processor.preprocess_dataset({key: [value] for key, value in aligned.items()})["labels"]
    tokens = [token for token in labels if token != -100]
    while tokenizer.decode(tokens[-1:]).isspace():
        tokens.pop()
    return {"text": tokenizer.decode(tokens), "ends": tokens[-1] in tokenizer.get_added_vocab().values()}

def groups():
    # Hub id and the template of its group, read in the source: what is registered forgets it for most names.
    for node in ast.walk(ast.parse(open(constants.__file__).read())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "register_model_group":
            given = {each.arg: each.value for each in node.keywords}
            for sources in given["models"].values if "template" in given else ():
                name = next(value.value for key, value in zip(sources.keys, sources.values) if key.attr == "DEFAULT")
                yield name, given["template"].value

print("CHECKED", json.dumps({
    "learned": {name: [learned(name, row) for row in cases["rows"]] for name in cases["templates"]},
    "stops": {name: TEMPLATES[name].stop_words for name in cases["templates"]},
    "own": dict(groups()),
}))
"""
LISTED = {row.template for row in chat.listed().values()}
NAMED = {template for _, template in chat.FAMILIES if template} | set(chat.MODEL_TYPES.values())
TEMPLATES = sorted(LISTED | NAMED | {PLAIN_TEXT})
EXAMPLES = [
    {"dataset": "train", "row": {"prompt": "Name a letter.", "completion": "abc"}},
    {
        "dataset": "chats",
        "row": {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Name a letter."},
                {"role": "assistant", "content": "abc"},
                {"role": "user", "content": "Another."},
                {"role": "assistant", "content": "xyz"},
            ]
        },
    },
]


def vision():
    """Gemma 3 with adapters in its vision tower, too."""
    question = questions.question("google/gemma-3-4b-it:whole", framework="trl")
    return yaml.safe_load(
        llamafactory(recipe(load_model(ASSETS, question.model_id), question, 8, framework="trl", tool="LLaMA-Factory"))
    )


def config(**changes):
    return yaml.safe_load(llamafactory(made(**{"framework": "trl", **changes})))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    return unpacked(LLAMAFACTORY, tmp_path_factory.mktemp("llamafactory"))


@pytest.fixture(scope="module")
def trained(wheels, tmp_path_factory):
    """What LLaMA-Factory's own code makes of two rows with each template that an export names, and with "empty"."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "dataset_info.json").write_text(dataset_info(made()), encoding="utf-8")
    cases = {"folder": str(folder), "rows": EXAMPLES, "templates": [*TEMPLATES, "empty"]}
    return checked(wheels, ROWS, cases, folder)


@pytest.fixture(scope="module")
def parsed(wheels, tmp_path_factory):
    """What LLaMA-Factory's parser makes of each setting, and of some that are wrong."""
    cases = {name: config(**changes) for name, changes in SETTINGS.items()}
    cases["liger"] = config()
    cases["vision"] = vision()
    cases["misspelt"] = {**config(), "lora_r": 8}
    cases["wrong"] = {**config(), "optim": "no_such_optimizer"}
    return checked(wheels, PARSE, cases, tmp_path_factory.mktemp("run"))


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


@pytest.mark.parametrize(
    ("model_id", "template"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),
        ("unsloth/Qwen3-4B-Instruct-2507-unsloth-bnb-4bit", "qwen3_nothink"),
        ("google/gemma-3-4b-it", "gemma3"),
        ("/models/Phi-4-mini-instruct", "phi4_mini"),
        ("meta-llama/Llama-3.1-8B", "fewshot"),
        ("Qwen/Qwen3-4B-Base", "fewshot"),
        ("google/medgemma-4b-it", "gemma3"),
        ("tiiuae/Falcon-H1-7B-Instruct", "falcon_h1"),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", "mllama"),
        ("microsoft/Phi-3-small-8k-instruct", "phi_small"),
        ("deepseek-ai/DeepSeek-V2-Chat-0628", "deepseek3"),
        ("deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct", "deepseek"),
        ("LiquidAI/LFM2.5-VL-1.6B", "lfm2_vl"),
        ("Qwen/Qwen3-Omni-30B-A3B-Instruct", "qwen3_omni_nothink"),
        ("zai-org/GLM-Z1-9B-0414", "glmz1"),
        ("zai-org/GLM-4.5-Air", "glm4_moe"),
        ("baidu/ERNIE-4.5-21B-A3B-PT", "ernie_nothink"),
        ("Qwen/QwQ-32B", "qwen"),
        ("HuggingFaceH4/zephyr-7b-beta", "zephyr"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "chatml"),
        ("mistralai/Devstral-Small-2505", "mistral_small"),
        ("ByteDance-Seed/Seed-OSS-36B-Instruct", "seed_oss"),
        ("tencent/Hunyuan-7B-Instruct", "hunyuan"),
        ("01-ai/Yi-1.5-9B-Chat", "yi"),
        ("internlm/internlm3-8b-instruct", "intern2"),
        ("upstage/SOLAR-10.7B-Instruct-v1.0", "solar"),
        ("google/gemma-3-4b-pt", "fewshot"),
        ("baidu/ERNIE-4.5-21B-A3B-Base-PT", "fewshot"),
    ],
)
def test_the_template_is_the_familys_for_chat_models_and_plain_text_for_base_models(model_id, template):
    assert template == config(model_id=model_id, model_type="")["template"]


@pytest.mark.parametrize(
    ("model_id", "model_type", "template"),
    [
        ("me/medgemma-tuned-it", "gemma3", "gemma3"),
        ("/models/my-chat", "falcon_h1", "falcon_h1"),
        ("/models/my-chat", "mllama", "mllama"),
        ("unsloth/Falcon-H1-7B-Instruct-bnb-4bit", "", "falcon_h1"),
    ],
)
def test_a_model_that_is_not_listed_goes_by_its_type_or_by_what_it_is_a_copy_of(model_id, model_type, template):
    assert template == chat.llamafactory_template(model_id, model_type)


@pytest.mark.parametrize(
    "model_id", ["allenai/Llama-3.1-Tulu-3-8B", "mistralai/Magistral-Small-2506", "me/my-gemma-4-like-chat"]
)
def test_a_chat_model_of_no_known_family_has_no_template(model_id):
    assert "" == chat.llamafactory_template(model_id)


def test_magistral_is_a_chat_model():
    assert chat.has_chat_template("mistralai/Magistral-Small-2506")


def test_medgemma_ends_its_turns_as_gemma_3_does():
    assert "<end_of_turn>" == chat.end_of_turn("google/medgemma-4b-it")


def test_a_model_whose_template_is_unknown_is_left_to_its_tokenizer():
    text = llamafactory(made(model_id="HuggingFaceTB/SmolLM3-3B", model_type="smollm3"))

    assert "template" not in yaml.safe_load(text)
    assert "knows no template of LLaMA-Factory" in text


def test_it_evaluates_on_rows_that_it_holds_out():
    values = config(max_steps=100)

    assert (0.05, "steps", 0.25) == (values["val_size"], values["eval_strategy"], values["eval_steps"])
    assert (5, 0.0, 3407) == (values["warmup_steps"], values["weight_decay"], values["seed"])


def test_adapters_in_a_vision_tower_are_not_frozen_away():
    assert (False, False) == (vision()["freeze_vision_tower"], vision()["freeze_multi_modal_projector"])
    assert "freeze_vision_tower" not in config()


def test_the_data_is_described_in_a_file_of_its_own_as_rows_and_as_chats():
    described = json.loads(dataset_info(made()))

    assert config()["dataset"] in described
    assert {"prompt": "prompt", "response": "completion"} == described["train"]["columns"]
    assert "messages" == described["chats"]["columns"]["messages"]


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
def test_llamafactorys_own_parser_takes_a_vision_tower(parsed):
    assert parsed["vision"]["error"] is None


@pytest.mark.torch
def test_the_fused_loss_asks_for_liger_kernel(parsed):
    assert parsed["liger"]["error"] is None or "liger-kernel" in parsed["liger"]["error"]


@pytest.mark.torch
def test_the_check_sees_an_argument_and_a_value_that_llamafactory_does_not_know(parsed):
    assert "lora_r" in parsed["misspelt"]["error"]
    assert "no_such_optimizer" in parsed["wrong"]["error"]


@pytest.mark.torch
@pytest.mark.parametrize("template", TEMPLATES)
def test_llamafactorys_own_code_trains_the_answers_and_their_end_token(trained, template):
    row, chats = trained["learned"][template]

    assert row["ends"]
    assert chats["ends"]
    assert "abc" in row["text"]
    assert "abc" in chats["text"]
    assert "xyz" in chats["text"]
    assert not any(prompt in result["text"] for result in (row, chats) for prompt in ("letter", "Another", "brief"))


@pytest.mark.torch
def test_the_check_sees_a_template_that_never_ends(trained):
    assert [False, False] == [result["ends"] for result in trained["learned"]["empty"]]


@pytest.mark.torch
def test_the_list_is_llamafactorys_own(trained):
    assert trained["own"] == {name: row.template for name, row in own_rows().items()}


def own_rows():
    with (ASSETS / "llamafactory_templates.csv").open(encoding="utf-8", newline="") as file:
        names = [row["id"] for row in csv.DictReader(file)]
    assert sorted(names) == names
    return {name: chat.listed()[name.lower()] for name in names}


@pytest.mark.torch
def test_the_templates_are_those_that_llamafactory_has_for_these_models(trained):
    names = {name for row in load_index(ASSETS) for name in (row.id, *row.aliases)}
    known = {name: trained["own"][name] for name in names & set(trained["own"]) if chat.has_chat_template(name)}

    assert known == {name: chat.llamafactory_template(name) for name in known}
    assert 80 < len(known)


@pytest.mark.torch
def test_a_token_that_ends_a_turn_is_one_of_llamafactorys_stop_words(trained):
    assert {"gemma2", "gemma3", "phi"} <= set(chat.ENDS_OF_TURN)
    for template, token in chat.ENDS_OF_TURN.items():
        assert token in trained["stops"][template]
