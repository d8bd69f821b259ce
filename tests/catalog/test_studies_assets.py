"""The evidence that ships: complete, strict, with sources that arrive, and the counts that are made of it."""

import csv
import json
import shutil

import pytest

from rankviz.api import ASSETS, Api
from rankviz.catalog.models import load_model
from rankviz.catalog.studies import load_evidence, read_learning_rates
from rankviz.core.advice.use_case import NAMES
from rankviz.core.studies.findings import kept_by_rank, rate_by_rank, short_of_full
from rankviz.core.studies.lines import LOSSES
from rankviz.errors import AssetError
from tools.asset_schema import check_studies

APERTUS = "swiss-ai/Apertus-{}-Instruct-2509"


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(ASSETS / "evidence", tmp_path / "evidence")
    return tmp_path


def test_all_rows_are_as_the_schema_wants_them():
    check_studies(ASSETS)


def rows_in_the_files():
    folder = ASSETS / "evidence"
    with (folder / "points.csv").open(newline="") as points:
        return len(list(csv.DictReader(points))), len(json.loads((folder / "studies.json").read_text())["studies"])


def test_every_point_and_study_arrives_with_source_caveat_and_date():
    evidence = load_evidence(ASSETS)

    assert rows_in_the_files() == (len(evidence.points), len(evidence.studies))
    for study in evidence.studies.values():
        assert study.source is None or study.source.startswith("https://")
        assert study.citation and study.caveat and study.learning_rate_and_alpha_policy
        assert "2026" == study.checked[:4]
    for model in evidence.models.values():
        assert model.source and model.checked


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


def test_a_study_without_a_link_says_so_in_its_caveat():
    studies = [study for study in load_evidence(ASSETS).studies.values() if study.source is None]

    assert {"claims_extract_qwen25_1p5b", "moge2_aerial_depth", "valtric_distilroberta_finance"} == {
        study.study_id for study in studies
    }
    assert all("there is no link" in study.caveat for study in studies)


def test_a_classifiers_loss_is_never_among_the_losses_per_token():
    points = load_evidence(ASSETS).points

    encoders = [point for point in points if "bert" in point.base_model.lower()]
    assert {"classification_loss"} == {p.metric for p in encoders if not p.higher_is_better}
    assert not {p.metric for p in encoders} & set(LOSSES)
    assert set(LOSSES) <= {p.metric for p in points if not p.higher_is_better}


def test_the_base_before_training_stands_beside_a_point_where_the_study_has_it():
    """Apertus-8B had 1.6946 before training, and 0.75989 at its best rank; Tinker's table has no such column."""
    evidence = load_evidence(ASSETS)

    (line,) = [x for x in evidence.lines if x.first.role == "main" and x.model.base_model == APERTUS.format("8B")]
    assert (1.6946, 256, 0.75989) == (line.first.base_value, line.best.rank, line.best.value)
    assert {None} == {point.base_value for point in evidence.points if point.study_id == "tinker_sft_sweep"}


def test_a_grid_of_learning_rates_is_drawn_by_the_best_of_each_rank():
    """Apertus-70B at r = 1: 12.7165 at 1e-3 (it diverged), 0.69001 at 1e-4, 0.71874 at 1e-5."""
    lines = [
        line
        for line in load_evidence(ASSETS).lines
        if line.model.base_model == APERTUS.format("70B") and line.first.is_loss and line.first.rank == 1
    ]

    longest = [line.first for line in lines if line.first.duration.startswith("467 steps")]
    assert {("detail", 1e-3, 12.71653), ("main", 1e-4, 0.69001), ("detail", 1e-5, 0.71874)} == {
        (point.role, point.learning_rate, point.value) for point in longest
    }


def test_images_and_depth_are_in_no_count():
    evidence = load_evidence(ASSETS)

    without = evidence.without("moge2_aerial_depth").without("peft_mc_imagegen").published
    assert kept_by_rank(without) == kept_by_rank(evidence.published)
    assert short_of_full(without) == short_of_full(evidence.published)


def test_bases_that_name_a_catalogue_row_agree_with_it():
    rows = {row.id: row for row in Api().models.all()}

    for model in load_evidence(ASSETS).models.values():
        if model.model_id is not None:
            row = rows[model.model_id]
            assert (row.family, row.total_parameters) == (model.family, model.parameters)
            assert load_model(ASSETS, model.model_id).has_experts is model.has_experts


@pytest.mark.parametrize("use_case", NAMES)
def test_every_use_case_has_studies_of_its_own_kind(use_case):
    studies = Api().studies
    near = studies.near(studies.subject("meta-llama/Llama-3.1-8B", use_case), ("lora",), ("attention and mlp",))

    assert any(each.same_task for each in near)


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
        ("studies.json", '"task_kind": "simple"', '"task_kind": "easy"', "row 'adalora_glue', task_kind: "),
        ("studies.json", "https://arxiv.org", "arxiv.org", "row 'adalora_glue', source: "),
        (
            "studies.json",
            '"study_id": "adalora_squad"',
            '"study_id": "aaa"',
            "row 'aaa' is out of order: move it above",
        ),
        ("models.json", '"parameters": 184000000', '"parameters": -1', "row 'DeBERTaV3-base', parameters: "),
        ("points.csv", ",yes,detail,lora,", ",maybe,detail,lora,", "row 2, higher_is_better: "),
        ("points.csv", ",average_x100,", ",,", "metric: "),
        ("points.csv", ",average_x100,", ",average_x100,more,", "row 12 has more or fewer cells than"),
        ("points.csv", ",average_x100,", ",", "row 12 has more or fewer cells than"),
        ("points.csv", ",attention and mlp,", ",everywhere,", "facet: input should be 'attention and mlp'"),
        ("studies.json", '"examples": ', '"own": true, "examples": ', "row 'adalora_glue', own: input should be False"),
        ("learning_rates.csv", ",fixed,0.0001,", ",fixed,-1,", "row 2, best_learning_rate: input should be"),
        ("learning_rates.csv", ",fixed,0.0001,", ",fixed,much,", "row 2, best_learning_rate: 'much' is not a value"),
        ("points.csv", "study_id,base_model", "study,base_model", "the columns must be study_id, base_model"),
    ],
)
def test_a_broken_row_is_named_with_file_row_field_and_remedy(copied, file, old, new, sentence):
    broken(copied, file, old, new)

    with pytest.raises(AssetError) as raised:
        check_studies(copied)

    assert str(raised.value).startswith(file)
    assert sentence in str(raised.value)


def test_a_point_of_no_study_and_a_study_without_points_are_named(copied):
    studies = json.loads((copied / "evidence" / "studies.json").read_text())
    gone = studies["studies"].pop(0)
    (copied / "evidence" / "studies.json").write_text(json.dumps(studies))

    with pytest.raises(AssetError, match=f"row 2, study_id: no '{gone['study_id']}' in studies.json; add it"):
        check_studies(copied)
