"""`rankviz export`: the file, what stands beside it, and one that was there before."""

import json

from tests.cli.command import rankviz


def test_an_export_for_llamafactory_writes_the_datas_description_beside_it(tmp_path):
    arguments = ("export", "Qwen/Qwen3-4B", "-r", "8", "--format", "llamafactory", "-o", str(tmp_path / "lf.yaml"))

    run = rankviz(*arguments)

    assert [str(tmp_path / "lf.yaml"), str(tmp_path / "dataset_info.json")] == run.stdout.splitlines()
    assert {"train", "chats"} == set(json.loads((tmp_path / "dataset_info.json").read_text()))


def test_a_notebook_for_colab_is_filled_from_a_data_file(tmp_path):
    rows = [{"instruction": "Say the letter.", "input": letter, "output": letter * 3} for letter in "abcdefgh"]
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("export", "Qwen/Qwen3-4B", "-r", "8", "--format", "colab", "--data", str(data), "--epochs", "3")

    code = "".join("".join(cell["source"]) for cell in json.loads(rankviz(*arguments).stdout)["cells"])

    assert 'data_file = "mine.jsonl"' in code
    assert 'form = "instruction"' in code
    assert "num_train_epochs=3," in code
    assert "max_length=64," in code
    assert "# Your data, 8 examples, " in code


def test_an_export_leaves_a_file_that_was_there_and_says_what_to_add(tmp_path):
    (tmp_path / "dataset_info.json").write_text("{}")
    arguments = ("export", "Qwen/Qwen3-4B", "-r", "8", "--format", "llamafactory", "-o", str(tmp_path / "lf.yaml"))

    run = rankviz(*arguments)

    assert "{}" == (tmp_path / "dataset_info.json").read_text()
    assert "is unchanged. Add these entries to it" in run.stderr
    assert '"chats"' in run.stderr
