"""Tables as files: every number of the table, and in every row what it rests on."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from rankviz import __version__
from rankviz.api import Api
from rankviz.core.cost.question import Question
from rankviz.errors import NotYoursError
from rankviz.exports.tables import ranks_table, write_table
from rankviz.ui.parts import charts
from rankviz.visitor import acting_as
from tests.support.runs.finished_runs import finished
from tests.support.web.visitors import ANN, BEN


@pytest.fixture(scope="module")
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
        assert [4, 8] == [row["r"] for row in charts.sweep_runs(api, sweep_id=sweep_id).rows]

    with acting_as(BEN):
        assert 2 == len(api.runs.sweep(sweep_id).runs)
        with pytest.raises(NotYoursError):
            charts.sweep_runs(api, sweep_id=sweep_id)
