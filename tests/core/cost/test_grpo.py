"""GRPO: the memory of the trainer and of the program that generates, by hand, and the installed code."""

import ast
import importlib.util
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.core.cost import grpo
from rankviz.core.cost.blocks import CHUNK_BUDGET_BYTES, loss_moments
from rankviz.core.cost.estimate import estimate, estimate_as_json
from rankviz.core.cost.setup import Device, Grpo, TrainingData, TrainingSetup
from rankviz.core.fit import setting
from rankviz.errors import InvalidSettingError
from tests.core.cost.toy_cost import shape_of
from tests.core.cost.toy_cost import stack as toy_stack
from tests.support.runs import questions
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu

MIB = 2**20
SHORT = Grpo(max_prompt_length=6, max_completion_length=10)
API = Api()


def rank(framework="trl", precision="bf16", card=None, changes=None, **more):
    training = {"framework": framework, "precision": precision, "max_steps": 10, "grpo": replace(SHORT, **more)}
    made = estimate(TOY, questions.question(**training, **(changes or {})), card or gpu(), ASSUMPTIONS)
    return estimate_as_json(made)["ranks"][0], made


def device(row):
    return row["memory_bytes"]["device"]


def test_a_step_is_one_of_the_prompt_and_the_completion_and_an_epoch_passes_each_prompt_once():
    setup = TrainingSetup(grpo=SHORT, data=TrainingData(examples=10, epochs=2, mean_tokens=99), max_length=7)

    assert (16, None, 8, 1) == (setup.max_length, setup.data.mean_tokens, setup.rows_per_step, setup.examples_per_step)
    assert 20 == setup.total_steps
    assert 32 == replace(setup, grpo=replace(SHORT, max_prompt_length=22)).max_length


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"framework": "peft"}, "GRPO needs a trainer"),
        ({"per_device_train_batch_size": 3}, "12 completions, not whole groups of 8"),
        ({"grpo": Grpo(vllm_mode="server")}, "generates in its own process"),
        ({"grpo": Grpo(vllm_mode="none", vllm_enable_sleep_mode=True)}, "settings of vllm_mode colocate"),
        ({"grpo": Grpo(num_generations=1)}, "num_generations must be"),
        ({"framework": "trl", "precision": "int8"}, "vLLM cannot load an int8 base"),
    ],
)
def test_what_grpo_cannot_do_is_refused_with_the_way_out(changes, message):
    with pytest.raises(InvalidSettingError, match=message):
        TrainingSetup(**{"grpo": SHORT, **changes}).validate()
    with pytest.raises(InvalidSettingError, match="Export a script"):
        TrainingSetup(grpo=SHORT).settle(Device(cuda=True))


def test_vllm_beside_the_trainer_takes_its_share_and_sleep_leaves_the_larger_moment():
    apart, made = rank(vllm_mode="server")
    beside, _ = rank(vllm_gpu_memory_utilization=0.5)
    asleep, _ = rank(vllm_gpu_memory_utilization=0.5, vllm_enable_sleep_mode=True)
    usable = made.usable_bytes.expected
    waiting = apart["memory_bytes"]
    idle = 1.005 * sum(waiting[name] for name in ("base_weights", "adapter", "optimizer"))
    context = waiting["device"] - waiting["reserved"]

    assert pytest.approx(device(apart) + usable / 2, abs=2) == device(beside)
    assert pytest.approx(idle + context + usable / 2, abs=2) == device(asleep)
    assert device(apart) == beside["rollout"]["trainer_bytes"]["expected"]
    # 2 blocks, one key head of 8, keys and values in 16 bit, 16 tokens, 8 completions
    assert 2 * 4 * 8 * 16 * 8 == rank(vllm_mode="none")[0]["rollout"]["kv_cache_bytes"]
    assert "rollout" not in estimate_as_json(estimate(TOY, questions.question(), gpu(), ASSUMPTIONS))["ranks"][0]


def test_unsloth_shares_the_weights_and_its_standby_takes_the_share_of_the_cards_size():
    shared, made = rank("unsloth", vllm_gpu_memory_utilization=0.5)
    standby, _ = rank("unsloth", vllm_enable_sleep_mode=True)
    parts = shared["rollout"]
    free = made.usable_bytes.expected - (shared["memory_bytes"]["device"] - parts["engine_bytes"]["expected"])

    assert parts["shared_bytes"] == shared["memory_bytes"]["base_weights"]
    total = parts["trainer_bytes"]["expected"] + parts["engine_bytes"]["expected"] - parts["shared_bytes"]
    assert pytest.approx(total, abs=2) == device(shared)
    assert pytest.approx(free / 2, rel=0.01) == parts["engine_bytes"]["expected"]
    assert pytest.approx(0.95 * 0.825) == standby["rollout"]["gpu_memory_utilization"]  # 22 GiB


def test_time_is_generation_and_training_and_grows_with_the_completion():
    short, long = (rank(max_completion_length=n)[0] for n in (10, 1000))

    for row in (short, long):
        parts = (row["rollout"][name]["expected"] for name in ("generation_seconds", "training_seconds"))
        assert pytest.approx(sum(parts)) == row["step_seconds"]["expected"]
    assert 50 < long["rollout"]["generation_seconds"]["high"] / short["rollout"]["generation_seconds"]["high"] < 101
    assert rank(beta=0.1)[0]["step_seconds"]["expected"] > short["step_seconds"]["expected"]


def test_changes_and_limits_are_grpos_own():
    question = questions.question("Qwen/Qwen3-4B", framework="trl", grpo=Grpo(vllm_gpu_memory_utilization=0.6))
    decided = API.estimates.fit(replace(question, gpu="l4"), 16)
    names = {name for knob in decided.knobs for name in knob.change}

    assert {"max_completion_length", "vllm_enable_sleep_mode"} <= names
    assert "max_length" not in names
    assert ["r", "batch", "max_completion_length"] == [limit.option for limit in decided.limits]
    limit = decided.limits[2].expected
    at = replace(question.training, grpo=replace(question.training.grpo, max_completion_length=limit))
    fits = setting(
        decided.setting.model, replace(question, training=at), decided.setting.gpu, API.workspace.assumptions
    )
    assert 0 <= fits.row.spare.expected < 600 * MIB
    assert ["lora", "qlora"] == sorted(method.name for method in decided.methods)


@pytest.mark.torch
def test_defaults_and_chunks_are_those_of_the_installed_programs():
    from trl import GRPOConfig

    zoo = Path(importlib.util.find_spec("unsloth_zoo").origin).parent
    loss = ast.parse((zoo / "fused_losses" / "chunked_logprob.py").read_text())
    rows_of = [node for node in loss.body if getattr(node, "name", "") == "chunked_logprob_rows"]
    names = {"_BYTES_PER_LOGIT": 8.0, "_MIN_ROWS": 512, "CHUNK_ALIGN_ROWS": 0}
    exec(compile(ast.Module(rows_of, []), "chunked_logprob.py", "exec"), names)
    trl = {each.name: each.default for each in fields(GRPOConfig)}
    assert {each.name: trl[each.name] for each in fields(Grpo) if each.name in trl} == {
        **{each.name: each.default for each in fields(Grpo) if each.name in trl},
        "vllm_gpu_memory_utilization": grpo.OWN_UTILIZATION["trl"],
    }
    source = (zoo / "vllm_utils.py").read_text()
    tiers = re.findall(r"ten_percent >= ([\d.]+): standby_target_gpu_util = ([\d.]+)", source)[6:]
    assert [(round(10 * float(a)), float(b)) for a, b in tiers] == list(grpo.STANDBY_UTILIZATION[:5])
    assert f"possible_max_ranks = {list(grpo.LORA_RANKS)}" in source
    for vocab, length in ((151_936, 100), (151_936, 30_000), (32_000, 4_000)):
        setup = {"framework": "unsloth", "grpo": Grpo(max_completion_length=length), "loss_path": "fused"}
        (moment,) = loss_moments(replace(TOY, vocab_size=vocab), toy_stack(**setup), None)
        rows = min(length, names["chunked_logprob_rows"](vocab, 2.0, length))
        assert pytest.approx(8 * rows * vocab, rel=0.01) == min(moment.logits, CHUNK_BUDGET_BYTES)
    assert 2 * 4 * 8 * 16 == grpo.kv_cache_bytes(TOY, shape_of(TOY), 16)
