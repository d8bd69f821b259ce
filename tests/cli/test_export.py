"""`rankviz export`: the file, what stands beside it, and one that was there before."""

import json

import pytest

from rankviz.cli.shared import require_new
from rankviz.errors import InvalidSettingError
from tests.cli.command import rankviz


def test_an_export_for_llamafactory_writes_the_datas_description_beside_it(tmp_path):
    arguments = ("export", "Qwen/Qwen3-4B", "-r", "8", "--format", "llamafactory", "-o", str(tmp_path / "lf.yaml"))

    run = rankviz(*arguments)

    assert [str(tmp_path / "lf.yaml"), str(tmp_path / "dataset_info.json")] == run.stdout.splitlines()
    assert {"train", "chats"} == set(json.loads((tmp_path / "dataset_info.json").read_text()))
    text = (tmp_path / "lf.yaml").read_text()
    assert "lf.yaml" in text
    assert "llamafactory.yaml" not in text


def test_a_notebook_for_colab_is_filled_from_a_data_file(tmp_path):
    rows = [{"instruction": "Say the letter.", "input": letter, "output": letter * 3} for letter in "abcdefgh"]
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("export", "Qwen/Qwen3-4B", "-r", "8", "--format", "colab", "--data", str(data), "--epochs", "3")

    code = "".join("".join(cell["source"]) for cell in json.loads(rankviz(*arguments).stdout)["cells"])

    assert 'data_file = "mine.jsonl"' in code
    assert 'form = "instruction"' in code
    assert "num_train_epochs=3," in code
    assert "max_length=2048," in code
    assert "# Your data, 8 examples, " in code


@pytest.mark.parametrize("there", ["lf.yaml", "dataset_info.json"])
def test_an_export_replaces_no_file_unless_it_is_told_to(tmp_path, there):
    (tmp_path / there).write_text("{}")
    arguments = ("export", "Qwen/Qwen3-4B", "-r", "8", "--format", "llamafactory", "-o", str(tmp_path / "lf.yaml"))

    refused = rankviz(*arguments)
    left = [path.name for path in tmp_path.iterdir()]
    rankviz(*arguments, "--force")

    assert 2 == refused.returncode
    assert f"{there} is there already, with another content. Choose another name or folder, or add --" in refused.stderr
    assert [there] == left
    assert "{}" != (tmp_path / there).read_text()


@pytest.mark.parametrize(("name", "sentence"), [("", "is a folder: give the name"), ("no/x", "Create it first.")])
def test_a_file_that_cannot_be_written_is_refused(tmp_path, name, sentence):
    with pytest.raises(InvalidSettingError, match=sentence):
        require_new(tmp_path / name, force=True)


def test_the_ending_of_the_file_says_what_it_is(tmp_path):
    start = ("export", "Qwen/Qwen3-4B", "-r", "8", "-o")

    rankviz(*start, str(tmp_path / "train.ipynb"))
    refused = rankviz(*start, str(tmp_path / "x.py"), "--format", "colab")

    assert json.loads((tmp_path / "train.ipynb").read_text())["cells"]
    assert "The format colab is a .ipynb file: choose a name that ends in .ipynb (got x.py)." in refused.stderr
    assert not (tmp_path / "x.py").exists()


def test_reading_data_leaves_no_folder_in_the_home(tmp_path):
    home = tmp_path / "home"
    data = tmp_path / "mine.jsonl"
    data.write_text('{"text": "a b c"}\n' * 3)

    rankviz("export", "Qwen/Qwen3-4B", "-r", "8", "--data", str(data), "-o", str(tmp_path / "train.py"), home=home)

    assert [] == list(home.rglob("work/*"))
