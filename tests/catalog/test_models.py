"""The model catalogue as it ships: complete, checked, with its sources, and every name findable."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rankviz.catalog.models import find_model, load_index, load_model
from rankviz.errors import AssetError, UnknownModelError
from tools.asset_schema import check_models

ASSETS = Path(__file__).parents[2] / "assets"
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

        assert (
            int(published["total_params_expected"])
            == row.total_parameters
            == load_model(ASSETS, row.id).total_parameters
        )


def test_every_alias_finds_its_model():
    rows = load_index(ASSETS)
    for alias in table("ALIASES.csv"):
        assert alias["model_id"] == find_model(rows, alias["alias"]).id
    assert 452 <= len(table("ALIASES.csv"))


def test_a_name_is_found_in_any_case_and_without_its_owner_and_an_unknown_one_gets_suggestions():
    rows = load_index(ASSETS)

    assert "Qwen/Qwen3-4B" == find_model(rows, "qwen/qwen3-4b").id
    assert "openai-community/gpt2" == find_model(rows, "GPT2").id
    with pytest.raises(UnknownModelError) as caught:
        find_model(rows, "qwen3-4bb")
    assert "Qwen/Qwen3-4B" in str(caught.value)


@pytest.mark.parametrize(
    ("break_it", "field"),
    (
        (lambda row: row.pop("source"), "source"),
        (lambda row: row["layers"][1].update(out_features=10**9), "the row"),
    ),
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


READ_EVERYTHING = """
import sys
from pathlib import Path
from rankviz.catalog.hardware import load_assumptions, load_gpus
from rankviz.catalog.models import load_model
from rankviz.catalog.studies import load_evidence
assets = Path("assets").resolve()
load_gpus(assets), load_assumptions(assets), load_model(assets, "Qwen/Qwen3-4B"), load_evidence(assets)
print(*sys.modules)
"""


def test_reading_every_table_on_the_way_to_an_estimate_imports_no_pydantic():
    answer = subprocess.run([sys.executable, "-c", READ_EVERYTHING], capture_output=True, text=True, check=True)

    imported = set(answer.stdout.split())
    assert "rankviz.catalog.studies" in imported
    assert not {"pydantic", "pydantic_core", "numpy", "pandas", "torch"} & imported
