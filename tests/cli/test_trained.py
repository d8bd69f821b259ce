"""`rankviz spectrum` and `rankviz resize`, as processes."""

import json
from functools import partial

import pytest

from tests.cli import command
from tests.support.models.saved_adapters import two_blocks

rankviz = partial(command.rankviz, HF_HUB_OFFLINE="1")


def test_spectrum_json_has_the_keys_that_others_script_against(tmp_path):
    result = json.loads(rankviz("spectrum", two_blocks(tmp_path / "mine"), "--json", home=tmp_path).stdout)

    assert (4, 4) == (result["r"], len(result["layers"]))
    assert {"0.9", "0.99"} == result["rank_for_energy"].keys() == result["layers"][0]["rank_for_energy"].keys()
    assert 4 == len(result["layers"][0]["singular_values"])
    assert ["model.layers.1.self_attn.v_proj"] == result["dead"]


def test_spectrum_prints_the_sentence_and_a_row_a_module(tmp_path):
    text = rankviz("spectrum", two_blocks(tmp_path / "mine"), home=tmp_path).stdout

    assert text.startswith("Trained with r = 4. 99 % of the update's energy needs the full rank; r = 2 keeps 90 %.")
    assert ["q_proj", "2", "4"] == next(line.split()[:3] for line in text.splitlines() if "q_proj" in line)


def test_resize_writes_an_adapter_of_the_size_it_says(tmp_path):
    folder = two_blocks(tmp_path / "mine")

    run = rankviz("resize", folder, "-r", 2, "-o", tmp_path / "new", "--json", home=tmp_path)

    result = json.loads(run.stdout)
    assert (2, 4, 160) == (result["r"], result["lora_alpha"], result["adapter_parameters"])
    assert (tmp_path / "new" / "adapter_model.safetensors").stat().st_size == result["adapter_bytes"]
    assert 2 == json.loads((tmp_path / "new" / "adapter_config.json").read_text())["r"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-r", 9), "has r = 4, and a resize only lowers the rank"),
        (("-r", 2, "--energy", 0.9), "Give either a rank or"),
        (("--energy", 2), "above 0 and at most 1"),
        (("-r", 2, "--dtype", "int4"), "(got 'int4')"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, arguments, sentence):
    run = rankviz("resize", two_blocks(tmp_path / "mine"), *arguments, "-o", tmp_path / "new", home=tmp_path)

    assert (2, "", 1) == (run.returncode, run.stdout, run.stderr.count("\n"))
    assert sentence in run.stderr
    assert not (tmp_path / "new").exists()
