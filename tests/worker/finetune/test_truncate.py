"""An adapter truncated in place, and the fast curve that a run draws of it."""

import json

import pytest

from rankviz.api import Api
from rankviz.core.runs.record import RunState
from rankviz.core.runs.request import fast_ranks
from rankviz.errors import InvalidSettingError
from rankviz.trained.read import read_adapter
from tests.support.runs import questions


def test_only_the_highest_rank_is_cut_and_its_anchors_are_ordinary_runs():
    runs = questions.sweep(ranks=(2, 64), cut_ranks=(4, 8, 4)).runs(sweep_id="s", created_at=0.0)

    assert [(2, ()), (64, (8, 4))] == [(run.r, run.cut_ranks) for run in runs]


def test_a_fast_curve_trains_the_highest_rank_and_its_anchors_and_cuts_to_all_lower_ones():
    assert ((64,), (4, 8)) == fast_ranks([8, 64, 4, 8])
    assert ((2, 8, 64), (2, 4, 8)) == fast_ranks([4, 8, 64], [2, 8])


@pytest.mark.parametrize(
    ("ranks", "independent", "message"),
    [
        ([64], [], "A fast curve truncates its highest rank to lower ones. Give at least two ranks."),
        ([], [4], "A fast curve truncates its highest rank to lower ones. Give at least two ranks."),
        ([8, 64], [128], "An independent run must have a lower rank than the truncated one, r = 64 (got 128)."),
    ],
)
def test_a_fast_curve_that_cant_be_says_what_to_change(ranks, independent, message):
    with pytest.raises(InvalidSettingError) as refused:
        fast_ranks(ranks, independent)

    assert message == str(refused.value)


def test_low_cuts_recover_for_a_twenty_fifth_of_the_steps_and_two_at_least():
    def recovery(max_steps):
        run = questions.run(r=64, max_steps=max_steps)
        return [run.recovery_steps(r) for r in (1, 4, 8, 32)]

    assert [2, 2, 0, 0] == recovery(10)
    assert [8, 8, 0, 0] == recovery(200)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cut_ranks": (16,)}, "A rank to truncate to must be below the highest rank, 16 (got 16)."),
        ({"cut_ranks": (0,)}, "Rank to truncate to must be a whole number from 1 to 1,024 (got 0)."),
        ({"cut_ranks": (4,), "use_dora": True}, "A fast curve truncates B·A, and a DoRA adapter is more than that"),
    ],
)
def test_a_cut_that_cant_be_is_refused(settings, message):
    with pytest.raises(InvalidSettingError) as refused:
        questions.sweep(ranks=(16,), **settings).validate()

    assert str(refused.value).startswith(message)


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


@pytest.mark.torch
def test_a_cut_is_the_dense_svds_truncation_whatever_was_cut_before(adapter):
    import torch

    from rankviz.worker.finetune.truncate import Truncator

    whole = updates(adapter)
    truncator = Truncator(adapter)
    truncator.truncate(1)
    truncator.truncate(3)

    for name, update in updates(adapter).items():
        u, s, vh = torch.linalg.svd(whole[name])
        assert torch.allclose(update, u[:, :3] * s[:3] @ vh[:3], atol=1e-5)
        assert s[3] > 0.1


@pytest.mark.torch
def test_training_on_after_a_cut_keeps_the_rank(adapter):
    import torch

    from rankviz.worker.finetune.truncate import Truncator

    Truncator(adapter).truncate(2)
    before = updates(adapter)
    optimizer = torch.optim.AdamW([p for p in adapter.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        ids = torch.randint(4, 300, (2, 12))
        adapter(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for name, update in updates(adapter).items():
        assert 2 == torch.linalg.matrix_rank(update, rtol=1e-4)
        assert not torch.allclose(before[name], update, atol=1e-4)


@pytest.mark.torch
def test_a_saved_cut_is_an_adapter_of_its_rank_with_the_same_outputs(adapter, tiny, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from rankviz.worker.finetune.base import Base
    from rankviz.worker.finetune.truncate import Truncator

    truncator = Truncator(adapter)
    truncator.truncate(2)
    truncator.save(2, tmp_path / "r2", Base(name=str(tiny), is_local=True))
    ids = torch.arange(4, 20)[None]
    base = AutoModelForCausalLM.from_pretrained(tiny)
    plain = base(ids).logits
    loaded = PeftModel.from_pretrained(base, tmp_path / "r2")

    assert {2} == {pair.shape[0] for name, pair in loaded.named_parameters() if "lora_A" in name}
    assert (2, 4) == (loaded.peft_config["default"].r, loaded.peft_config["default"].lora_alpha)
    assert torch.allclose(adapter.eval()(ids).logits, loaded(ids).logits, atol=1e-6)
    assert not torch.allclose(plain, loaded(ids).logits, atol=1e-2)


@pytest.mark.torch
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


@pytest.mark.torch
def test_a_saved_adapter_names_its_base_as_others_find_it_and_no_folder_of_this_machine(adapter, tiny, tmp_path):
    from rankviz.worker.finetune.adapter import save
    from rankviz.worker.finetune.base import Base

    save(adapter, tmp_path, Base(name=str(tiny), is_local=True, published_as="owner/tiny"))

    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert "owner/tiny" == config["base_model_name_or_path"]
    written = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(written) >= 3
    assert not any(str(tiny).encode() in content for content in written)


@pytest.mark.torch
def test_a_base_in_a_folder_of_ones_own_keeps_its_name(adapter, tiny, tmp_path):
    from rankviz.worker.finetune.adapter import save
    from rankviz.worker.finetune.base import Base

    save(adapter, tmp_path, Base(name=str(tiny), is_local=True))

    assert str(tiny) == json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"]
