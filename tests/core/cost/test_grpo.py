"""GRPO: the memory of the trainer and of the program that generates, by hand, and the installed code."""

import ast
import importlib.util
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.core.accuracy.report import in_words
from rankviz.core.cost import grpo
from rankviz.core.cost.blocks import CHUNK_BUDGET_BYTES, loss_moments
from rankviz.core.cost.estimate import estimate, estimate_as_json
from rankviz.core.cost.setup import Device, Grpo, TrainingData, TrainingSetup
from rankviz.core.quantity import by_level
from rankviz.errors import InvalidSettingError
from rankviz.options import training_of
from rankviz.units import memory_size
from tests.core.cost import toy_cost
from tests.support.runs import questions
from tests.support.runs.toy import ASSUMPTIONS, TOY, gpu

SHORT = Grpo(max_prompt_length=6, max_completion_length=10)


def rank(framework="trl", **more):
    training = {"framework": framework, "precision": "bf16", "max_steps": 10, "grpo": replace(SHORT, **more)}
    (row,) = estimate_as_json(estimate(TOY, questions.question(**training), gpu(), ASSUMPTIONS))["ranks"]
    return row, row["memory_bytes"]["device"], row.get("rollout")


def test_a_step_is_one_of_the_prompt_and_the_completion_and_an_epoch_passes_each_prompt_once():
    setup = TrainingSetup(grpo=SHORT, data=TrainingData(examples=10, num_train_epochs=2, mean_tokens=99), max_length=7)

    assert (16, None, 8, 1) == (setup.max_length, setup.data.mean_tokens, setup.rows_per_step, setup.examples_per_step)
    assert (20, 32) == (setup.total_steps, replace(setup, grpo=replace(SHORT, max_prompt_length=22)).max_length)
    with pytest.raises(InvalidSettingError, match="Export a script"):
        setup.settle(Device(cuda=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"framework": "peft"}, "GRPO needs a trainer"),
        ({"per_device_train_batch_size": 3}, "12 completions, not whole groups of 8"),
        ({"grpo": Grpo(vllm_mode="server")}, "generates in its own process"),
        ({"grpo": Grpo(vllm_mode="none", vllm_enable_sleep_mode=True)}, "settings of vllm_mode colocate"),
        ({"framework": "trl", "precision": "int8"}, "vLLM cannot load an int8 base"),
    ],
)
def test_what_grpo_cannot_do_is_refused_with_the_way_out(changes, message):
    with pytest.raises(InvalidSettingError, match=message):
        TrainingSetup(**{"grpo": SHORT, **changes}).validate()


def test_vllm_takes_its_share_beside_the_trainer_and_asleep_the_larger_moment_counts():
    usable, half = 22 * 2**30, {"vllm_gpu_memory_utilization": 0.5}
    row, apart, _ = rank(vllm_mode="server")
    parts = row["memory_bytes"]
    idle = 1.005 * sum(parts[name] for name in ("base_weights", "adapter", "optimizer"))

    assert pytest.approx(apart + usable / 2, abs=2) == rank(**half)[1]
    assert (
        pytest.approx(idle + parts["device"] - parts["reserved"] + usable / 2, abs=2)
        == (rank(**half, vllm_enable_sleep_mode=True)[1])
    )
    # 2 blocks, one key head of 8, keys and values in 16 bit, 16 tokens, 8 completions
    assert 2 * 4 * 8 * 16 * 8 == rank(vllm_mode="none")[2]["kv_cache_bytes"]
    latent = {"grpo": Grpo(vllm_mode="server"), "framework": "trl", "precision": "bf16", "max_steps": 1, "gpu": "h200"}
    notes = Api().estimates.estimate(questions.question("deepseek-ai/DeepSeek-V2-Lite", **latent)).estimate.notes
    # 27 blocks, a latent vector of 512 and a key of 64 numbers in 16 bit, 1,024 tokens
    assert 30.4 == round(27 * 576 * 2 * 1024 / 2**20, 1) and any("30 MiB of KV cache" in note for note in notes)
    _, device, shared = rank("unsloth", **half)
    both = shared["trainer_bytes"]["expected"] + shared["engine_bytes"]["expected"]
    assert pytest.approx(both - shared["shared_bytes"], abs=2) == device
    standby = rank("unsloth", vllm_enable_sleep_mode=True)[2]["gpu_memory_utilization"]
    assert pytest.approx(0.95 * 0.825) == standby  # of a card of 22 GiB
    trainer = rank("trl", vllm_mode="server", max_completion_length=40_000)[2]["trainer_bytes"]
    assert trainer["high"] - trainer["expected"] > 2 * (trainer["expected"] - trainer["low"])


def test_time_is_generation_and_training_and_grows_with_the_completion():
    short, long = (rank(max_completion_length=n) for n in (10, 1000))
    seconds = [short[2][name]["expected"] for name in ("generation_seconds", "training_seconds")]

    assert pytest.approx(sum(seconds)) == short[0]["step_seconds"]["expected"]
    assert 50 < long[2]["generation_seconds"]["high"] / short[2]["generation_seconds"]["high"] < 101
    assert rank(beta=0.1)[0]["step_seconds"]["expected"] > short[0]["step_seconds"]["expected"]
    asked = questions.question("Qwen/Qwen3-8B", grpo=Grpo(), gpu="t4", ranks=(16, 32))
    lower, higher = Api().estimates.estimate(asked).estimate.ranks
    # 7 completions at once and 1 after them, or 6 and 2: as many tokens, and a higher rank reads more
    assert [7, 6] == [each.rollout["completions_at_once"] for each in (lower, higher)]
    assert lower.duration.step.expected < higher.duration.step.expected


def test_changes_and_limits_are_grpos_own():
    question = questions.question("Qwen/Qwen3-4B", framework="trl", grpo=Grpo(vllm_gpu_memory_utilization=0.6))
    decided = Api().estimates.fit(replace(question, gpu="l4"), 16)
    names = {name for knob in decided.knobs for name in knob.change}

    assert {"max_completion_length", "vllm_enable_sleep_mode"} <= names - {"max_length"} == names
    assert {"vllm_mode": "none"} in [dict(knob.change) for knob in decided.knobs]
    assert not any(limit.surely % 2 for limit in decided.limits if limit.option == "batch")  # groups of 8, 4 times
    assert ["r", "batch", "max_completion_length"] == [limit.option for limit in decided.limits]
    assert {"lora", "qlora"} == {method.name for method in decided.methods}


def test_what_a_program_ignores_or_refuses_is_said_in_estimates_and_exports():
    asked = questions.question("Qwen/Qwen3-VL-4B-Instruct", grpo=Grpo(vllm_enable_sleep_mode=True))
    long = Grpo(max_completion_length=100_000, vllm_enable_sleep_mode=True, vllm_gpu_memory_utilization=0.5)
    setup = replace(asked.training, grpo=long, data=TrainingData(examples=1), gradient_accumulation_steps=64)
    found = Api().estimates.estimate(replace(asked, model_id="Qwen/Qwen3-4B", training=setup, gpu="t4"))

    warned = " ".join(by_level(found.estimate.notes)[0])
    for part in ("does not start with", "at most 40,960 tokens", "sets vLLM's share", "would make no step"):
        assert part in warned
    assert "published runs of GRPO" in in_words(found.basis)
    for refused in (Api().estimates.estimate, lambda question: Api().advice.export(question, 16)):
        with pytest.raises(InvalidSettingError, match="turns standby off"):
            refused(asked)
    with pytest.raises(InvalidSettingError, match="GRPO has no max_length"):
        training_of({"method": "grpo", "max_length": 100})


@pytest.mark.parametrize(
    ("model_id", "r", "changes", "said", "most"),
    [
        ("Qwen/Qwen3-4B", 16, {}, "", 512),
        ("Qwen/Qwen3-4B", 600, {}, "rank 600", 512),
        ("Qwen/Qwen3-4B", 16, {"use_dora": True}, "DoRA", 0),
        ("Qwen/Qwen3-4B", 16, {"grpo": Grpo(vllm_gpu_memory_utilization=0.01)}, "does not start with 1 %", 0),
        ("Qwen/Qwen3-4B", 16, {"grpo": Grpo(max_prompt_length=50_000)}, "at most 40,960 tokens", 0),
        ("Qwen/Qwen3-30B-A3B", 16, {}, "experts of a 4-bit or 8-bit base", 0),
        ("Qwen/Qwen3-30B-A3B", 16, {"precision": "bf16"}, "", 128),
        ("Qwen/Qwen3-30B-A3B", 256, {"precision": "bf16"}, "experts above r = 128", 128),
        ("mistralai/Mixtral-8x7B-v0.1", 16, {"precision": "bf16"}, "one tensor for all experts", 0),
    ],
)
def test_where_vllm_does_not_start_or_refuses_the_adapter_nothing_fits_and_the_export_says_so(
    model_id, r, changes, said, most
):
    settings = {"grpo": Grpo(), "precision": "nf4-dq", "ranks": (r,)} | changes
    asked = questions.question(model_id, gpu="h200-sxm", **settings)
    decided, written = Api().estimates.fit(asked, r), Api().advice.export(asked, r)

    assert (0 if said else r) <= (decided.limits[0].surely or 0) <= most
    assert ("does_not_fit" if said else "fits") == decided.setting.row.fit
    for notes in (decided.setting.notes, written.notes):
        assert bool(said) == any(
            "vLLM" in note and said in note for note in notes if "refuses" in note or "not start" in note
        )
    assert bool(said) == (decided.smallest is not None) == ("without changes" not in decided.sentence)
    for each in (*decided.methods, *decided.knobs):
        assert not each.refused or "does_not_fit" == each.fit
    assert bool(said) == (said in next(each.refused for each in decided.methods if each.chosen) != "")


def test_vllms_buffers_under_unsloth_are_servings_slot_and_gpt_oss_has_no_vllm_there():
    asked = questions.question("Qwen/Qwen3-4B", grpo=Grpo(), gpu="l4")
    slot = memory_size(Api().estimates.serving(asked, 16)["slot_bytes"]["expected"])

    assert any(f"{slot} for an adapter of rank 16" in note for note in Api().estimates.estimate(asked).estimate.notes)
    with pytest.raises(InvalidSettingError, match="gpt-oss without vLLM"):
        Api().estimates.estimate(replace(asked, model_id="openai/gpt-oss-20b"))


@pytest.mark.torch
def test_defaults_and_chunks_are_those_of_the_installed_programs():
    from trl import GRPOConfig

    trl = {each.name: each.default for each in fields(GRPOConfig)}
    own = {each.name: each.default for each in fields(Grpo) if each.name in trl}
    assert own | {"vllm_gpu_memory_utilization": grpo.OWN_UTILIZATION["trl"]} == {name: trl[name] for name in own}
    zoo = Path(importlib.util.find_spec("unsloth_zoo").origin).parent
    source = (zoo / "vllm_utils.py").read_text()
    tiers = re.findall(r"ten_percent >= ([\d.]+): standby_target_gpu_util = ([\d.]+)", source)[6:]
    assert [(round(10 * float(a)), float(b)) for a, b in tiers] == list(grpo.STANDBY_UTILIZATION[:5])
    assert f"possible_max_ranks = {list(grpo.LORA_RANKS)}" in source
    loss = ast.parse((zoo / "fused_losses" / "chunked_logprob.py").read_text())
    rows_of = [node for node in loss.body if getattr(node, "name", "") == "chunked_logprob_rows"]
    names = {"_BYTES_PER_LOGIT": 8.0, "_MIN_ROWS": 512, "CHUNK_ALIGN_ROWS": 0}
    exec(compile(ast.Module(rows_of, []), "chunked_logprob.py", "exec"), names)
    for vocab, length in ((151_936, 100), (151_936, 30_000), (32_000, 4_000)):
        stack = toy_cost.stack(framework="unsloth", loss_path="fused", grpo=Grpo(max_completion_length=length))
        (moment,) = loss_moments(replace(TOY, vocab_size=vocab), stack, None)
        rows = min(length, names["chunked_logprob_rows"](vocab, 2.0, length))
        assert pytest.approx(8 * rows * vocab, rel=0.01) == min(moment.logits, CHUNK_BUDGET_BYTES)
