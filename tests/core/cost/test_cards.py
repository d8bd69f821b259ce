"""Several GPUs: what each of them holds, by hand on the toy; what is refused; pace and cost; and Apple chips."""

from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.core.cost.cards import together, unit_bytes
from rankviz.core.cost.memory import MemoryTerms
from rankviz.core.cost.setup import Grpo, TrainingSetup
from rankviz.core.fit import as_json, decide, seconds_for
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.errors import UserError
from rankviz.exports.configs import accelerate_config
from tests.core.cost.toy_cost import SEVEN, estimate, shape_of, stack
from tests.support.models.recipes import made
from tests.support.runs.questions import question
from tests.support.runs.toy import ASSUMPTIONS, TOY

API = Api()
PARAMETERS = 224  # q_proj: 2 · (16 + 16), v_proj: 2 · (16 + 8), each in two blocks
WHOLE, BLOCK, OUTSIDE = 12_576, 4_608, 3_360  # 16-bit base, one block of 2,304 weights, embedding and norms
LLAMA = {"model_id": "meta-llama/Llama-2-70b-hf", "r": 16, "framework": "trl", "max_steps": 100, "gpu": "a100-80gb-sxm"}


@pytest.mark.parametrize(
    ("setup", "parts", "gathered"),
    [  # parts: base, adapter, gradients, optimizer
        ({"strategy": "ddp"}, (WHOLE, 4 * PARAMETERS, 2 * 4 * PARAMETERS, 8 * PARAMETERS), 0),
        ({"strategy": "zero2"}, (WHOLE, 2 * PARAMETERS, 2 * PARAMETERS, 12 * PARAMETERS // 2), 0),
        ({"strategy": "fsdp"}, (WHOLE // 2, 448, 448, 896), OUTSIDE + 2 * BLOCK),
        ({"strategy": "zero3"}, (WHOLE // 2, PARAMETERS, PARAMETERS, 12 * PARAMETERS // 2), WHOLE),
        ({"strategy": "fsdp", "offload": True}, (0, 0, 0, 0), OUTSIDE + 2 * BLOCK),
    ],
)
def test_what_each_of_two_gpus_holds(setup, parts, gathered):
    here = stack("trl", gpus=2, **setup)
    terms = MemoryTerms(TOY, shape_of(TOY), here)
    _, several = together(terms, None, resolve(TOY, LoraConfig(target_modules=("q_proj", "v_proj")), "trl"), here, None)
    memory = terms.at(2, PARAMETERS)

    assert parts == (memory.base_weights, memory.adapter, memory.gradients, memory.optimizer)
    assert gathered == several.gathered_bytes <= memory.other + OUTSIDE


def test_scales_of_4_bit_weights_are_not_divided():
    whole = 2 * 2304 * ASSUMPTIONS.value("weight-bytes-nf4-dq") + 2 * 1680
    block, outside, scales = unit_bytes(TOY, stack("trl", precision="nf4-dq", gpus=2, strategy="fsdp"), whole)

    assert (2304 / 2, pytest.approx(3360)) == (block, outside)
    assert pytest.approx(2 * 2304 * (1 / 64 + 1 / 64 / 64)) == scales


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        ({"strategy": "fsdp"}, "needs several GPUs"),
        ({"gpus": 2, "offload": True}, "Offload moves the shards of fsdp and zero3"),
        ({"gpus": 2, "strategy": "fsdp", "framework": "unsloth"}, "Unsloth on several GPUs with ddp alone"),
        ({"gpus": 2, "framework": "peft"}, "plain PEFT trains on one GPU"),
        ({"gpus": 2, "strategy": "zero3", "precision": "int8"}, "int8 base cannot be sharded"),
    ],
)
def test_a_division_that_no_program_makes_is_refused(setup, message):
    with pytest.raises(UserError, match=message):
        TrainingSetup(**{"framework": "trl", **setup}).validate()


def test_more_gpus_take_less_memory_each_and_never_do_more_than_their_number_of_times_the_work():
    ways = (("ddp", 1), ("ddp", 2), ("fsdp", 2), ("fsdp", 4), ("fsdp", 8))
    asked = [API.estimates.estimate(question(**LLAMA, gpus=n, strategy=way)).estimate for way, n in ways]
    alone, copied, *divided = (answer.ranks[0] for answer in asked)
    sizes = [row.memory.device for row in (copied, alone, *divided)]

    assert sizes == sorted(sizes, reverse=True)
    for answer, (_, n) in list(zip(asked, ways, strict=True))[1:]:
        (row,), efficiency = answer.ranks, answer.several_gpus.efficiency
        hours = row.duration.total.expected / 3600
        assert n * answer.price.usd_per_hour == pytest.approx(row.usd.expected / hours)
        assert 0 < efficiency.low <= efficiency.high <= 1
        assert row.duration.step.expected >= alone.duration.step.expected
    alike = (question(**LLAMA | {"model_id": "Qwen/Qwen3-30B-A3B"}, gpus=2, expert_rank=rank) for rank in ("r", 16))
    seconds = [API.estimates.estimate(each).rank(16).duration.step.expected for each in alike]
    assert seconds[0] == pytest.approx(seconds[1])  # gradients of experts go around whatever names their rank
    saving = replace(asked[1].question.lora, modules_to_save=("lm_head", "embed_tokens"))
    saved = API.estimates.estimate(replace(asked[1].question, lora=saving)).estimate.several_gpus
    assert saved.efficiency.expected < asked[1].several_gpus.efficiency.expected  # their gradients go around too


def test_a_base_that_is_not_quantized_gathers_its_16_bit_blocks():
    asked = {
        "framework": "trl",
        "max_steps": 1,
        "gpu": "l4",
        "gpus": 8,
        "strategy": "fsdp",
        "target_modules": "all-linear",
    }
    division = API.estimates.estimate(question("tiiuae/falcon-7b", **asked)).estimate.several_gpus
    assert 1e9 < division.gathered_bytes < 2e9


@pytest.mark.parametrize(
    "asked",
    [
        {"gpus": 2, "strategy": "fsdp", "precision": "bf16"},
        {"gpus": 2, "strategy": "zero3", "precision": "bf16"},
        {"model_id": "Qwen/Qwen3-32B", "gpus": 4, "strategy": "zero3", "precision": "bf16", "gpu": "l4"},
    ],
)
def test_no_range_begins_below_the_exact_shard(asked):
    memory = API.estimates.estimate(question(**LLAMA | asked)).estimate.ranks[0].memory

    exact = memory.base_weights + memory.adapter + memory.optimizer
    assert exact < memory.allocated_band.low < memory.allocated
    assert memory.base_weights < memory.loading_band.low


def test_a_model_that_is_too_large_for_one_gpu_fits_on_two_of_24_gb_with_offload():
    model, gpus = API.models.get(LLAMA["model_id"]), API.workspace.gpus
    card = next(gpu for gpu in gpus if gpu.id == "rtx-4090")
    asked = question(**LLAMA | {"gpu": card.id, "per_device_train_batch_size": 1, "framework": "unsloth"})
    decided = decide(model, asked, card, gpus, ASSUMPTIONS)
    two = next(each for each in decided.several if each.gpu_id == card.id and each.gpus == 2)

    assert "2 x RTX 4090, FSDP with offload (TRL)" == two.label
    assert {"gpus": 2, "strategy": "fsdp", "framework": "trl", "offload": True, "accum": 2} == two.change
    assert two.change == next(row for row in as_json(decided)["several_gpus"] if row["gpus"] == 2)["change"]
    assert f"the cheapest that fits is {decided.several[0].label}, about $" in decided.sentence

    divided = TrainingSetup(framework="trl", gpus=2, strategy="fsdp", max_steps=100)
    decided = decide(model, replace(asked, training=divided), card, gpus, ASSUMPTIONS)
    more = {knob.label: knob for knob in decided.knobs}
    eight, (start, paid) = more["8 GPUs"], (decided.setting, decided.setting.price.usd_per_hour)
    before = seconds_for(start.question.training.trained_tokens, start.question.training, start.row)
    assert ("fits", {"offload": True}) == (more["offload to host memory"].fit, more["offload to host memory"].change)
    assert {"gpus": 8, "accum": 1} == eight.change
    assert eight.usd == pytest.approx((8 * (before + eight.seconds) - 2 * before) * paid / 3600)
    assert "gpus" not in decided.smallest.change


@pytest.mark.torch
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "zero2", "zero3"])
def test_accelerate_takes_the_launch_file(strategy, tmp_path):
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.commands.launch import launch_command_parser

    (file := tmp_path / "accelerate.yaml").write_text(accelerate_config(made(gpus=4, strategy=strategy)))
    config = ClusterConfig.from_yaml_file(str(file))
    known = vars(launch_command_parser().parse_args(["--config_file", str(file), "train.py"]))

    kind = {"ddp": "MULTI_GPU", "fsdp": "FSDP"}.get(strategy, "DEEPSPEED")
    assert (4, kind, None) == (config.num_processes, config.distributed_type.value, config.mixed_precision)
    assert {**config.fsdp_config, **config.deepspeed_config}.keys() <= known.keys()


def test_a_script_for_several_gpus_comes_with_its_launch_file():
    asked = question(**LLAMA, gpus=2, strategy="fsdp")
    written = API.advice.export(asked, 16)
    alone = API.advice.export(replace(asked, training=replace(asked.training, gpus=1, strategy="ddp")), 16)

    assert ["accelerate.yaml"] == [name for name, _ in written.extra_files]
    assert "accelerate launch --config_file accelerate.yaml train.py" in written.text
    compile(written.text, "train.py", "exec")
    assert ("before = [" in written.text, "before = [" in alone.text, ()) == (False, True, alone.extra_files)
    zero = API.advice.export(question(**LLAMA, gpus=2, strategy="zero3"), 16).text
    compile(zero, "train.py", "exec")
    assert zero.index("SFTConfig(\n") < zero.index("from_pretrained(\n") and " deepspeed\n" in zero
    assert ("`uv run`" in alone.text, "`uv run`" in written.text, "`uv run`" in zero) == (True, False, False)
    with pytest.raises(UserError, match="is for one GPU"):
        API.advice.export(asked, 16, "axolotl")


QWEN, GIB = "Qwen/Qwen3-4B", 2**30


def test_a_step_under_mlx_holds_what_its_code_gives():
    memory = estimate(framework="mlx", names=SEVEN, precision="nf4")

    assert round(0.5625 * (4608 + 1600)) + 2 * 80 == memory.base_weights
    assert (400, 400, 2 * 400) == (memory.adapter, memory.gradients, memory.optimizer)
    # a token: the MLP's norm, 2Q + 2K, 3M; fp32 copies of three inputs, and the output of attention is one instead
    kept = 2 * (16 + 48 + 96) + 4 * (16 + 16 + 32) + 2 * 16
    # the mask, two checkpoints, ten tokens, two heads' softmax, x·A of seven modules, and the block's gradients
    assert 2 * 100 + 2 * 320 + 10 * kept + 2 * 200 + 7 * 4 * 2 * 10 + 10 * (2 * 64 + 12 * 16) == memory.activations
    assert 2 * 6288 == estimate(framework="mlx", names=SEVEN).base_weights
    assert 0 == memory.other == memory.logits


def test_a_mac_is_answered_for_mlx_without_time_and_compared_with_macs_alone(tmp_path):
    estimates = Api(home=tmp_path).estimates
    asked = question(QWEN, gpu="mac-32gb", ranks=(8,), target_modules="all-linear", max_steps=10)
    answer, on_l4 = (estimates.estimate(each).estimate for each in (asked, question(QWEN, gpu="l4", ranks=(8,))))
    (rank,) = answer.ranks

    assert ("mlx", None, None) == (answer.question.training.framework, rank.duration, rank.usd)
    assert on_l4.ranks[0].adapter_parameters == rank.adapter_parameters
    assert pytest.approx((0.666 * 32 * GIB, 0.74 * 32 * GIB)) == (answer.usable_bytes.low, answer.usable_bytes.high)
    assert "Not measured" in " ".join(answer.notes)
    macs, cards = (estimates.fit(each, 8).cards for each in (asked, question(QWEN, gpu="l4", ranks=(8,))))
    assert ({"mac"}, set()) == ({each.gpu_id[:3] for each in macs}, {c.gpu_id for c in cards if c.gpu_id[:3] == "mac"})
    assert ["fits", "uncertain"] == [{each.gpu_id: each.fit for each in macs}[f"mac-{gb}gb"] for gb in (24, 16)]


def test_what_the_export_for_a_mac_writes_and_refuses_is_said(tmp_path):
    api = Api(home=tmp_path)
    moe = [question("Qwen/Qwen3-30B-A3B", gpu="mac-64gb", target_modules=each) for each in ("unsloth", "attention")]
    refused, written = (" ".join(api.estimates.estimate(each).estimate.notes) for each in moe)
    assert "the export format mlx refuses it" in refused and "mlx writes its configuration" not in refused
    assert "mlx writes its configuration" in written and api.advice.export(moe[1], 8, "mlx").text
    on_mac = question(QWEN, gpu="mac-32gb", precision="fp32", target_modules="all-linear")
    assert "not on a Mac: choose the format mlx" in api.advice.export(on_mac, 8).notes[0]
    text = api.advice.export(on_mac, 8, "mlx").text
    assert "--mlx-path mlx_model --dtype float32" in text and "model: mlx_model" in text


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"framework": "mlx", "gpu": "l4"}, "MLX trains on a Mac. Choose one as GPU, such as mac-32gb"),
        ({"gpu": "mac-64gb", "modules_to_save": ("lm_head",)}, r"on text\. Leave out modules_to_save\.$"),
        ({"gpu": "mac-64gb", "grpo": Grpo()}, r"Leave out method grpo\.$"),
        ({"gpu": "mac"}, r"Mac, 16 GB \(mac-16gb\)"),
    ],
)
def test_what_mlx_cannot_do_is_refused(tmp_path, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Api(home=tmp_path).estimates.estimate(question(QWEN, **settings))
