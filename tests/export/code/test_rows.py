"""The data cell of a script, as it is: rows of each form, from JSONL and CSV, become what is trained."""

import csv
import json
from types import SimpleNamespace

import pytest

from rankviz.dataset.rows import ROLES
from rankviz.export.code.rows import DATA

pytestmark = pytest.mark.torch  # datasets is there with the trainer

CHAT = [{"role": "user", "content": "Say A."}, {"role": "assistant", "content": "A"}]
ASKED = [{"role": "user", "content": "2\n\nNA"}]
ROWS = {
    "messages": ({"messages": CHAT}, {"messages": CHAT}),
    "prompt-completion": ({"prompt": "1 + 3 =", "completion": " 4"}, {"prompt": "1 + 3 =", "completion": " 4"}),
    "instruction": (
        {"instruction": "2", "input": "NA", "output": "4"},
        {"prompt": ASKED, "completion": [{"role": "assistant", "content": "4"}]},
    ),
    "text": ({"text": "007"}, {"prompt": "", "completion": "007"}),
}
"""By form: a row, some of whose cells look like numbers or like nothing, and what is trained of it."""


def trained(path, chat_template="…", form=None):
    """The training rows that the cell makes of a file."""
    from datasets import load_dataset

    names = {
        "load_dataset": load_dataset,
        "json": json,
        "tokenizer": SimpleNamespace(chat_template=chat_template),
        "data_file": str(path),
        "form": form,
    }
    exec(DATA.format(held_out_share=0.25, seed=3407), names)
    return list(names["rows"]["train"])


def write(folder, row, ending):
    path = folder / f"mine.{ending}"
    if ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for _ in range(4)))
        return path
    cells = {name: cell if isinstance(cell, str) else json.dumps(cell) for name, cell in row.items()}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(cells))
        writer.writeheader()
        writer.writerows([cells] * 4)
    return path


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize("form", ROWS)
def test_each_form_is_found_by_its_columns_and_text_stays_as_it_is(tmp_path, form, ending):
    row, expected = ROWS[form]

    assert [expected] * 3 == trained(write(tmp_path, row, ending))


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_conversations_of_sharegpt_become_messages(tmp_path, ending):
    turns = [{"from": "human", "value": "Say A."}, {"from": "gpt", "value": "A"}]

    assert [{"messages": CHAT}] * 3 == trained(write(tmp_path, {"conversations": turns}, ending))


def test_the_roles_of_sharegpt_are_those_that_rankviz_reads(tmp_path):
    assert f"ROLES = {json.dumps(ROLES)}" in DATA.format(held_out_share=0.25, seed=3407)


@pytest.mark.parametrize("chat_template", ["…", None])
def test_turns_after_the_last_answer_are_left_out(tmp_path, chat_template):
    path = write(tmp_path, {"messages": [*CHAT, {"role": "user", "content": "thanks bye"}]}, "jsonl")

    expected = (
        {"messages": CHAT} if chat_template else {"prompt": "### User:\nSay A.\n\n### Assistant:\n", "completion": "A"}
    )
    assert expected == trained(path, chat_template)[0]


def test_a_json_array_is_read_too(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"messages": CHAT}] * 4))

    assert [{"messages": CHAT}] * 3 == trained(path)


def test_a_chat_without_an_answer_is_named(tmp_path):
    with pytest.raises(ValueError, match="This chat has no answer of the assistant"):
        trained(write(tmp_path, {"messages": CHAT[:1]}, "jsonl"))


def test_a_base_model_without_a_template_gets_chats_under_headings(tmp_path):
    rows = trained(write(tmp_path, {"messages": CHAT}, "jsonl"), chat_template=None)

    assert {"prompt": "### User:\nSay A.\n\n### Assistant:\n", "completion": "A"} == rows[0]


def test_columns_of_no_form_are_named_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"has the columns \['question'\]. Rename them to one form of"):
        trained(write(tmp_path, {"question": "?"}, "jsonl"))
