"""assets/models is what `make assets` makes of assets/configs, and a total that differs stops it."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from rankviz.catalog.models import CHECKPOINTS
from rankviz.errors import AssetError

pytestmark = pytest.mark.torch

ASSETS = Path(__file__).parents[2] / "assets"


def test_the_assets_are_what_the_configs_make_of_them(tmp_path):
    from tests.support.models.meta_models import many_models
    from tools.models import build_models

    shutil.copy(ASSETS / "models" / CHECKPOINTS, tmp_path)  # read from Unsloth, not built
    with many_models():
        count = build_models(ASSETS / "configs", tmp_path, activation_seconds=0)

    assert 128 == count
    shipped, made = (
        {p.name: json.loads(p.read_text()) for p in d.glob("*.json")} for d in (ASSETS / "models", tmp_path)
    )
    assert shipped.keys() == made.keys()
    assert shipped["index.json"]["models"] == made["index.json"]["models"]
    for name in shipped.keys() - {"index.json", CHECKPOINTS}:
        assert shipped[name] | {"activation_bytes_per_token": []} == made[name], name


@pytest.mark.parametrize(
    "file",
    (
        "Qwen__Qwen3-0.6B.json",
        "deepseek-ai__DeepSeek-V2-Lite.json",
        "openai__gpt-oss-20b.json",
    ),
)
def test_the_activations_are_what_the_classes_hold(file):
    from rankviz.worker.introspect.layers import introspect

    shipped = json.loads((ASSETS / "models" / file).read_text())

    assert (
        shipped["activation_bytes_per_token"]
        == (introspect(json.loads((ASSETS / "configs" / file).read_text()))["activation_bytes_per_token"])
    )


def test_a_row_that_its_model_contradicts_stops_the_build(tmp_path):
    from tools.models import build_models

    file = "HuggingFaceTB__SmolLM2-135M.json"
    shutil.copy(ASSETS / "configs" / file, tmp_path)
    shutil.copy(ASSETS / "configs" / "ALIASES.csv", tmp_path)
    with (ASSETS / "configs" / "INDEX.csv").open(newline="") as index:
        rows = [row for row in csv.DictReader(index) if row["file"] == file]
    with (tmp_path / "INDEX.csv").open("w", newline="") as index:
        writer = csv.DictWriter(index, rows[0])
        writer.writeheader()
        writer.writerow(rows[0] | {"total_params_expected": "134515009"})

    with pytest.raises(AssetError) as caught:
        build_models(tmp_path, tmp_path / "models")

    told = f"INDEX.csv: row {file}: total_parameters is 134515009, but the model built has 134515008"
    assert told in str(caught.value)
