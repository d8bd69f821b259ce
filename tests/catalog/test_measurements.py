"""The measured rows that ship are as their schema has them, and a wrong one is named."""

import shutil
from pathlib import Path

import pytest

from rankviz.errors import AssetError
from tools.asset_schema import check_measurements

ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture
def assets(tmp_path):
    shutil.copytree(ASSETS / "validation", tmp_path / "validation")
    return tmp_path


def changed(assets, old, new):
    file = next(file for file in sorted((assets / "validation").glob("*.csv")) if old in file.read_text())
    file.write_text(file.read_text().replace(old, new, 1))


def test_every_shipped_row_passes():
    assert 227 == check_measurements(ASSETS)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (",nf4-dq,", ",nf5,", "precision"),
        (",hf,", ",mlx,", "checkpointing"),
        (",exact,", ",about,", "seq_kind"),
        (",allocated,", ",guessed,", "measured_kind"),
    ],
)
def test_a_wrong_cell_is_named(assets, old, new, sentence):
    changed(assets, old, new)

    with pytest.raises(AssetError, match=rf"validation row .*{sentence}"):
        check_measurements(assets)
