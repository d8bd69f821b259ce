"""Tables of one's own results: seeds averaged, kept as they are read, and refused with a sentence."""

from datetime import date

import pytest

from rankviz.api import Api
from rankviz.catalog.own_studies import as_table, read_table
from rankviz.core.cost.question import Question
from rankviz.errors import BadDataError
from tests.cli.command import rankviz

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


def read(*rows, **more):
    return read_table(table(*rows, **more), "mine.csv", TODAY)


def test_runs_that_differ_in_their_seed_are_a_mean_with_its_error():
    small, large, full = read(*ROWS)

    assert (4, 0.55, 0.05) == pytest.approx((small.rank, small.value, small.standard_error))
    assert (16, 0.7, None) == (large.rank, large.value, large.standard_error)
    assert (None, "full", "all weights") == (full.rank, full.method, full.facet)
    assert ({"results"}, {"2026-11-30"}, True) == (
        {point.table for point in (small, large)},
        {point.run_date for point in (small, large)},
        small.higher_is_better,
    )


def test_several_rates_at_one_rank_are_lines_of_their_own():
    two = read(ROWS[0], ROWS[0].replace("1e-4", "1e-3"), ROWS[2])

    assert ["results, learning rate 0.0001", "results, learning rate 0.001", "results, learning rate 0.0001"] == [
        point.table for point in two
    ]


def test_a_loss_is_better_where_it_is_lower_and_columns_of_ones_own_are_ignored():
    (point,) = read("toy,law,eval_loss,8,1.5,A100", header="model,task,metric,rank,value,gpu")

    assert (False, True) == (point.higher_is_better, point.is_loss)


def test_what_is_kept_reads_as_the_same_points():
    points = read(*ROWS)

    assert points == read_table(as_table(points).encode(), "mine.csv", date(2027, 1, 1))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            table(ROWS[0], ROWS[1].replace(",4,", ",four,")),
            "mine.csv, row 3, rank: 'four' is not a whole number from 1",
        ),
        (table(ROWS[0].replace("0.5", "")), "mine.csv, row 2, value: '' is not a number: correct it."),
        (table(ROWS[0].replace("0.5", "nan")), "row 2, value: 'nan' is not a number"),
        (table(ROWS[0].replace(",4,", ",0,")), "row 2, rank: '0' is not a whole number from 1 to 65,536, or full"),
        (table("toy,law"), "row 2, metric: '' is not a text of 1 to 200 characters"),
        (table(ROWS[0].replace("1e-4", "fast")), "row 2, learning_rate: 'fast' is not a number above 0"),
        (table("m,t,f1,4,1,maybe", header="model,task,metric,rank,value,higher_is_better"), "'maybe' is not yes or no"),
        (table("m,t,f1,4,1,May", header="model,task,metric,rank,value,date"), "'May' is not a date such as 2026-01-31"),
        (table("4,0.5", header="rank,value"), "mine.csv has no model, task, metric, or no row: its first line must"),
        (table(), "or no row"),
        (b"\xff\xfe", "mine.csv is no CSV in UTF-8"),
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


def test_evidence_add_prints_the_name_that_remove_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKVIZ_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.csv").write_bytes(table(*ROWS))

    printed = rankviz("evidence", "add", str(tmp_path / "mine.csv")).stdout
    *_, name = printed.split()

    assert f"To remove it: rankviz evidence remove {name}" in printed
    assert f"Removed {name}." in rankviz("evidence", "remove", name).stdout


def test_the_help_of_evidence_add_says_the_columns():
    text = " ".join(rankviz("evidence", "add", "--help").stdout.replace("│", " ").split())

    assert all(name in text for name in ("model:", "task:", "metric:", "rank:", "value:", "seed:", "base_value:"))
