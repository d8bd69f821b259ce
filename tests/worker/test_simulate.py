"""Simulated training steps: the allocator's rules and bytes worked out by hand.

One child process for all: the simulated card must be there before torch.
"""

import importlib.util
import json
import shutil

import pytest

from rankviz.worker.simulate.card import Allocator
from tests.cli.command import rankviz
from tests.support.models.tiny_llama import LLAMA
from tests.support.processes.answers import said_by

MIB = 2**20


def test_sizes_are_rounded_to_512_bytes_and_small_ones_share_a_segment_of_2_mib():
    allocator = Allocator()

    allocator.allocate(1)
    allocator.allocate(513)

    assert 512 + 1024 == allocator.allocated
    assert 2 * MIB == allocator.reserved


def test_large_ones_have_segments_of_whole_2_mib_and_free_neighbours_become_one_block():
    allocator = Allocator()
    parts = [allocator.allocate(size) for size in (11 * MIB, 4 * MIB, 4 * MIB, 4 * MIB)]

    for part in parts[1:]:
        allocator.free(part)
    allocator.allocate(12 * MIB)

    assert (12 + 20) * MIB == allocator.reserved
    assert (12 + 12) * MIB == allocator.allocated  # 11 MiB have a segment of 12, of which too little is left


pytestmark = pytest.mark.torch

TINY = LLAMA | {"head_dim": 16, "vocab_size": 128, "tie_word_embeddings": False}
SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path
from rankviz.worker.simulate.card import prepare
prepare()
from rankviz.catalog.hardware import find_gpu, load_gpus
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.paths import ASSETS
from rankviz.worker.simulate.step import SimulatedRun

config, lora = json.loads(sys.argv[1]), LoraConfig(r=8, target_modules=("q_proj", "v_proj"))
bf16 = TrainingSetup(framework="trl", precision="bf16", optim="adamw_torch", per_device_train_batch_size=2,
                     gradient_accumulation_steps=1, max_length=64, gradient_checkpointing="hf")
four_bit = replace(bf16, framework="peft", precision="nf4-dq", optim="adamw_8bit", loss_path="full")
sm75 = replace(bf16, precision="fp16")
def run(setup, card):
    return SimulatedRun(config, lora, setup, find_gpu(load_gpus(ASSETS), card), depth=2).run()
runs = {"L4": run(bf16, "L4"), "T4": run(sm75, "T4")}
runs |= {"nf4": run(four_bit, "L4")}
trl = replace(four_bit, framework="trl", loss_path="fused")
runs |= {"trl nf4": run(trl, "L4"), "trl nf4 T4": run(trl, "T4")}
print(json.dumps({name: [run.loaded, run.static, run.trainable_parameters, dict(run.kernels)]
                  for name, run in runs.items()}))
"""


@pytest.fixture(scope="module")
def runs():
    if not shutil.which("g++") and not importlib.util.find_spec("torch.lib.libtorch_cuda"):
        pytest.skip("g++ makes the simulated card, and there is none")
    return json.loads(said_by("-c", SCRIPT, json.dumps(TINY)).splitlines()[-1])


def test_the_base_and_its_adapter_take_the_bytes_of_their_tensors(runs):
    attention, mlp, norm = 2 * 8192 + 2 * 4096, 3 * 16384, 512  # bf16, each tensor in whole 512 bytes
    base = 2 * (attention + mlp + 2 * norm) + 2 * 16384 + norm + 2 * 512  # embedding, head; rotary frequencies, twice
    adapter = 2 * (2048 + 2048 + 2048 + 1024)  # A and B of q_proj and v_proj in fp32

    assert [base, base + adapter, 3584] == runs["L4"][:3]


def test_the_command_prints_the_same_base_beside_the_estimate(runs, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    setup = ["--precision", "nf4-dq", "--gpu", "L4", "--full", "--json"]

    done = rankviz("probe", tmp_path / "config.json", "--simulate", *setup, home=tmp_path)

    answer = json.loads(done.stdout)
    assert runs["nf4"][0] == answer["base_bytes"]
    assert max(answer["moments"].values()) == answer["allocated_bytes"]
    assert {"low", "expected", "high"} == answer["estimate_bytes"].keys()


def test_a_quantized_base_has_half_a_byte_a_weight_scales_and_codebooks(runs):
    def linear(weights):  # packed weights, codebook, its scales packed and theirs, their codebook, the offset
        scales = -(-weights // 64)
        return sum(-(-each // 512) * 512 for each in (weights // 2, 64, scales, 4 * -(-scales // 256), 1024, 4))

    blocks = 2 * (sum(map(linear, (4096, 2048, 2048, 4096, 8192, 8192, 8192))) + 2 * 512)

    assert blocks + 2 * 16384 + 3 * 512 == runs["nf4"][0]


def test_a_t4_runs_grouped_queries_in_the_math_kernel(runs):
    # Two blocks, forward and recomputed, in two steps.
    assert {"math": 8} == runs["T4"][3]
    assert {"flash": 8} == runs["L4"][3]


def test_trls_4_bit_adapter_is_in_bf16_or_on_a_card_without_it_in_fp32(runs):
    adapters = [runs[name][1] - runs[name][0] for name in ("trl nf4", "trl nf4 T4")]

    assert [2 * 3584, 4 * 3584] == adapters


TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "vocab_size": 100,
}


def test_a_number_that_ends_a_layers_path_is_its_name():
    from rankviz.worker.introspect.layers import layers_of

    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2}
    model = layers_of({"model_type": "qwen2_vl", "text_config": TEXT, "vision_config": vision})

    merger = [(layer.path, layer.name, layer.blocks) for layer in model.layers if "merger" in layer.path]
    assert [("model.visual.merger.mlp.0", "0", ()), ("model.visual.merger.mlp.2", "2", ())] == merger
    assert {"model.language_model.layers.{}", "model.visual.merger.mlp.1"} < set(model.other_modules)
    assert "model.visual.merger.mlp.{}" not in model.other_modules


def test_a_config_that_transformers_5_wrote_is_read_with_its_infinite_numbers():
    from rankviz.worker.introspect.layers import layers_of

    config = TEXT | {"model_type": "bamba", "attn_layer_indices": [1], "mamba_n_heads": 2, "mamba_d_head": 16}
    written = json.loads('{"time_step_limit": [0.0, {"__float__": "Infinity"}]}')

    assert layers_of(config).layers == layers_of(config | written).layers
