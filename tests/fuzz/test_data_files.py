"""Broken data files, result files and tables of losses: rows, or a sentence that names the row."""

import io
import json
import shutil
import tempfile
from datetime import date
from pathlib import Path

import pyarrow
from pyarrow import parquet as arrow_parquet

from rankviz import dataset
from rankviz.api import Api
from rankviz.api.data import measured
from rankviz.catalog import own_studies
from rankviz.ui.explore.sections import shown_studies as shown
from rankviz.verdict import judge, read_table
from tests.catalog.test_own_studies import HEADER, ROWS, of_peft
from tests.fuzz import mutate
from tests.fuzz.in_process import InProcess

PAIRS = [{"prompt": f"say {i}", "completion": f"word {i}"} for i in range(6)]
CHATS = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": str(i)}]} for i in range(4)]
INSTRUCTIONS = [{"instruction": "a", "input": "b", "output": str(i)} for i in range(4)]
TEXTS = [{"text": f"some words {i}"} for i in range(4)]
SHAREGPT = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": str(i)}]} for i in range(4)]
SAMPLES = (PAIRS, CHATS, INSTRUCTIONS, TEXTS, SHAREGPT)


def reading(path):
    def read(data):
        path.write_bytes(data)
        first = measured(str(path), dataset.ASSETS).first
        json.dumps(first).encode()
        "".join(part for example in first for part in example).encode()

    return read


def test_json_lines(fuzz, tmp_path):
    fuzz(lambda rng: mutate.json_lines(rng.choice(SAMPLES), rng), reading(tmp_path / "d.jsonl"))


def test_csv(fuzz, tmp_path):
    def make(rng):
        rows = rng.choice((PAIRS, INSTRUCTIONS, TEXTS))
        return mutate.table(list(rows[0]), [list(row.values()) for row in rows], rng)

    fuzz(make, reading(tmp_path / "d.csv"))


def parquet(rows, **columns):
    out = io.BytesIO()
    arrow_parquet.write_table(pyarrow.Table.from_pylist(rows), out, **columns)
    return out.getvalue()


WORDS = [text for text in mutate.TEXTS if text.isascii() or text.isprintable()]
"""Texts that Arrow takes: no halves of characters."""
WHOLE = [number for number in mutate.NUMBERS if isinstance(number, int) and abs(number) < 2**63]
REAL = [number for number in mutate.NUMBERS if isinstance(number, float)]
TURN = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.float64())])
VALUES = {
    pyarrow.string(): WORDS,
    pyarrow.large_string(): WORDS,
    pyarrow.binary(): [b"\xff\xfe", b"\x00", b"a" * 5000],
    pyarrow.int64(): WHOLE,
    pyarrow.float64(): REAL,
    pyarrow.bool_(): [True, False],
    pyarrow.null(): [None],
    pyarrow.timestamp("us"): WHOLE,
    pyarrow.date32(): [0, -(2**31), 2**31 - 1],
    pyarrow.duration("ns"): WHOLE,
    pyarrow.dictionary(pyarrow.int32(), pyarrow.string()): WORDS,
    pyarrow.list_(pyarrow.string()): [[], WORDS, [None]],
    pyarrow.list_(TURN): [[], [{"role": "user", "content": each} for each in REAL], [None]],
    TURN: [{"role": each, "content": 1.0} for each in WORDS],
}
"""What columns of a kind may hold; anything may be missing too."""


def column(kind, rng, count):
    return pyarrow.array([rng.choice((*VALUES[kind], None)) for _ in range(count)], kind)


def any_columns(rng):
    """A sound Parquet file of columns with the right names, of other types and with values that texts never have."""
    names = rng.sample(["prompt", "completion", "messages", "text", "instruction", "input", "output", "x"], 3)
    count = rng.choice((1, 3, 300))
    columns = {name: column(rng.choice(list(VALUES)), rng, count) for name in names}
    columns[rng.choice(names)] = pyarrow.array(["a word"] * count)
    out = io.BytesIO()
    arrow_parquet.write_table(pyarrow.table(columns), out, compression=rng.choice(("none", "snappy", "gzip", "zstd")))
    return out.getvalue()


def test_parquet_of_any_columns(fuzz, tmp_path):
    fuzz(any_columns, reading(tmp_path / "d.parquet"))


def test_parquet(fuzz, tmp_path):
    files = [parquet(rows) for rows in SAMPLES] + [parquet(PAIRS, use_dictionary=False, compression="none")]
    files += [parquet([{"prompt": i, "completion": [i]} for i in range(3)]), parquet([{"text": b"\xff\xfe"}] * 3)]

    fuzz(lambda rng: mutate.file_bytes(rng.choice(files), rng), reading(tmp_path / "d.parquet"))


QUESTION = {"model": "HuggingFaceTB/SmolLM2-135M", "use_case": "instruction", "r": 16, "dora": False, "rslora": True}


def test_a_file_of_peft_is_read_or_refused(fuzz):
    def read(data):
        own_studies.read_points(data, "a.json", date(2026, 11, 30))

    fuzz(lambda rng: mutate.json_bytes(json.loads(of_peft()), rng), read)


def test_the_page_shows_what_result_files_hold(fuzz, tmp_path):
    api = Api(home=tmp_path / "home")
    InProcess.of(api.workspace)
    shown(api, **QUESTION)  # reads what RankViz ships, once

    def make(rng):
        rows = [row.split(",") for row in ROWS]
        return [mutate.table(HEADER.split(","), rows, rng) for _ in range(3)]

    def read(files):
        shutil.rmtree(api.workspace.own_homes[0] / own_studies.FOLDER, ignore_errors=True)
        paths = [tmp_path / f"{place}.csv" for place in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        api.studies.add(paths)
        json.dumps(vars(shown(api, **QUESTION)))

    fuzz(make, read, refuses=False)


def test_a_table_of_losses_is_judged_or_refused(fuzz):
    header = ["rank", "seed", "example", "loss", "learning_rate", "target_tokens"]
    rows = [[r, s, e, 2 + s / 9 - r / 99, 1e-3, 3 + e] for r in (4, 16) for s in (0, 1) for e in range(3)]

    def read(data):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "losses.csv"
            path.write_bytes(data)
            runs, metric = read_table(path)
            judge(runs, metric=metric)

    fuzz(lambda rng: mutate.table(header, rows, rng), read)
