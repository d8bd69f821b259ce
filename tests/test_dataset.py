"""Training data: what is read, and how a bad row is named."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from rankviz import dataset
from rankviz.dataset.rows import columns_of, columns_text
from rankviz.errors import BadDataError, InvalidSettingError


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def jsonl(path, *rows):
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def pairs(data: str) -> list[tuple[str, str]]:
    return [example.as_pair() for example in dataset.read(data).examples]


def test_an_instruction_with_its_input_becomes_a_chat(tmp_path):
    data = jsonl(
        tmp_path / "d.jsonl",
        {"instruction": "Translate.", "input": "chat", "output": "cat"},
        {"instruction": "Sing.", "input": "", "output": "la"},
    )

    first, second = dataset.read(data).examples
    assert (("user", "Translate.\n\nchat"), ("assistant", "cat")) == first.messages
    assert (("user", "Sing."), ("assistant", "la")) == second.messages


def turns(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


ANSWERED = (("user", "hi"), ("assistant", "hello"))
ENDINGS = [(("user", "thanks"), ("user", "bye")), (("user", "thanks"), ("assistant", "")), (("tool", "closed"),)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_turns_after_the_last_answer_are_left_out_and_counted(tmp_path, ending):
    data = jsonl(
        tmp_path / "d.jsonl",
        {"messages": turns(*ANSWERED)},
        {"messages": turns(*ANSWERED, *ending)},
        {"messages": turns(*ANSWERED, *ANSWERED)},
    )

    read = dataset.read(data)

    assert [ANSWERED, ANSWERED, ANSWERED + ANSWERED] == [example.messages for example in read.examples]
    assert (
        "In 1 of 3 rows, the turns after the assistant's last answer are left out, because nothing is learned from "
        "them.",
    ) == read.notes


def test_chats_without_an_answer_are_counted_and_the_first_is_named(tmp_path):
    asked = {"messages": turns(("user", "hi"))}
    rows = [{"messages": turns(*ANSWERED)}, asked, {"messages": []}, {"messages": turns(*ANSWERED)}]

    with pytest.raises(BadDataError) as caught:
        dataset.read(jsonl(tmp_path / "d.jsonl", *rows))

    assert (
        "2 of 4 rows of d.jsonl have no answer of the assistant, so there is nothing to learn from them. Remove them; "
        "the first is row 2." == str(caught.value)
    )


SHAREGPT = [{"from": "system", "value": "s"}, {"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_conversations_of_sharegpt_are_read_as_messages(tmp_path, ending):
    rows, path = [{"conversations": SHAREGPT, "id": n} for n in range(3)], tmp_path / f"d.{ending}"
    if ending == "jsonl":
        jsonl(path, *rows)
    elif ending == "json":
        write(path, json.dumps(rows, indent=1))
    elif ending == "csv":
        cell = json.dumps(SHAREGPT).replace('"', '""')
        write(path, f'conversations\n"{cell}"\n"{cell}"\n"{cell}"\n')
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)

    read = dataset.read(str(path))

    assert [(("system", "s"), ("user", "hi"), ("assistant", "hello"))] * 3 == [row.messages for row in read.examples]
    assert "conversations" == read.format
    assert ("The column conversations (ShareGPT) is read as messages.",) == read.notes


def test_a_large_json_array_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr("rankviz.dataset.MAX_ARRAY_BYTES", 100)
    rows = [{"text": "x" * 60}] * 2

    with pytest.raises(BadDataError, match=r"d\.json is a JSON array of .* allowed: write one object per line"):
        dataset.read(write(tmp_path / "d.json", json.dumps(rows)))
    assert 2 == len(pairs(jsonl(tmp_path / "e.json", *rows)))


GOOD = '{"prompt": "a", "completion": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", GOOD + "{oops\n", r"Row 2 of d\.jsonl is not valid JSON at character 2\."),
        ("d.jsonl", GOOD + "\n" + "[1]\n", r"Row 3 of d\.jsonl is not a JSON object but a list"),
        ("d.json", "[" + GOOD, r"d\.json is not valid JSON"),
        ("d.json", "[" * 100_000, r"d\.json is not valid JSON"),
        ("d.json", "[]", r"d\.json has no rows"),
        ("d.jsonl", GOOD + '{"text": "a"}\n', r"Row 2 of d\.jsonl has no 'prompt'"),
        ("d.jsonl", GOOD + '{"prompt": "a", "completion": " "}\n', r"Row 2 of d\.jsonl: 'completion' is empty"),
        ("d.jsonl", GOOD + '{"prompt": "a", "completion": 1.5}\n', "'completion' must be text, not float"),
        ("d.jsonl", '{"question": "a"}\n', r"columns question; RankViz needs messages; or conversations; or"),
        ("d.jsonl", '{"messages": ["a"]}\n', "each message must be an object with a role and a content, or"),
        ("d.jsonl", '{"messages": 5}\n', "'messages' must be a list of messages"),
        ("d.jsonl", "", r"d\.jsonl has no rows"),
        ("d.jsonl", GOOD, "has a single row"),
        ("d.jsonl", GOOD.replace("a", "é").encode() + b'{"prompt": "\xff"}\n', r"d\.jsonl is not UTF-8 \(line 2\)"),
        ("d.csv", "prompt,completion\na,b\nc,d,e\n", r"Row 2 of d\.csv has more cells than the header"),
        ("d.csv", 'prompt,completion\na,b\n"c,d\n', r"Row 2 of d\.csv cannot be read as CSV"),
        ("d.csv", "Frage;Antwort\na;b\n", r"columns Frage, Antwort; RankViz needs"),
        ("d.csv", "messages\n{\n", "messages must be a JSON list"),
        ("d.parquet", "not parquet", r"d\.parquet cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    data = write(tmp_path / name, content)

    with pytest.raises(BadDataError, match=message):
        dataset.read(data)


BY_NAMES = {
    ("Question", "Answer"): [("user", "a"), ("assistant", "b")],
    ("answer", "question", "context"): [("user", "b\n\nc"), ("assistant", "a")],
    ("system_prompt", "prompt", "completion"): [("system", "a"), ("user", "b"), ("assistant", "c")],
    ("input", "output"): [("user", "a"), ("assistant", "b")],
    ("rejected", "query", "chosen"): [("user", "b"), ("assistant", "c")],
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("names", BY_NAMES)
def test_columns_are_found_by_usual_names_in_every_usual_encoding(tmp_path, names, encoding):
    rows = "\n".join(",".join(each) for each in (names, "abc"[: len(names)], ("ä", "ö", "ü")[: len(names)]))

    read = dataset.read(write(tmp_path / "d.csv", rows.encode(encoding)))

    assert tuple(BY_NAMES[names]) == read.examples[0].messages
    assert (encoding in read.traits) == (encoding != "utf-8")
    assert (
        0
        < sum(letter in "äöü" for _, text in read.examples[1].messages for letter in text)
        == len(names) - ("rejected" in names)
    )


def test_columns_of_other_names_are_listed_and_can_be_chosen(tmp_path):
    data = jsonl(tmp_path / "d.jsonl", *[{"frage, 1": "a", "antwort": "b"}] * 2)

    with pytest.raises(BadDataError) as caught:
        dataset.read(data)
    assert ["frage, 1", "antwort"] == caught.value.columns
    columns = columns_text({"instruction": "frage, 1", "output": "antwort"})
    assert [("user: a", "b")] * 2 == [each.as_pair() for each in dataset.read(data, columns=columns).examples]
    with pytest.raises(InvalidSettingError, match="Columns must be such as instruction=question,output=answer"):
        dataset.read(data, columns="foo=antwort")


def test_a_column_keeps_its_spaces_and_one_that_nobody_can_name_is_not_offered(tmp_path):
    columns = dataset.read(write(tmp_path / "d.csv", b"id, question, the answer, answer\n1,a,c,b\n2,a,c,b\n")).columns
    assert {"instruction": " question", "output": " answer"} == columns_of(columns)
    assert "instruction=the question" == columns_text({"instruction": "the question"})

    with pytest.raises(BadDataError, match="has the columns \ufffd, , frage;") as caught:
        dataset.read(write(tmp_path / "d.jsonl", rb'{"\ud800": "a", "": "b", "frage": "c"}' + b"\n"))
    assert ["frage"] == caught.value.columns


def test_a_file_that_is_one_of_several_says_so(tmp_path):
    notes = {}
    for name in ("train-00000-of-00010.jsonl", "train-00000-of-00001.jsonl"):
        notes[name] = dataset.read(jsonl(tmp_path / name, *[{"text": "a"}] * 2)).notes

    part = "train-00000-of-00010.jsonl is one of 10 parts of the data; the others are not read."
    assert [(part,), ()] == [*notes.values()]


def test_shipped_samples_are_as_their_index_says():
    shipped = {sample.id: sample for sample in dataset.samples()}

    assert ["phonemes", "syllables", "pairs"] == list(shipped)
    for sample in shipped.values():
        assert sample.rows == len(dataset.read(sample.id).examples)
        assert sample.source and sample.checked
        assert ("Apache-2.0" if sample.id == "pairs" else "CMUDICT_LICENSE.txt") in sample.licence
    assert (dataset.ASSETS / "data" / "CMUDICT_LICENSE.txt").read_text().startswith("Copyright (C) 1993-2015 Carnegie")
