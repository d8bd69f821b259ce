"""Tables of results that someone adds: read, averaged, stored as a study of their own, and refused with a sentence."""

from datetime import date

import pytest

from rankviz.api import Api
from rankviz.catalog.own_studies import read_table
from rankviz.core.cost.question import Question
from rankviz.errors import BadDataError

TODAY = date(2026, 11, 30)
HEADER = "model,task,metric,rank,value,seed,learning_rate"
ROWS = [
    "Qwen/Qwen3-4B,law -> exam,accuracy,4,0.5,0,1e-4",
    "Qwen/Qwen3-4B,law -> exam,accuracy,4,0.6,1,1e-4",
    "Qwen/Qwen3-4B,law -> exam,accuracy,16,0.7,0,1e-4",
    "Qwen/Qwen3-4B,law -> exam,accuracy,full,0.8,0,1e-5",
]


def table(*rows, header=HEADER):
    return "\n".join([header, *rows]).encode()


def result() -> str:
    """A small table, as others add it."""
    return table(*ROWS).decode()


def test_runs_that_differ_in_their_seed_are_a_mean_with_its_error():
    small, large, full = read_table(table(*ROWS), "mine.csv", TODAY)

    assert (4, 0.55, 0.05) == pytest.approx((small.rank, small.value, small.standard_error))
    assert (16, 0.7, None) == (large.rank, large.value, large.standard_error)
    assert (None, "full", "all weights") == (full.rank, full.method, full.facet)
    assert ({"results"}, {"2026-11-30"}, True) == (
        {point.table for point in (small, large)},
        {point.run_date for point in (small, large)},
        small.higher_is_better,
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            table(ROWS[0], ROWS[1].replace(",4,", ",four,")),
            "mine.csv, row 3, rank: 'four' is not a whole number from 1",
        ),
        (table(ROWS[0].replace("0.5", "")), "mine.csv, row 2, value: '' is not a number: correct it."),
        (table("m,t,f1,4,1,maybe", header="model,task,metric,rank,value,higher_is_better"), "'maybe' is not yes or no"),
        (table("4,0.5", header="rank,value"), "mine.csv has no model, task, metric, or no row: its first line must"),
        (table(*[f"m,t,f1,{r},1,0,1e-4" for r in range(1, 502)]), "has 501 settings, at most 500 are read"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_what_to_do(content, sentence):
    with pytest.raises(BadDataError) as raised:
        read_table(content, "mine.csv", TODAY)

    assert sentence in str(raised.value)


def test_an_added_table_is_a_study_of_its_own_and_can_be_removed(tmp_path):
    api = Api(home=tmp_path / "home")
    file, bad = tmp_path / "mine.csv", tmp_path / "bad.csv"
    file.write_bytes(table(*ROWS))
    bad.write_bytes(table(ROWS[0].replace(",4,", ",four,")))

    added = api.studies.add([file, bad])

    assert (["mine.csv"], 3) == (list(added.files), added.points)
    assert "bad.csv, row 2, rank: 'four'" in added.refused[0]
    (line,) = [line for line in api.studies.all().lines if line.study.own]
    assert ((4, 16), 0.8, "Qwen/Qwen3-4B") == (line.ranks, line.full.value, line.model.model_id)
    assert line not in api.studies.all().published
    assert api.tradeoffs.of(Question(model_id="Qwen/Qwen3-4B")).estimate
    assert list(added.names) == list(api.studies.added())
    api.studies.remove(added.names[0])
    assert [] == list(api.studies.added())
