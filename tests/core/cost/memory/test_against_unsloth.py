"""Unsloth's loss and its 4-bit experts as the formulas have them, against its own code, run without a card.

gpt-oss is not among the experts: in 4 bit its checkpoint has a linear layer for each expert, which any quantizer packs
(unsloth_zoo/temporary_patches/gpt_oss.py).
"""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.core.cost.blocks import SMALL_CARD_BYTES, unsloth_chunk
from rankviz.core.cost.stack import quantizes_experts

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[4]
CONFIGS = ROOT / "assets" / "configs"
MODELS = {
    "Qwen/Qwen3-30B-A3B": "Qwen__Qwen3-30B-A3B.json",
    "Qwen/Qwen3-Next-80B-A3B-Instruct": "Qwen__Qwen3-Next-80B-A3B-Instruct.json",
    "Qwen/Qwen3-VL-30B-A3B-Instruct": "Qwen__Qwen3-VL-30B-A3B-Instruct.json",
    "Qwen/Qwen3.5-35B-A3B": "Qwen__Qwen3.5-35B-A3B.json",
    "deepseek-ai/DeepSeek-V2-Lite": "deepseek-ai__DeepSeek-V2-Lite.json",
    "google/gemma-4-26B-A4B": "google__gemma-4-26B-A4B.json",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": "meta-llama__Llama-4-Scout-17B-16E-Instruct.json",
    "mistralai/Mixtral-8x7B-v0.1": "mistralai__Mixtral-8x7B-v0.1.json",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "nvidia__NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json",
}
"""One of each class of experts in the catalogue."""


@functools.cache
def unsloths_answers():
    command = [
        sys.executable,
        "-m",
        "tests.support.models.unsloth_memory",
        *(str(CONFIGS / file) for file in MODELS.values()),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560)
    assert 0 == done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_the_buffer_of_the_loss_is_unsloths_own():
    for tokens, hidden, vocab, rows, *tiles in unsloths_answers()["chunks"]:
        plain = unsloth_chunk(tokens, hidden, vocab, None, ampere=False)
        small, large = (unsloth_chunk(tokens, hidden, vocab, card, ampere=True) for card in (SMALL_CARD_BYTES, None))

        assert (rows, vocab) == plain
        tiled = vocab > 2 * 16_384
        assert small == (tuple(tiles[:2]) if tiled else plain)
        assert large == (tuple(tiles[2:]) if tiled and tokens >= 4096 else plain)


def test_experts_are_packed_in_4_bit_where_unsloth_packs_them():
    api, packed = Api(), unsloths_answers()["packed"]

    assert {name: packed[str(CONFIGS / file)] for name, file in MODELS.items()} == {
        name: quantizes_experts(api.models.get(name)) for name in MODELS
    }
