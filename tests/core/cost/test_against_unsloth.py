"""Unsloth's loss, its 4-bit experts and what its real loader made of a tiny checkpoint of every family (recorded by
`make test-counts`), beside the formulas.

gpt-oss is not among the experts: in 4 bit its checkpoint has a linear layer for each expert, which any quantizer packs
(unsloth_zoo/temporary_patches/gpt_oss.py).
"""

import functools
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rankviz.api import Api
from rankviz.core.cost.blocks import SMALL_CARD_BYTES, unsloth_chunk
from rankviz.core.cost.stack import quantizes_experts
from tests import counts
from tests.support.models.shallow import shallow

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[3]
MODELS = (
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "Qwen/Qwen3.5-35B-A3B",
    "deepseek-ai/DeepSeek-V2-Lite",
    "google/gemma-4-26B-A4B",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "mistralai/Mixtral-8x7B-v0.1",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
)
"""One of each class of experts in the catalogue."""


@functools.cache
def unsloths_answers():
    with TemporaryDirectory() as folder:
        files = {str(shallow(name, Path(folder))[1]): name for name in MODELS}
        command = [sys.executable, "-m", "tests.support.models.unsloth_memory", *files]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560)
    assert 0 == done.returncode, done.stderr[-2000:]
    said = json.loads(done.stdout)
    return said | {"packed": {files[path]: packed for path, packed in said["packed"].items()}}


def test_the_buffer_of_the_loss_is_unsloths_own():
    for tokens, hidden, vocab, rows, *tiles in unsloths_answers()["chunks"]:
        plain = unsloth_chunk(tokens, hidden, vocab, None, ampere=False)
        small, large = (unsloth_chunk(tokens, hidden, vocab, card, ampere=True) for card in (SMALL_CARD_BYTES, None))

        assert (rows, vocab) == plain
        tiled = vocab > 2 * 16_384
        assert small == (tuple(tiles[:2]) if tiled else plain)
        assert large == (tuple(tiles[2:]) if tiled and tokens >= 4096 else plain)


def test_experts_are_packed_in_4_bit_where_unsloth_packs_them():
    api = Api()

    assert {name: quantizes_experts(api.models.get(name)) for name in MODELS} == unsloths_answers()["packed"]


LINES = [json.loads(line) for line in counts.LOADED.read_text().splitlines()]


@pytest.fixture(scope="module")
def specs():
    from transformers import AutoConfig

    from rankviz.worker.introspect.layers import layers_of
    from tests.support.models.tiny_families import CONFIGS, families, shrunk

    def of(name):
        config = shrunk(json.loads((CONFIGS / f"{name}.json").read_bytes()))
        read = json.loads(AutoConfig.for_model(**config).to_json_string(use_diff=False))
        return layers_of({**read, "architectures": config["architectures"]})

    return {family: of(name) for family, name in families().items()}


def test_every_family_of_the_catalogue_was_loaded(specs):
    assert set(specs) == {line["family"] for line in LINES}
    assert not [line for line in LINES if "refused" in line]


def test_each_part_of_a_base_and_each_adapter_is_what_unsloth_loads_and_trains(specs):
    wrong = {
        (line["family"], line["four_bit"], line["text_only"]): found
        for line in LINES
        if (found := counts.differences(line, specs[line["family"]]))
    }

    assert {} == wrong
