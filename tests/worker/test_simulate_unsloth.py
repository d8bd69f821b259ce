"""Simulated steps of the real Unsloth on a small Llama, its largest moment worked out by hand."""

import json
import shutil
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]

SMALL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 4096,
    "vocab_size": 1024,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": False,
}
SCRIPT = """
import json, sys
from rankviz.catalog.hardware import find_gpu, load_gpus
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.paths import ASSETS
from benchmarks.unsloth_card import import_unsloth
from rankviz.worker.simulate.card import become

gpu = find_gpu(load_gpus(ASSETS), "L4")
import_unsloth(become(gpu))
from benchmarks.unsloth_steps import UnslothRun

lora = LoraConfig(r=8, target_modules="all-linear")
for precision in ("bf16", "nf4-dq"):
    training = TrainingSetup(framework="unsloth", precision=precision, max_length=2048)
    run = UnslothRun(json.loads(sys.argv[1]), lora, training, gpu, depth=4).run()
    print(json.dumps([run.loaded, run.static, run.allocated - run.workspaces, run.trainable_parameters, run.kernels]))
"""


@pytest.fixture(scope="module")
def runs():
    if not shutil.which("g++"):
        pytest.skip("g++ makes the simulated card, and there is none")
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(SMALL)], capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def test_the_peak_is_a_blocks_backward_pass(runs):
    tokens, hidden, queries, keys, mlp = 2 * 2048, 1024, 1024, 256, 4096
    block = 2 * tokens * (5 * hidden + 2 * queries + 2 * keys + 3 * mlp)
    on_card = 4 * 2 * tokens * hidden + 2 * 32_768 * 128 * 2  # hidden states, and sines and cosines
    unpacked = 2 * 2 * 1024 * 4096  # one weight that stays and one beside it

    for (_, static, peak, parameters, _), scratch in zip(runs, (0, unpacked), strict=True):
        gradients_and_states = parameters * (4 + 2 + 8 / 256)
        assert pytest.approx(block + on_card + scratch, rel=0.02) == peak - static - gradients_and_states


def test_every_block_runs_flash_attention_forward_and_recomputed(runs):
    # Four blocks, twice, in three micro-steps.
    assert [{"flash": 24}, {"flash": 24}] == [run[4] for run in runs]
