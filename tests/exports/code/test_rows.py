"""The data cell of a script, as it is: rows of each form, from JSONL and CSV, become what is trained."""

import csv
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from rankviz.core.cost.setup import Grpo, TrainingData
from rankviz.dataset import read
from rankviz.dataset.rows import columns_of
from rankviz.exports.script import TOKENS, as_read, parts, templates
from tests.support.models.recipes import made

pytestmark = pytest.mark.torch  # datasets is there with the trainer

CHAT = [{"role": "user", "content": "Say A."}, {"role": "assistant", "content": "A"}]
TURNS = [{"from": "human", "value": "Say A."}, {"from": "gpt", "value": "A"}]
ASKED = [{"role": "user", "content": "2\n\nNA"}, {"role": "assistant", "content": "4"}]
ROWS = {
    "messages": ({"messages": CHAT}, {"messages": CHAT, "given": 0}, "A<|im_end|>"),
    "conversations": ({"conversations": TURNS}, {"messages": CHAT, "given": 0}, "A<|im_end|>"),
    "prompt-completion": (
        {"prompt": "1 + 3 =", "completion": " 4"},
        {"prompt": "1 + 3 =", "completion": " 4"},
        " 4<|im_end|>",
    ),
    "instruction": ({"instruction": "2", "input": "NA", "output": "4"}, {"messages": ASKED, "given": 0}, "4<|im_end|>"),
    "text": ({"text": "007"}, {"prompt": "", "completion": "007"}, "007<|im_end|>"),
}
"""By form: a row, some of whose cells look like numbers or like nothing, what is trained of it, and what is learned."""


def run(path, tokenizer, form=None, max_length=256, **data):
    """The names that the cell leaves."""
    from datasets import load_dataset

    names = {"load_dataset": load_dataset, "json": json, "tokenizer": tokenizer, "data_file": str(path), "form": form}
    names |= {"Path": Path, "columns": columns_of(data.get("columns", ""))}
    template = templates().get_template("data.py.jinja")
    settings = {"setup": {"max_length": max_length}, "tokens": TOKENS, **as_read(TrainingData(form=form, **data))}
    exec(template.render(held_out_share=0.25, seed=3407, **settings), names)
    return names


def learned(names):
    """Of each row that is trained on."""
    return [
        names["tokenizer"].decode([i for i, m in zip(row["input_ids"], row["completion_mask"], strict=True) if m])
        for row in names["data"]["train"]
    ]


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
def test_each_form_is_found_by_its_columns_and_its_answers_learned_with_their_end(tmp_path, tokenizer, form, ending):
    row, trained, answer = ROWS[form]

    names = run(write(tmp_path, row, ending), tokenizer)

    assert [trained] * 3 == list(names["rows"]["train"])
    assert [answer] * 3 == learned(names)


def test_rows_that_are_truncated_are_counted_and_prompts_that_fill_it_all_are_an_error(tmp_path, tokenizer, capsys):
    path = write(tmp_path, {"prompt": "0123456", "completion": "789"}, "jsonl")

    run(path, tokenizer, max_length=10)

    assert "4 of 4 rows are longer than 10 tokens and are truncated." in capsys.readouterr().out
    with pytest.raises(ValueError, match="No answer begins within 7 tokens: raise the maximum length"):
        run(path, tokenizer, max_length=7)


NUMBER_TURN = {"role": "assistant", "content": 0}
MIXED = {"role": "human", "content": "a"}
AS_READ = {
    "numbers": {"prompt": 31, "completion": 0},
    "an input of 0": {"instruction": 1, "input": 0, "output": 0},
    "messages of numbers": {"messages": [CHAT[0], NUMBER_TURN]},
    "ShareGPT's role under role": {"messages": [MIXED, CHAT[1]]},
    "a list and its JSON": {"prompt": CHAT[:1], "completion": json.dumps(CHAT[1:])},
    "an empty prompt": {"prompt": [], "completion": CHAT[1:]},
}


ASKED_ONLY = {
    "text": [{"text": "2+2="}],
    "numbers as answers": [{"prompt": "a", "answer": each} for each in (2, 0, 1.5, "two", None)],
    "messages as prompt": [{"prompt": CHAT[:1], "answer": "4"}, {"prompt": json.dumps(CHAT[:1])}, {"prompt": "a"}],
    "prompts alone": [{"prompt": "[1] a"}],
    "chats that the user ends": [{"messages": [*CHAT, CHAT[0]]}, {"messages": CHAT}],
    "usual names": [{"system": "s", "problem": "a", "solution": "long", "answer": 7}],
}


@pytest.mark.parametrize("kind", ASKED_ONLY)
def test_prompts_for_rewards_are_read_alike_with_answers_as_text(tmp_path, tokenizer, kind):
    from datasets import Dataset, load_dataset

    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ASKED_ONLY[kind]))
    found = read(str(path), prompts=True)
    recipe = made(framework="trl", grpo=Grpo(), data=TrainingData(form=found.format, columns=found.columns))
    names = {"Dataset": Dataset, "load_dataset": load_dataset, "json": json, "Path": Path, "tokenizer": tokenizer}
    names |= {"data_file": str(path), "columns": columns_of(found.columns)}

    exec(dict(parts(recipe))["The data"], names)

    for example, row in zip(found.examples, names["prompts"], strict=True):
        prompt = row["prompt"]
        turns = [("user", prompt)] if isinstance(prompt, str) else [(each["role"], each["content"]) for each in prompt]
        asked = example.messages[:-1] or (("user", example.prompt),)
        assert (asked, example.messages[-1][1] if example.messages else example.completion) == (
            tuple(turns),
            row["answer"],
        )
    answers = [row["answer"] for row in names["prompts"]]
    expected = {"numbers as answers": ["2", "0", "1.5", "two", ""], "chats that the user ends": ["", "A"]}
    assert expected.get(kind, answers) == answers and (kind != "usual names" or answers == ["7"])
    assert any(answers) != any("No prompt has an answer" in note for note in found.notes)


OWN = {
    "semicolons": ("csv", "utf-8", ("system", "question", "answer")),
    "tabs": ("csv", "cp1252", ("system", "question", "answer")),
    "Windows' encoding": ("csv", "cp1252", ("Système", "Frage", "Answer")),
    "UTF-16": ("csv", "utf-16", ("system", "question", "réponse")),
    "usual names in UTF-8 with a mark": ("jsonl", "utf-8-sig", ("system_prompt", "human", "bot")),
}
"""By kind of file: ending, encoding, and names of the columns of system, question and answer."""


@pytest.mark.parametrize("kind", [*AS_READ, *OWN])
def test_a_row_is_trained_as_rankviz_reads_it(tmp_path, tokenizer, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, columns = tmp_path / "own.jsonl", ""
    if kind in AS_READ:
        path = write(tmp_path, AS_READ[kind], "jsonl")
    else:
        ending, encoding, names = OWN[kind]
        path, row = tmp_path / f"own.{ending}", dict(zip(names, ("été", "4?", "007"), strict=True))
        sign = {"semicolons": ";", "tabs": "\t"}.get(kind, ",")
        lines = [sign.join(each) for each in (row, *[row.values()] * 4)]
        lines = lines if ending == "csv" else [json.dumps(row, ensure_ascii=False)] * 4
        path.write_text("\n".join(lines), encoding=encoding)
        columns = "" if "bot" in names else "system={},instruction={},output={}".format(*map(quote, names))
    found = read(str(path), columns=columns)
    example = found.examples[0]

    trained = run(path, tokenizer, found.format, columns=found.columns, traits=found.traits)["rows"]["train"][0]

    assert (example.prompt, example.completion) == (trained.get("prompt", ""), trained.get("completion", ""))
    assert list(example.messages) == [(turn["role"], turn["content"]) for turn in trained.get("messages", [])]
