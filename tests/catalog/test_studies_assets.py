"""The evidence that ships: complete, strict, with sources that arrive, and the counts that are made of it."""

import json
import shutil

import pytest

from rankviz.api import ASSETS, Api
from rankviz.api.json import advice_json
from rankviz.catalog.studies import load_evidence
from rankviz.catalog.studies_schema import check
from rankviz.core.advice.use_case import NAMES, Goal
from rankviz.core.advice.words import enough_in_words
from rankviz.core.cost.question import Question
from rankviz.core.studies.findings import rank_enough
from rankviz.errors import AssetError


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(ASSETS / "evidence", tmp_path / "evidence")
    return tmp_path


def test_all_rows_are_as_the_schema_wants_them():
    check(ASSETS)


def test_981_points_of_22_studies_arrive_with_source_caveat_and_date():
    evidence = load_evidence(ASSETS)

    assert (981, 22) == (len(evidence.points), len(evidence.studies))
    for study in evidence.studies.values():
        assert study.source.startswith("https://")
        assert study.citation and study.caveat and study.learning_rate_and_alpha_policy
        assert "2026" == study.checked[:4]
    for model in evidence.models.values():
        assert model.source and model.checked


def test_bases_that_name_a_catalogue_row_agree_with_it():
    rows = {row.id: row for row in Api().models.all()}

    for model in load_evidence(ASSETS).models.values():
        if model.model_id is not None:
            row = rows[model.model_id]
            assert (row.family, row.total_parameters) == (model.family, model.parameters)


def test_in_17_of_22_models_r_16_is_enough_and_no_line_of_code_says_so():
    enough = rank_enough(load_evidence(ASSETS).published)

    assert {4: 2, 16: 15, 64: 4, 128: 1} == enough.smallest
    assert "in 17 of 22 models tuned at each rank, r ≤ 16 came within 0.5 % of the best loss" == enough_in_words(
        enough, 16
    )
    assert (
        "in 2 of 22 models tuned at each rank, r ≤ 8 came within 0.5 % of the best loss (r = 8 itself was not run; "
        in (enough_in_words(enough, 8))
    )


def test_a_study_less_is_another_sentence(copied):
    """Without Qwen3.5, Qwen3.6 and NVIDIA, 12 models remain that were swept to 64; 5 of them needed more than 16."""
    points = copied / "evidence" / "points.csv"
    gone = ("Qwen/Qwen3.5", "Qwen/Qwen3.6", "nvidia/")
    kept = [line for line in points.read_text().splitlines() if not any(name in line for name in gone)]
    points.write_text("\n".join(kept) + "\n")

    enough = rank_enough(load_evidence(copied).published)

    assert "in 7 of 12 models tuned at each rank, r ≤ 16" in enough_in_words(enough, 16)
    assert rank_enough(load_evidence(ASSETS).without("tinker_sft_sweep").published) is None


def test_without_the_study_the_advice_counts_nothing(copied, tmp_path):
    for name in ("models", "assumptions.json", "gpus.json", "validation.json"):
        (copied / name).symlink_to(ASSETS / name)
    file = copied / "evidence" / "points.csv"
    file.write_text("\n".join(x for x in file.read_text().splitlines() if not x.startswith("tinker")) + "\n")
    question = Question(model_id="meta-llama/Llama-3.1-8B")

    before = advice_json(Api(home=tmp_path / "home").advice.advise(question, Goal()))
    after = advice_json(Api(home=tmp_path / "home", assets=copied).advice.advise(question, Goal()))

    assert "in 17 of 22 models" in before["sentence"]
    assert "the rule of thumb for standard instruction tuning." in after["sentence"]
    assert after["rank_enough"] is None


@pytest.mark.parametrize("use_case", NAMES)
def test_every_use_case_has_studies_of_its_own_kind(use_case):
    near = Api().studies.near("meta-llama/Llama-3.1-8B", use_case, ("lora",), ("attention and mlp",))

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
        ("points.csv", "study_id,base_model", "study,base_model", "the columns must be study_id, base_model"),
    ],
)
def test_a_broken_row_is_named_with_file_row_field_and_remedy(copied, file, old, new, sentence):
    broken(copied, file, old, new)

    with pytest.raises(AssetError) as raised:
        check(copied)

    assert str(raised.value).startswith(file)
    assert sentence in str(raised.value)


def test_a_point_of_no_study_and_a_study_without_points_are_named(copied):
    studies = json.loads((copied / "evidence" / "studies.json").read_text())
    gone = studies["studies"].pop(0)
    (copied / "evidence" / "studies.json").write_text(json.dumps(studies))

    with pytest.raises(AssetError, match=f"row 2, study_id: no '{gone['study_id']}' in studies.json; add it"):
        check(copied)
