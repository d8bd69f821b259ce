import csv
import io
import zipfile

import pytest

from rankviz.core.cells import cell
from rankviz.core.runs.events import RunCompleted
from rankviz.store import RunStore, export_runs
from rankviz.ui.parts.charts import csv_text
from tests.support import questions


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"])
def test_a_text_that_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe(text):
    assert f"'{text}" == cell(text)


@pytest.mark.parametrize("value", [-1, -1.5, None, True, "", "a=1", "r = 4"])
def test_numbers_and_other_texts_stay(value):
    assert value is cell(value)


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
