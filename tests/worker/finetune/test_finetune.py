"""Real runs through the true Unsloth path, on a tiny random Llama; slow ones on the embedded model."""

import json

import pytest

from rankviz.api import Api
from rankviz.core.runs.record import RunState
from rankviz.trained.read import read_adapter

pytestmark = pytest.mark.torch


def parameters(r: int) -> int:
    """By hand: in each of 2 blocks r × (in + out), where that is 128 for q and o, 96 for k and v, 192 in the MLP."""
    return 2 * r * (2 * 128 + 2 * 96 + 3 * 192)


def test_a_sweep_trains_each_rank_and_the_held_out_loss_falls(swept):
    _, sweep = swept

    assert [RunState.COMPLETED] * 3 == [run.state for run in sweep.runs], [
        run.error + run.log_tail for run in sweep.runs
    ]
    for run in sweep.runs:
        assert list(range(1, 13)) == [step.step for step in run.steps]
        assert run.loss_after.loss < run.loss_before.loss - 0.3
        assert run.steps[-1].loss < run.steps[0].loss - 0.3


def test_trainable_parameters_and_file_size_are_those_of_the_adapter_on_disk(swept):
    from safetensors import safe_open

    store, sweep = swept
    for run, r in zip(sweep.runs, (4, 8, 16), strict=True):
        file = store.run_dir(run.run_id) / run.adapter_path / "adapter_model.safetensors"
        with safe_open(file, "pt") as tensors:
            saved = sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118

        assert parameters(r) == run.trainable_parameters == saved
        assert file.stat().st_size == run.adapter_bytes


@pytest.fixture
def adapter(tiny):
    """A tiny Llama with an adapter of rank 6 that has learned something, as B is random here."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny)
    model = get_peft_model(base, LoraConfig(r=6, lora_alpha=12, target_modules=["q_proj", "down_proj"]))
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_()
    return model


def updates(model):
    return {
        name: (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach()
        for name, layer in model.named_modules()
        if hasattr(layer, "lora_A")
    }


def test_a_cut_is_the_dense_svds_truncation_whatever_was_cut_before(adapter):
    import torch

    from rankviz.worker.finetune.training import truncation

    whole = updates(adapter)
    truncate = truncation(adapter)
    truncate(1)
    truncate(3)

    for name, update in updates(adapter).items():
        u, s, vh = torch.linalg.svd(whole[name])
        assert torch.allclose(update, u[:, :3] * s[:3] @ vh[:3], atol=1e-5)
        assert s[3] > 0.1


def test_a_run_with_cuts_draws_a_curve_and_saves_the_adapter_it_trained(swept):
    store, sweep = swept

    run = sweep.runs[-1]
    assert RunState.COMPLETED is run.state, run.error + run.log_tail
    assert [(8, 0, ""), (4, 2, "cuts/r4"), (1, 4, "cuts/r1")] == [(c.r, c.recovery_steps, c.path) for c in run.cuts]
    sizes = [(store.run_dir(run.run_id) / f"cuts/r{r}/adapter_model.safetensors").stat().st_size for r in (4, 1)]
    assert [None, *sizes] == [cut.file_bytes for cut in run.cuts]
    for r in (1, 4, 8):
        saved = read_adapter([Api(home=store.home).adapters.zip_of_rank(run.run_id, r)])
        assert {r} == {module.r for module in saved.modules}
    assert all(16 == len(cut.example_losses) for cut in run.cuts)
    assert run.loss_after.loss < run.loss_before.loss
    # most of what twelve steps learn on so small a task is in a few directions
    assert abs(run.cuts[0].loss - run.loss_after.loss) < 0.1 < abs(run.cuts[-1].loss - run.loss_before.loss)
    assert 16 * 2 * (2 * 128 + 2 * 96 + 3 * 192) == run.trainable_parameters
    assert run.adapter_bytes > 4 * run.trainable_parameters


def test_a_saved_adapter_names_its_base_as_others_find_it_and_no_folder_of_this_machine(adapter, tiny, tmp_path):
    from rankviz.worker.base import Base
    from rankviz.worker.finetune.training import save

    save(adapter, tmp_path, Base(name=str(tiny), is_local=True, published_as="owner/tiny"))

    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert "owner/tiny" == config["base_model_name_or_path"]
    written = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(written) >= 3
    assert not any(str(tiny).encode() in content for content in written)
