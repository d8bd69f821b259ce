"""Models, GPUs, assumptions and evidence as they ship: complete, strict, with sources that arrive."""

import csv
import json
import shutil

import pytest

from rankviz.api import Api
from rankviz.catalog.hardware import find_gpu, gpu_of_device, gpus_of_model, load_gpus
from rankviz.catalog.models import close_names, find_model, full_name, is_known, load_index, load_model, meant, search
from rankviz.catalog.studies import load_evidence
from rankviz.errors import AssetError, UnknownModelError
from rankviz.paths import ASSETS
from tools.asset_schema import check_hardware, check_measurements, check_models, check_studies
from tools.forecast.counts import rate_by_rank, read_learning_rates

CONFIGS = ASSETS / "configs"


def table(name: str) -> list[dict[str, str]]:
    with (CONFIGS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_config_is_a_model_and_the_assets_pass_their_schema():
    assert 128 == check_models(ASSETS / "models")
    assert {row["file"] for row in table("INDEX.csv")} == {p.name for p in CONFIGS.glob("*.json")}
    assert 128 == len(table("INDEX.csv"))


def test_totals_are_those_published():
    rows = {row.file.replace(".whole.json", ".full.json"): row for row in load_index(ASSETS)}
    for published in table("INDEX.csv"):
        row = rows.get(published["file"]) or rows[published["file"].replace(".full.json", ".json")]

        expected = int(published["total_params_expected"])
        assert expected == row.total_parameters == load_model(ASSETS, row.id).total_parameters


def test_every_alias_finds_its_model():
    rows = load_index(ASSETS)
    for alias in table("ALIASES.csv"):
        assert alias["model_id"] == find_model(rows, alias["alias"]).id
    assert 452 <= len(table("ALIASES.csv"))


INSTRUCT = "meta-llama/Llama-3.1-8B-Instruct"
MEANT = {
    "qwen/qwen3-4b/": "Qwen/Qwen3-4B",
    "GPT2": "openai-community/gpt2",
    "https://www.huggingface.co/gpt2/tree/main?x=1": "openai-community/gpt2",
    "git clone https://hf.co/Qwen/Qwen3-4B.git": "Qwen/Qwen3-4B",
    "[x](https://huggingface.co/Qwen/Qwen3-4B/resolve/main/a.safetensors?download=true).": "Qwen/Qwen3-4B",
    "`Qwen/Qwen3-4B`,": "Qwen/Qwen3-4B",
    "unsloth/Llama-3.1-8B-bnb-4bit": "unsloth/Llama-3.1-8B-bnb-4bit",
    "someone/Qwen3-8B": None,
    "someone/other-GGUF": None,
    "/models/Qwen3-8B-GGUF": None,
    "phi-4": None,
    "nvidia open model license": None,
    "someone/phi-4-GGUF": None,
}
ASSUMED = {
    "hf.co/bartowski/Qwen_Qwen3-8B-GGUF:Q4_K_M": "Qwen/Qwen3-8B",
    "unsloth/phi-4-GGUF": "unsloth/phi-4",
    "TheBloke/Llama-2-7B-Chat-AWQ": "meta-llama/Llama-2-7b-chat-hf",
    "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit": INSTRUCT,
    "RedHatAI/Llama-3.1-8B-Instruct-quantized.w4a16": INSTRUCT,
    "google/gemma-3-4b-it-qat-q4_0-gguf": "google/gemma-3-4b-it",
    "Qwen3-8B-Q4_K_M.gguf": "Qwen/Qwen3-8B",
    "8b 3.1 instruct llama": INSTRUCT,
    "gpt-oss:20b": "openai/gpt-oss-20b",
}


@pytest.mark.parametrize("text", [*MEANT, *ASSUMED])
def test_a_text_means_the_model_that_it_names_or_that_a_copy_has_as_its_base(text):
    rows = load_index(ASSETS)

    found, note = meant(rows, text)

    assert (MEANT | ASSUMED)[text] == (full_name(rows, found) if is_known(rows, found) else None)
    assert (text in ASSUMED) == bool(note)


def test_models_are_found_by_words_in_any_order_and_unknown_words_get_suggestions():
    rows = load_index(ASSETS)

    def found(text):
        return [row.name if "/" in row.name else row.id for row in search(rows, text)]

    assert "Qwen/Qwen3-4B" == found("4b qwen3")[0]
    assert {"Qwen/Qwen2.5-3B", "Qwen/Qwen3-14B"}.isdisjoint(found("4b qwen3"))
    assert [INSTRUCT] == found("instruct llama3.1 8b") and ["openai/gpt-oss-20b"] == found("gptoss 20b")
    assert ["tiiuae/falcon-7b"] == found("apache-2.0 falc") and len(rows) == len(found(" "))
    for text in ("quen3 4b", "qwen3-4bb", "4b qwen3 instruction"):
        assert "Qwen/Qwen3-4B" in close_names(rows, text)[0]
    with pytest.raises(UnknownModelError, match="Did you mean 'microsoft/phi-4' or 'unsloth/phi-4'"):
        find_model(rows, "phi-4")


@pytest.mark.parametrize(
    ("break_it", "field"),
    ((lambda row: row.pop("source"), "source"), (lambda row: row["layers"][1].update(out_features=10**9), "the row")),
)
def test_a_broken_row_is_an_error_with_file_row_field_and_remedy(break_it, field, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(ASSETS / "models", models)
    file = models / "HuggingFaceTB__SmolLM2-135M.json"
    row = json.loads(file.read_text())
    break_it(row)
    file.write_text(json.dumps(row))

    with pytest.raises(AssetError) as caught:
        check_models(models)

    message = str(caught.value)
    assert message.startswith(f"HuggingFaceTB__SmolLM2-135M.json: row 'HuggingFaceTB/SmolLM2-135M', {field}")
    assert "make assets" in message


GPUS = load_gpus(ASSETS)


def test_the_shipped_files_keep_their_schema():
    check_hardware(ASSETS)


@pytest.mark.parametrize("name", ["a100-80gb-sxm", "A100-80GB (SXM)", "a100 80gb"])
def test_a_card_is_found_by_id_by_name_or_by_how_its_name_begins(name):
    assert "a100-80gb-sxm" == find_gpu(GPUS, name).id


@pytest.mark.parametrize(
    ("device_name", "mebibytes", "card"),
    [
        # memory as nvidia-smi prints it for these cards
        ("NVIDIA A100-SXM4-80GB", 81_920, "a100-80gb-sxm"),
        ("Tesla T4", 15_360, "t4"),
        ("NVIDIA GeForce RTX 5090", 32_607, "rtx-5090"),
        ("Tesla V100-SXM2-16GB", 16_384, "v100-16gb-sxm"),
        ("Tesla V100-SXM2-32GB", 32_768, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16_376, None),
        ("GRID T4-16Q", None, None),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97_887, "rtx-pro-6000-blackwell"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9_984, None),
    ],
)
def test_a_card_of_another_size_or_build_than_the_row_has_no_row(device_name, mebibytes, card):
    found = gpu_of_device(GPUS, device_name, mebibytes and mebibytes * 2**20)

    assert card == (found.id if found else None)


@pytest.mark.parametrize(
    ("model", "cards"),
    [
        ("L4", ["l4"]),
        ("A100", ["a100-40gb-sxm", "a100-80gb-sxm"]),
        ("GeForce-RTX-4090", ["rtx-4090"]),
        ("RTX-PRO-6000", ["rtx-pro-6000-blackwell"]),
        ("", []),
    ],
)
def test_a_model_as_clouds_and_schedulers_name_it_is_each_card_that_it_may_mean(model, cards):
    assert cards == [gpu.id for gpu in gpus_of_model(GPUS, model)]


def test_all_rows_are_as_the_schema_wants_them(tmp_path):
    check_studies(ASSETS)
    assert 273 == check_measurements(ASSETS)

    shutil.copytree(ASSETS / "validation", tmp_path / "validation")
    file = next(file for file in (tmp_path / "validation").glob("*.csv") if ",nf4-dq," in file.read_text())
    file.write_text(file.read_text().replace(",nf4-dq,", ",nf5,", 1))
    with pytest.raises(AssetError, match=r"validation row .*precision"):
        check_measurements(tmp_path)


def test_best_learning_rates_are_those_of_the_points():
    """Tinker's and Apertus' rates stand in both tables; the highest rank's is above the lowest's where alpha is fixed,
    and below it in the one sweep with alpha = r."""
    points = {(p.study_id, p.base_model, p.task, p.rank): p for p in load_evidence(ASSETS).points if p.role == "main"}
    rates = read_learning_rates(ASSETS)

    same = [(rate, points.get((rate.study_id, rate.base_model, rate.task, rate.rank))) for rate in rates]
    compared = [(rate.best_learning_rate, point.learning_rate) for rate, point in same if point and point.rank]
    assert 140 <= len(compared) and all(one == other for one, other in compared)
    assert [("fixed", 39, 1.0), ("r", 1, 0.18), ("", 1, 0.25)] == [
        (each.alpha, each.sweeps, round(each.median, 2)) for each in rate_by_rank(rates)
    ]


def test_bases_that_name_a_catalogue_row_agree_with_it():
    rows = {row.id: row for row in Api().models.all()}

    for model in load_evidence(ASSETS).models.values():
        if model.model_id is not None:
            row = rows[model.model_id]
            assert (row.family, row.total_parameters) == (model.family, model.parameters)
            assert load_model(ASSETS, model.model_id).has_experts is model.has_experts


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        ("studies.json", '"caveat": "Small encoder', '"note": "Small encoder', "row 'adalora_glue', caveat: missing"),
        ("points.csv", ",yes,detail,lora,", ",maybe,detail,lora,", "row 2, higher_is_better: "),
        ("points.csv", ",average_x100,", ",average_x100,more,", "row 12 has more or fewer cells than"),
        ("learning_rates.csv", ",fixed,0.0001,", ",fixed,-1,", "row 2, best_learning_rate: input should be"),
    ],
)
def test_a_broken_row_is_named_with_file_row_field_and_remedy(tmp_path, file, old, new, sentence):
    path = shutil.copytree(ASSETS / "evidence", tmp_path / "evidence") / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))

    with pytest.raises(AssetError) as raised:
        check_studies(tmp_path)

    assert str(raised.value).startswith(file)
    assert sentence in str(raised.value)
