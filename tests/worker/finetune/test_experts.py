"""Fused experts and fused projections, through the worker's own loading and attaching on Unsloth's CPU backend."""

import json
import os
import subprocess
import sys

import pytest

from rankviz.paths import IMPORT_ROOT
from tests.support.models.tiny_models import COMMON, SHAPES

pytestmark = pytest.mark.torch

PRESETS = ("mlp", "unsloth", "all-linear", "attention", "mlp 3", "all-linear r/active")
"""Some with an expert_rank."""
EXPERTS = COMMON | {"num_local_experts": 4, "num_experts_per_tok": 2}
MIXED = {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention"]}
CONFIGS = {
    "qwen3_moe": SHAPES["qwen3_moe"],
    "mixtral": EXPERTS | {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]},
    "gpt_oss": EXPERTS | {"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"]} | MIXED,
    "phi3": SHAPES["phi3"],
}

PROGRAM = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
from rankviz.worker.journal import set_environment
set_environment()
os.environ["HF_HUB_OFFLINE"] = "1"
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from rankviz.worker.finetune.session import load_base
from rankviz.worker.finetune.session import attach, detach
from rankviz.core.lora.config import LoraConfig
from rankviz.core.cost.question import plan_on
from rankviz.core.cost.setup import Device
from rankviz.errors import InvalidSettingError
from rankviz.core.probe import PROBE_TRAINING
from rankviz.core.runs.request import RunRequest
from rankviz.worker.base import Base
from rankviz.worker.introspect.layers import layers_of
from rankviz.worker.probe import write_random_base
from rankviz.worker.device import settle

folder, configs, presets = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
training = replace(PROBE_TRAINING, framework="unsloth", max_length=32)
settings, counts = settle(training, cuda=False), {}
for name, config in configs.items():
    base = folder / name
    write_random_base(config, config["num_hidden_layers"], base)
    model, *_ = load_base(Base(name=str(base), is_local=True), settings)
    for preset in presets:
        targets, _, expert_rank = preset.partition(" ")
        lora = LoraConfig(r=4, lora_alpha=4, target_modules=targets, expert_rank=expert_rank or "r")
        try:
            plan = plan_on(layers_of(config), lora, training, Device())
        except InvalidSettingError:
            counts[f"{name} {preset}"] = None
            continue
        run = RunRequest(run_id="r", sweep_id="s", created_at=0, base=str(base), data="", lora=lora, training=training)
        adapter = attach(model, run, plan, settings)
        trained = sum(p.numel() for p in adapter.parameters() if p.requires_grad)
        counts[f"{name} {preset}"] = [plan.parameters(4), trained]
        model = detach(adapter)
json.dump(counts, answers)
"""


@pytest.mark.timeout(1200)
def test_experts_are_trained_as_counted(tmp_path):
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(CONFIGS), *PRESETS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(IMPORT_ROOT)},
        capture_output=True,
        text=True,
    )

    assert 0 == program.returncode, program.stderr[-3000:]
    counts = json.loads(program.stdout)
    assert len(CONFIGS) * len(PRESETS) == len(counts)
    # Plain PEFT reaches no expert of gpt-oss by name.
    assert ["gpt_oss mlp", "gpt_oss mlp 3"] == [name for name, pair in counts.items() if pair is None]
    assert {} == {name: pair for name, pair in counts.items() if pair and pair[0] != pair[1]}
    # Mixtral's experts, r = 4: 2 blocks of 4, gate_up 64 to 2 x 96 at twice the rank, and down 96 to 64.
    assert 4 * 2 * 4 * (2 * (64 + 192) + (96 + 64)) == counts["mixtral mlp"][1]
    assert 3 * 2 * 4 * (2 * (64 + 192) + (96 + 64)) == counts["mixtral mlp 3"][1]
    # Phi-3, r = 4, 2 blocks: qkv 64 to 4 x 16 + 2 x 2 x 16, o 64 to 64, gate_up 64 to 2 x 96, down 96 to 64.
    assert 4 * 2 * ((64 + 128) + (64 + 64) + (64 + 192) + (96 + 64)) == counts["phi3 unsloth"][1]
