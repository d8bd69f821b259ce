"""How long an adapter was trained: from the Trainer's state beside it, or from RankViz's own run."""

import json
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.trained.steps import training_steps
from tests.support.saved_adapters import two_blocks


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        ('{"global_step": 400, "log_history": []}', 400),
        ('{"global_step": true}', None),
        ('{"global_step": "many"}', None),
        ('{"global_step": -1}', None),
        ("{}", None),
        ("[]", None),
        ("not JSON", None),
    ],
)
def test_the_trainers_count_is_read_and_anything_else_is_not_known(tmp_path, state, steps):
    (tmp_path / "trainer_state.json").write_text(state)

    assert steps == training_steps(tmp_path)


def test_without_a_state_the_steps_are_not_known(tmp_path):
    assert training_steps(tmp_path) is None


def test_a_checkpoint_of_ten_steps_says_so_in_its_sentence(tmp_path):
    folder = Path(two_blocks(tmp_path / "checkpoint-10"))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 10}))

    spectrum = Api(home=tmp_path / "home").adapters.spectrum(folder)

    assert 10 == spectrum.steps


def test_one_file_of_a_checkpoint_finds_the_state_beside_it(tmp_path):
    folder = Path(two_blocks(tmp_path / "checkpoint-300"))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 300}))

    assert 300 == Api(home=tmp_path / "home").adapters.spectrum(folder / "adapter_model.safetensors").steps
