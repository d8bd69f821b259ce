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
REFUSED = {
    "a number": {"prompt": "3+1=", "completion": 4},
    "a number in a chat": {"messages": [turn("user", 3), turn("assistant")]},
    "lists": {"prompt": OPENAI[:1], "completion": OPENAI[1:]},
    "JSON in text": {"messages": json.dumps(OPENAI)},
    "both keys": {"messages": [turn("user"), shared("assistant")]},
    "from under messages": {"messages": SHAREGPT},
    "human and gpt under role": {"messages": [turn("human"), turn("gpt")]},
}


def data(folder, *rows, name="mine.jsonl", text=""):
    path = folder / name
    path.write_text(text or "".join(json.dumps(row) + "\n" for row in (*rows, *rows)))
    return measured_from(json.loads(json.dumps(asdict(measured(str(path), ASSETS))))).training_data()


@pytest.mark.parametrize(("column", "chat"), [("messages", OPENAI), ("conversations", SHAREGPT)])
def test_keys_and_roles_are_those_of_the_form(tmp_path, column, chat):
    recipe = made(framework="trl", data=data(tmp_path, {column: chat}))
    (role, user), (content, _) = chat[0].items()

    described = json.loads(dataset_info(recipe))["train"]
    (rows,) = yaml.safe_load(axolotl(recipe))["datasets"]
    shown = next(line for line in axolotl(recipe).splitlines() if line.startswith(f'# {{"{column}"'))

    names = {"role_tag": role, "content_tag": content, "user_tag": user, "assistant_tag": chat[1][role]}
    assert ({"messages": column}, names | {"system_tag": "system"}) == (described["columns"], described["tags"])
    assert column == rows["field_messages"]
    assert (rows.get("message_property_mappings") or {"role": "role"})["role"] == role
    assert json.loads(shown.removeprefix("# ").replace("…", "a")) == {column: chat}


@pytest.mark.parametrize("tool", [axolotl, llamafactory])
@pytest.mark.parametrize("kind", REFUSED)
def test_rows_that_the_tools_cannot_read_are_refused(tmp_path, kind, tool):
    with pytest.raises(InvalidSettingError, match=r"rows of mine.jsonl: .* Use the Unsloth or TRL script"):
        tool(made(framework="trl", data=data(tmp_path, REFUSED[kind])))
