"""What Axolotl and LLaMA-Factory are told of a measured file: the names in it, or why they cannot read it."""

import json
from dataclasses import asdict

import pytest
import yaml

from rankviz.api.data import measured, measured_from
from rankviz.errors import InvalidSettingError
from rankviz.exports.configs import axolotl, dataset_info, llamafactory
from tests.support.models.recipes import made
from tests.support.runs.toy import ASSETS


def turn(role, content="a", keys=("role", "content")):
    return dict(zip(keys, (role, content), strict=True))


def shared(role, content="a"):
    return turn(role, content, ("from", "value"))


OPENAI, SHAREGPT = [turn("user"), turn("assistant")], [shared("human"), shared("gpt")]
READ = {
    "role under conversations": {"conversations": [turn("system"), *OPENAI]},
    "from under messages": {"messages": SHAREGPT},
    "user and assistant under from": {"conversations": [shared("user"), shared("assistant")]},
    "human and gpt under role": {"messages": [turn("human"), turn("gpt")]},
}
REFUSED = {
    "a number": ({"prompt": "3+1=", "completion": 4}, "numbers"),
    "a number in a chat": ({"messages": [turn("user", 3), turn("assistant")]}, "numbers"),
    "an input of 0": ({"instruction": "a", "input": 0, "output": "b"}, "numbers"),
    "lists": ({"prompt": OPENAI[:1], "completion": OPENAI[1:]}, "lists of messages"),
    "JSON in text": ({"messages": json.dumps(OPENAI)}, "JSON in a cell"),
    "both keys": ({"messages": [turn("user"), shared("assistant")]}, "others from and value"),
}


def data(folder, *rows, name="mine.jsonl", text=""):
    path = folder / name
    path.write_text(text or "".join(json.dumps(row) + "\n" for row in (*rows, *rows)))
    return measured_from(json.loads(json.dumps(asdict(measured(str(path), ASSETS))))).training_data()


@pytest.mark.parametrize("kind", READ)
def test_keys_and_roles_are_those_of_the_file(tmp_path, kind):
    ((column, chat),) = READ[kind].items()
    recipe = made(framework="trl", data=data(tmp_path, READ[kind]))
    role, content = chat[-1]

    described = json.loads(dataset_info(recipe))["train"]
    (rows,) = yaml.safe_load(axolotl(recipe))["datasets"]
    shown = next(line for line in axolotl(recipe).splitlines() if line.startswith(f'# {{"{column}"'))

    names = {"role_tag": role, "content_tag": content, "user_tag": chat[-2][role], "assistant_tag": chat[-1][role]}
    assert {"messages": column} == described["columns"]
    assert {**names, "system_tag": "system"} == described["tags"]
    assert column == rows["field_messages"]
    assert {"role": role, "content": content} == {"role": "role", "content": "content"} | rows.get(
        "message_property_mappings", {}
    )
    assert json.loads(shown.removeprefix("# ").replace("…", "a")) == {column: chat[-2:]}


@pytest.mark.parametrize("tool", [axolotl, llamafactory])
@pytest.mark.parametrize("kind", REFUSED)
def test_rows_that_the_tools_cannot_read_are_refused(tmp_path, kind, tool):
    row, reason = REFUSED[kind]

    with pytest.raises(InvalidSettingError, match=rf"of mine.jsonl: .*{reason}.* Use the Unsloth or TRL script"):
        tool(made(framework="trl", data=data(tmp_path, row)))
