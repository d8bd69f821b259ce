"""Cells of a table, and ranges, which rise whatever floats do to their ends."""

import csv
import io
import math
import zipfile

from rankviz.core.cells import cell, csv_text
from rankviz.core.quantity import Range
from rankviz.core.runs.events import RunCompleted
from rankviz.store import RunStore, export_runs
from tests.support.runs import questions

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"]
SEPARATED = {"x;=1+1": "x;'=1+1", "a\tb\t@x": "a\tb\t'@x", 'x|"=1': "x|'\"=1", "a\r\n -1": "a\r'\n' -1"}
"""Where a spreadsheet separates by something else than the file does."""
OTHERS = [-1, -1.5, None, True, "", "a=1", "r = 4", "a-b; c", "q_proj, v_proj", "x|y"]


def test_a_text_that_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe_and_nothing_else_does():
    assert [f"'{text}" for text in FORMULAS] == [cell(text) for text in FORMULAS]
    assert SEPARATED == {text: cell(text) for text in SEPARATED}
    assert all(value is cell(value) for value in OTHERS)


def test_no_formula_is_in_an_export_or_in_the_data_of_a_figure(tmp_path):
    store = RunStore(tmp_path)
    (run_id,) = store.run_ids(store.create(questions.sweep(ranks=(8,), base='=HYPERLINK("http://x")', data="@x")))
    store.append(run_id, RunCompleted(time=9.0, train_seconds=8.0, peak_memory_bytes=1, peak_memory_kind="-x"))

    with zipfile.ZipFile(export_runs([store], [run_id], tmp_path / "runs.zip")) as archive:
        (row,) = csv.DictReader(io.StringIO(archive.read("summary.csv").decode()))

    assert ('\'=HYPERLINK("http://x")', "'@x", "'-x", "8") == tuple(
        row[name] for name in ("base", "data", "peak_memory_kind", "r")
    )
    assert "model,loss\n'+x,-1.5\n" == csv_text([{"model": "+x", "loss": -1.5}])


def test_ends_that_rounding_put_out_of_order_are_put_in_order():
    above, below = 309.0, math.nextafter(309.0, 0)

    assert Range(above, above, above) == Range(above, above, below)
    assert Range(below, below, above) == Range(above, below, above)
    assert Range(-above, -above, -above) == Range(-below, -above, -above)
