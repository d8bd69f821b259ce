"""Data and result files that strangers upload: texts that are no UTF-8, numbers that are no numbers."""

import io
import json
import zipfile

import pyarrow
import pyarrow.parquet
import pytest

from tests.attacks.payloads import run_files, runs_zip
from tests.attacks.test_imports import imported
from tests.catalog.test_own_studies import ROWS, table
from tests.support.quick import first_quick
from tests.support.web.stranger import file_data

MEASURE, RESULTS = "Read lengths from a file", "Add your results (CSV or PEFT's JSON)"


def parquet(**columns):
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out, compression="zstd")
    return out.getvalue()


def declared_texts(data, size):
    """Arrow does not look at the bytes of a text that a file declares to be one."""
    ends = b"".join((size * i).to_bytes(4, "little") for i in range(len(data) // size + 1))
    return pyarrow.StringArray.from_buffers(len(data) // size, pyarrow.py_buffer(ends), pyarrow.py_buffer(data))


PARQUET = {
    "no UTF-8": lambda: parquet(text=declared_texts(b"\xff\xfe\xfd" * 9, 3)),
    "halves of characters": lambda: parquet(text=declared_texts("\ud800".encode("utf-8", "surrogatepass") * 9, 3)),
    "no UTF-8 as a chat": lambda: parquet(
        messages=pyarrow.array([[{"role": "user", "content": b"\xff"}]], pyarrow.list_(pyarrow.struct(
            [("role", pyarrow.string()), ("content", pyarrow.binary())])))),
    "a text of 300 MB": lambda: parquet(text=["a" * (300 * 10**6)]),
    "2,000,000 rows": lambda: parquet(text=["a"] * 2_000_000),
    "numbers": lambda: parquet(text=[float("nan"), float("inf"), -1e308]),
    "nothing": lambda: parquet(text=pyarrow.array([], pyarrow.string())),
    "cut": lambda: parquet(text=["a word"] * 99)[:-20],
}  # fmt: skip


@pytest.mark.parametrize("kind", first_quick(PARQUET))
def test_a_parquet_file_of_anything_is_a_sentence(during, ann, kind):
    def attack():
        path = ann.upload("d.parquet", PARQUET[kind]())
        data = file_data(path, "d.parquet")
        texts = [answer.text for answer in ann.run(MEASURE, "upload", named={MEASURE: data})]
        return [*texts, ann.press("train-button", train_data="own", train_file=data, train_steps=2).error]

    texts = during(attack)

    assert "d.parquet" in " ".join(texts)
    assert texts[-1]
    assert "[[]]" == json.dumps(ann.endpoint("runs").data)


INFINITE = {
    "infinite": "Infinity", "not a number": "NaN", "10^400": "1" + "0" * 400, "1e999": "1e999", "a text": '"x"',
    "a list": "[1e308, -1e308]", "5,000 brackets": "[" * 5000 + "]" * 5000,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("value", INFINITE)
def test_a_result_file_of_infinite_values_is_a_sentence(during, ann, value):
    """In each number's place in turn."""
    cells = ROWS[0].split(",")
    places = [place for place, cell in enumerate(cells) if cell[0].isdigit()]

    def attack():
        files = []
        for place in places:
            broken = table(",".join([*cells[:place], f'"{INFINITE[value]}"', *cells[place + 1 :]]))
            files.append(file_data(ann.upload(f"r{place}.csv", broken), f"r{place}.csv"))
        return " ".join(each.text for each in ann.run(RESULTS, "upload", named={RESULTS: files}))

    answer = during(attack)

    assert "csv" in answer
    assert "Infinity," not in answer


def kept_as(stranger, name):
    """The id that an imported run has on a shared page, which names it anew."""
    (runs,) = stranger.endpoint("runs").data
    (run_id,) = [run["run_id"] for run in runs if run["run_id"].startswith(f"{name}-")]
    return run_id


def test_a_formula_in_a_name_is_inert_in_what_is_downloaded(during, ann, name):
    """Of a base that somebody called so, and sent to somebody else."""
    formula = '=HYPERLINK("http://evil","x")'
    imported(ann, runs_zip((name, run_files(name, change=lambda row: row | {"base": formula, "data": "@SUM(A1)"}))))
    run_id = kept_as(ann, name)
    sweep_id = ann.endpoint("run", run_id).data[0]["sweep_id"]

    def attack():
        ann.load(f"?tab=runs&sweep={sweep_id}")
        answer = ann.endpoint("export_runs", [run_id])
        assert "" == answer.error
        reply = ann.http.get(f"/gradio_api/file={answer.data[0]['path']}")
        with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
            text = archive.read("summary.csv").decode()
        return text, ann.load(f"?tab=runs&sweep={sweep_id}&run={run_id}")

    text, errors = during(attack)

    assert [] == errors
    assert "\"'=HYPERLINK" in text
    assert "'@SUM(A1)" in text
