"""Training data: what is read, and how a bad row is named."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from rankviz import dataset
from rankviz.errors import BadDataError


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def jsonl(path, *rows):
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def pairs(data: str) -> list[tuple[str, str]]:
    return [example.as_pair() for example in dataset.read(data).examples]


def test_prompt_and_completion_stand_as_they_are(tmp_path):
    data = jsonl(tmp_path / "d.jsonl", *({"prompt": "2+2=", "completion": " 4"}, {"prompt": "", "completion": "x"}))

    assert [("2+2=", " 4"), ("", "x")] == pairs(data)
    assert "prompt-completion" == dataset.read(data).format


def test_text_is_all_learned(tmp_path):
    data = jsonl(tmp_path / "d.jsonl", {"text": "once"}, {"text": "upon"})

    assert [("", "once"), ("", "upon")] == pairs(data)


def test_an_instruction_with_its_input_becomes_a_chat(tmp_path):
    data = jsonl(
        tmp_path / "d.jsonl",
        {"instruction": "Translate.", "input": "chat", "output": "cat"},
        {"instruction": "Sing.", "input": "", "output": "la"},
    )

    first, second = dataset.read(data).examples
    assert (("user", "Translate.\n\nchat"), ("assistant", "cat")) == first.messages
    assert (("user", "Sing."), ("assistant", "la")) == second.messages


def test_messages_are_kept_turn_by_turn(tmp_path):
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    data = jsonl(tmp_path / "d.jsonl", {"messages": chat}, {"messages": chat})

    assert [("user: hi", "hello")] * 2 == pairs(data)


def test_a_conversational_prompt_and_completion_is_a_chat_too(tmp_path):
    row = {"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "hello"}]}

    assert [("user: hi", "hello")] * 2 == pairs(jsonl(tmp_path / "d.jsonl", row, row))


def test_csv_with_quotes_and_line_ends_in_its_cells(tmp_path):
    data = write(tmp_path / "d.csv", '\ufeffprompt,completion,note\r\n"a, ""b""","line\none",\r\nc,d,e\r\n')

    assert [('a, "b"', "line\none"), ("c", "d")] == pairs(data)


def test_messages_in_a_csv_cell_are_json(tmp_path):
    chat = json.dumps([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]).replace('"', '""')
    data = write(tmp_path / "d.csv", f'messages\n"{chat}"\n"{chat}"\n')

    assert [("user: hi", "yo")] * 2 == pairs(data)


def test_parquet_with_whole_numbers_as_answers(tmp_path):
    table = pyarrow.table({"prompt": ["one", "two"], "completion": [1, 2], "other": [None, None]})
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")

    assert [("one", "1"), ("two", "2")] == pairs(str(tmp_path / "d.parquet"))


GOOD = '{"prompt": "a", "completion": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", GOOD + "{oops\n", r"Row 2 of d\.jsonl is not a JSON object"),
        ("d.jsonl", GOOD + "\n" + "[1]\n", r"Row 3 of d\.jsonl is not a JSON object but a list"),
        ("d.jsonl", "[\n" + GOOD, "seems to hold one JSON array: write one object per line"),
        (
            "d.jsonl",
            GOOD * 16 + '{"prompt": "a"}\n',
            r"Row 17 of d\.jsonl has no 'completion', which the first row has",
        ),
        ("d.jsonl", GOOD + '{"text": "a"}\n', r"Row 2 of d\.jsonl has no 'prompt'"),
        ("d.jsonl", GOOD + '{"prompt": "a", "completion": " "}\n', r"Row 2 of d\.jsonl: 'completion' is empty"),
        ("d.jsonl", GOOD + '{"prompt": "a", "completion": 1.5}\n', "'completion' must be text, not float"),
        ("d.jsonl", GOOD + '{"prompt": "a", "completion": true}\n', "'completion' must be text, not bool"),
        ("d.jsonl", '{"question": "a"}\n', r"d\.jsonl has the columns question; RankViz needs messages; or prompt and"),
        ("d.jsonl", '{"messages": [{"role": "user", "content": "a"}]}\n', "the last message must be the assistant's"),
        ("d.jsonl", '{"messages": ["a"]}\n', "each message must be an object with a role and a content"),
        ("d.jsonl", '{"messages": 5}\n', "'messages' must be a list of messages"),
        ("d.jsonl", "", r"d\.jsonl has no rows"),
        ("d.jsonl", "\n\n", r"d\.jsonl has no rows"),
        ("d.jsonl", GOOD, "has a single row"),
        ("d.jsonl", GOOD.encode() + b'{"prompt": "\xff"}\n', r"d\.jsonl is not UTF-8 \(line 2\)"),
        ("d.csv", "prompt,completion\na,b\nc,d,e\n", r"Row 2 of d\.csv has more cells than the header"),
        ("d.csv", "prompt,completion\na,b\nc\n", r"Row 2 of d\.csv has no 'completion'"),
        ("d.csv", 'prompt,completion\na,b\n"c,d\n', r"Row 2 of d\.csv cannot be read as CSV"),
        ("d.csv", "", r"d\.csv has no rows"),
        ("d.csv", "messages\n{\n", "messages must be a JSON list"),
        ("d.parquet", "not parquet", r"d\.parquet cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    data = write(tmp_path / name, content)

    with pytest.raises(BadDataError, match=message):
        dataset.read(data)


@pytest.mark.parametrize("data", ["nothing", "notes.txt", "/etc/passwd"])
def test_what_is_neither_a_sample_nor_a_data_file_is_said(data):
    with pytest.raises(
        BadDataError, match=r"is neither a sample \(phonemes, syllables\) nor a \.jsonl, \.csv or \.parquet"
    ):
        dataset.read(data)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(BadDataError, match="There is no file"):
        dataset.read(str(tmp_path / "gone.jsonl"))


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "d.jsonl").open("wb") as file:
        file.truncate(dataset.MAX_FILE_BYTES + 1)  # sparse: takes no space

    with pytest.raises(BadDataError, match=r"d\.jsonl has 200 MB, more than the 200 MB allowed"):
        dataset.read(str(tmp_path / "d.jsonl"))


def test_a_preview_shows_three_rows_with_counts(tmp_path):
    data = jsonl(tmp_path / "mine.jsonl", *({"prompt": "p" * n, "completion": "c"} for n in range(1, 6)))

    preview = dataset.preview(data)

    assert ("mine.jsonl", "prompt-completion", 5) == (preview.title, preview.format, preview.rows)
    assert (("p", "c"), ("pp", "c"), ("ppp", "c")) == preview.examples
    assert (4.0, 6) == (preview.mean_characters, preview.longest_characters)


def test_a_preview_counts_the_rows_that_can_be_answered_and_measures_their_answers(tmp_path):
    rows = [{"prompt": "p" * n, "completion": "c" * (n + 1)} for n in (0, 1, 2)]

    preview = dataset.preview(jsonl(tmp_path / "mine.jsonl", *rows))

    assert (2, 2.0, 3) == (preview.rows_with_prompt, preview.mean_answer_characters, preview.longest_answer_characters)
    preview.require_prompts()


def test_text_has_no_prompt_to_answer(tmp_path):
    preview = dataset.preview(jsonl(tmp_path / "mine.jsonl", {"text": "a"}, {"text": "b"}))

    with pytest.raises(BadDataError, match=r"Exact match needs prompts, and no row of mine\.jsonl has one\. Set exact"):
        preview.require_prompts()


def test_shipped_samples_are_as_their_index_says():
    shipped = {sample.id: sample for sample in dataset.samples()}

    assert ["phonemes", "syllables"] == list(shipped)
    for sample in shipped.values():
        assert sample.rows == dataset.preview(sample.id).rows
        assert sample.source and sample.checked and "CMUDICT_LICENSE.txt" in sample.licence
    assert (dataset.ASSETS / "data" / "CMUDICT_LICENSE.txt").read_text().startswith("Copyright (C) 1993-2015 Carnegie")


@pytest.mark.parametrize("sample", ["phonemes", "syllables"])
def test_no_word_of_a_sample_comes_twice_so_none_is_trained_on_and_held_out(sample):
    prompts = [prompt for prompt, _ in pairs(sample)]

    assert len(prompts) == len(set(prompts))


def test_samples_take_less_than_a_megabyte():
    assert sum(path.stat().st_size for path in (dataset.ASSETS / "data").iterdir()) < 1_000_000
