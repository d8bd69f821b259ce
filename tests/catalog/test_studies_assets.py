"""The evidence and measured rows that ship: complete, strict, with sources that arrive, and counts made of them."""

import shutil

import pytest

from rankviz.api import ASSETS, Api
from rankviz.catalog.models import load_model
from rankviz.catalog.studies import load_evidence
from rankviz.errors import AssetError
from tools.asset_schema import check_measurements, check_studies
from tools.forecast.counts import rate_by_rank, read_learning_rates


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(ASSETS / "evidence", tmp_path / "evidence")
    return tmp_path


def test_all_rows_are_as_the_schema_wants_them(tmp_path):
    check_studies(ASSETS)
    assert 227 == check_measurements(ASSETS)

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


def broken(folder, file, old, new):
    path = folder / "evidence" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (
            "studies.json",
            '"caveat": "Small encoder',
            '"note": "Small encoder',
            "row 'adalora_glue', caveat: missing; add it",
        ),
        ("points.csv", ",yes,detail,lora,", ",maybe,detail,lora,", "row 2, higher_is_better: "),
        ("points.csv", ",average_x100,", ",average_x100,more,", "row 12 has more or fewer cells than"),
        ("learning_rates.csv", ",fixed,0.0001,", ",fixed,-1,", "row 2, best_learning_rate: input should be"),
    ],
)
def test_a_broken_row_is_named_with_file_row_field_and_remedy(copied, file, old, new, sentence):
    broken(copied, file, old, new)

    with pytest.raises(AssetError) as raised:
        check_studies(copied)

    assert str(raised.value).startswith(file)
    assert sentence in str(raised.value)
