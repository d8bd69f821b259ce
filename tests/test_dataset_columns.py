"""A column that stands twice in a data file: named, since one of the two would replace the other without a word."""

import pyarrow
import pyarrow.parquet
import pytest

from rankviz import dataset
from rankviz.errors import BadDataError


def parquet():
    table = pyarrow.table([["a"], ["b"], ["c"]], names=["prompt", "prompt", "completion"])
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


TURN = b'{"role": "user", "role": "assistant", "content": "a"}'
FILES = {
    "d.csv": (b"prompt,prompt,completion\na,b,c\n", "^The header of d.csv has the column 'prompt' twice: rename one"),
    "d.jsonl": (
        b'{"text": "a"}\n\n{"text": "b", "text": "c"}\n',
        "^Row 3 of d.jsonl has 'text' twice: keep one of the two",
    ),
    "chat.jsonl": (b'{"messages": [' + TURN + b"]}\n", "^Row 1 of chat.jsonl has 'role' twice"),
    "d.json": (b'[{"text": "b", "text": "c"}]', "^A row of d.json has 'text' twice"),
    "d.parquet": (parquet(), "^d.parquet has the column 'prompt' twice: rename one"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_column_that_stands_twice_is_named(tmp_path, name):
    content, sentence = FILES[name]
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BadDataError, match=sentence):
        dataset.read(str(tmp_path / name))


def test_columns_without_a_name_are_read_by_nobody(tmp_path):
    """As spreadsheets write them behind the others."""
    (tmp_path / "d.csv").write_bytes(b"prompt,completion,,\na,b,,\nc,d,,\n")

    assert [("a", "b"), ("c", "d")] == [example.as_pair() for example in dataset.read(str(tmp_path / "d.csv")).examples]
