"""The adapter that ships: its bytes, where it comes from, and that PEFT loads it."""

import json

import pytest

from rankviz.api import Api
from rankviz.trained.read import read_adapter
from tests.support.runs.toy import ASSETS

FOLDER = ASSETS / "sample_adapter"
LIMIT_BYTES = 2_000_000


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", assets=ASSETS, shared=False)


def adapter_folder():
    (adapter,) = FOLDER.glob("runs/*/adapter")
    return adapter


def test_it_has_two_bytes_a_parameter_and_stays_small():
    """30 blocks of r · (in + out): q_proj 576 → 576, v_proj 576 → 192."""
    parameters = 30 * 16 * ((576 + 576) + (576 + 192))
    file = adapter_folder() / "adapter_model.safetensors"
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")

    assert 2 * parameters + header == file.stat().st_size < LIMIT_BYTES
    assert "bf16" == read_adapter([adapter_folder()]).dtype


def test_the_loss_after_truncation_was_measured_at_its_own_rank_too(api):
    losses, run = api.adapters.truncated_losses("sample"), api.adapters.sample()

    assert sorted(losses) == [1, 2, 3, 8, 16]
    assert run.loss_after.loss == pytest.approx(losses[16], abs=1e-3)  # fp32 there, bf16 here
    assert sorted(losses.values(), reverse=True) == [losses[r] for r in sorted(losses)]
    measured = json.loads((FOLDER / "truncated.json").read_text())
    assert (run.loss_after.examples, run.loss_after.tokens) == (measured["examples"], measured["tokens"])
