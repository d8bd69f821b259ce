"""Broken data files: rows, or a sentence that names the row."""

import io
import json

import pyarrow
import pyarrow.parquet

from rankviz import dataset
from rankviz.api.data import measured
from tests.fuzz import mutate

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
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out, **columns)
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
    pyarrow.parquet.write_table(pyarrow.table(columns), out, compression=rng.choice(("none", "snappy", "gzip", "zstd")))
    return out.getvalue()


def test_parquet_of_any_columns(fuzz, tmp_path):
    fuzz(any_columns, reading(tmp_path / "d.parquet"))


def test_parquet(fuzz, tmp_path):
    files = [parquet(rows) for rows in SAMPLES] + [parquet(PAIRS, use_dictionary=False, compression="none")]
    files += [parquet([{"prompt": i, "completion": [i]} for i in range(3)]), parquet([{"text": b"\xff\xfe"}] * 3)]

    fuzz(lambda rng: mutate.file_bytes(rng.choice(files), rng), reading(tmp_path / "d.parquet"))
