"""Serving: slots as vLLM's own modules have them, refusals, what fits beside base and cache, and llama.cpp's file."""

import json
import re
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.catalog.hardware import find_gpu, load_gpus, load_serving
from rankviz.catalog.models import load_model
from rankviz.core.cost.question import Question
from rankviz.core.cost.shapes import cache_bytes
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from rankviz.core.quantity import Range
from rankviz.core.serving import rows, serve, slot_numbers
from rankviz.errors import InvalidSettingError
from tests.support.models.tiny_llama import LLAMA
from tests.support.runs.toy import ASSETS, ASSUMPTIONS

FACTS = load_serving(ASSETS)
L4 = find_gpu(load_gpus(ASSETS), "l4")
VLLM = json.loads((Path(__file__).parent / "vllm_slots.json").read_text())["slots"]


def served(model_id, r=16, *, framework="peft", precision="bf16", gpu=L4, load=None, **lora):
    lora = LoraConfig(r=r, lora_alpha=r, **{"target_modules": "all-linear", **lora})
    plan = resolve(load_model(ASSETS, model_id), lora, framework, precision=precision)
    return serve(plan, lora, FACTS, gpu, ASSUMPTIONS, **(load or {}))


def test_ranks_take_the_next_slot_and_the_waste_is_said():
    slots = {r: served("Qwen/Qwen3-8B", r)["max_lora_rank"] for r in (1, 2, 16, 24, 48, 200, 257, 320, 512, 513)}

    assert {1: 1, 2: 8, 16: 16, 24: 32, 48: 64, 200: 256, 257: 320, 320: 320, 512: 512, 513: None} == slots
    assert 0.25 == served("Qwen/Qwen3-8B", 24)["wasted_share"]
    too_large = served("Qwen/Qwen3-8B", 600)
    assert ["rank 600"] == [each["feature"] for each in too_large["refused"]]
    assert (None, "vllm serve ./merged --max-model-len auto") == (too_large["slot_bytes"], too_large["command"])
    assert {"low": 0, "expected": 0, "high": 0} == too_large["card"]["adapters"]


@pytest.mark.parametrize("model_id", VLLM)
def test_a_slot_holds_what_vllms_own_modules_hold_or_a_range_for_an_architecture_without_a_row(model_id):
    model, unread = load_model(ASSETS, model_id), {**FACTS, "architectures": {}}

    assert Range(*[VLLM[model_id]] * 3) == slot_numbers(model, FACTS)
    assert slot_numbers(model, unread).holds(VLLM[model_id])


@pytest.mark.parametrize(
    ("model_id", "lora", "features"),
    [
        ("Qwen/Qwen3-4B", {"use_rslora": True}, []),
        ("Qwen/Qwen3-4B", {"use_dora": True}, ["DoRA"]),
        ("Qwen/Qwen3-4B", {"modules_to_save": ("lm_head",)}, ["modules_to_save"]),
        ("openai-community/gpt2", {}, ["GPT2LMHeadModel"]),
        ("openai/gpt-oss-20b", {"moe_scheme": "target-parameters"}, []),
        ("Qwen/Qwen3-30B-A3B", {"moe_scheme": "target-parameters"}, ["experts"]),
    ],
)
def test_what_vllm_refuses_is_said_with_what_to_do(model_id, lora, features):
    answer = served(model_id, **lora)

    assert features == [each["feature"] for each in answer["refused"]]
    assert all(each["instead"] for each in answer["refused"])
    assert ("--enable-lora" in answer["command"]) == (not features)
    assert ("refuses" in rows(answer)[0][1]) == bool(features)
    assert ("–" == rows(answer)[1][1]) == (answer["max_lora_rank"] is None) == ("./merged" in answer["command"]) or (
        features == ["experts"]  # vLLM loads these with another setting
    )


def test_a_slot_holds_also_what_the_adapter_leaves_out_and_other_towers_as_a_range():
    for model_id in ("google/gemma-3-4b-it:whole", "google/gemma-4-E4B:whole", "Qwen/Qwen3-VL-4B-Instruct"):
        answer = served(model_id)
        assert answer["slot_bytes"]["low"] < answer["loaded_bytes"] <= answer["slot_bytes"]["expected"]
        assert answer["slot_bytes"]["expected"] < answer["slot_bytes"]["high"] and "were not read" in rows(answer)[0][2]
        assert re.search(r"this adapter fills \d+ to 100 % of it", dict(row[::2] for row in rows(answer))["One slot"])
    narrow, parts = served("Qwen/Qwen3-8B", target_modules=("q_proj", "v_proj")), ("max_lora_rank", "One slot")
    assert ["r uses all of it", "fills 16 % of it"] == [text[-16:] for name, _, text in rows(narrow) if name in parts]


def test_the_command_has_the_counted_load_and_loads_the_weights_that_were_asked_for(tmp_path):
    api = Api(home=tmp_path, shared=False)

    def asked(model_id, gpu="l4", targets="all-linear", **load):
        lora = LoraConfig(target_modules=targets)
        return api.estimates.serving(Question(model_id=model_id, lora=lora, gpu=gpu), 16, **load)

    line = asked("embedded", context=1024, sequences=4)["command"]
    assert "SmolLM2-135M-Instruct --max-model-len 1024 --max-num-seqs 4 --enable-lora --max-loras 1" in line
    assert "--max-model-len auto --enable" in asked("embedded")["command"]
    packed, base = asked("openai/gpt-oss-20b", targets="attention"), 13_761_264_768  # 4.25 bits of the experts
    assert base / packed["card"]["base_bytes"]["low"] == pytest.approx(1, abs=0.01)
    assert packed["card"]["adapters"]["expected"] > 0 and "MXFP4" in packed["notes"][0]
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq"}} | LLAMA))
    for named in ("unsloth/Qwen3-8B-bnb-4bit", "Qwen/Qwen3-8B-AWQ", str(tmp_path / "config.json")):
        found = asked(named)
        assert 0 < found["card"]["base_bytes"]["low"] < 0.6 * found["merged_bytes"]
        assert f"vllm serve {named.removesuffix('/config.json')} " in found["command"]
    mac = asked("embedded", "mac-32gb")
    assert ("", None) == (mac["command"], mac["card"]) and "choose a card" in mac["notes"][0].lower()
    assert "base alone" in asked("meta-llama/Llama-3.1-70B")["notes"][0]
    said = " ".join(asked("Qwen/Qwen3-4B", context=10**5)["notes"])
    assert all(part in said for part in ("at most 40,960 tokens", "no room", "a bias other than none", "rank_pattern"))
    assert "at most" not in " ".join(asked("Qwen/Qwen3-4B", context=40_960)["notes"])


def test_the_largest_rank_of_any_module_counts():
    """PEFT's rewrite gives the experts' gate_up_proj rank 2r."""
    answer = served("mistralai/Mixtral-8x7B-v0.1", 24)

    assert (48, 64) == (answer["highest_rank"], answer["max_lora_rank"])


def test_the_card_is_shared_by_base_cache_step_and_slots():
    """Llama 3.1 8B: 32 blocks hold keys and values of 1,024 in 16 bit: 131,072 bytes a token."""
    answer = served("meta-llama/Llama-3.1-8B", load={"context": 1000, "sequences": 10})

    card = answer["card"]
    assert {"low": 2**17 * 10**4, "expected": 2**17 * 10**4, "high": 2**17 * 10**4} == card["cache_bytes"]
    assert 2 * 8_030_261_248 == card["base_bytes"]["low"] == answer["merged_bytes"]
    for end, other in (("low", "high"), ("expected", "expected"), ("high", "low")):
        taken = sum(card[f"{part}_bytes"][other] for part in ("base", "cache", "working"))
        assert card["free_bytes"][end] == pytest.approx(card["budget_bytes"][end] - taken, abs=2)
        assert max(0, card["free_bytes"][end] // answer["slot_bytes"][other]) == card["adapters"][end]
    four = served("meta-llama/Llama-3.1-8B", load={"base_bits": "4"})
    assert four["card"]["base_bytes"]["high"] < 6.1e9 < card["base_bytes"]["low"]
    assert four["card"]["cache_bytes"]["low"] < four["card"]["cache_bytes"]["high"]
    assert "--quantization bitsandbytes" in four["command"]
    with pytest.raises(InvalidSettingError, match="16, 8, 4"):
        served("meta-llama/Llama-3.1-8B", load={"base_bits": "5"})


def test_the_cache_of_windows_latents_and_states():
    def bytes_of(model_id):
        return cache_bytes(load_model(ASSETS, model_id), Range(4096, 4096, 4096), Range(1, 1, 1), ASSUMPTIONS)

    # Gemma 3 1B: 4 of 26 blocks see all 4,096 tokens, 22 a window of 512; one head of 256, keys and values.
    assert 2 * 2 * 256 * (4 * 4096 + 22 * 512) == bytes_of("google/gemma-3-1b-it").expected
    # DeepSeek V2 Lite: 27 blocks with a latent of 512 and 64 for positions.
    assert 2 * 27 * 576 * 4096 == bytes_of("deepseek-ai/DeepSeek-V2-Lite").expected
    # Qwen3-Next: 12 blocks with 2 heads of 256; 36 with a state of 4,096 x 128 numbers.
    assert 2 * 2 * 512 * 12 * 4096 + 36 * 4096 * 128 * 4 == bytes_of("Qwen/Qwen3-Next-80B-A3B-Instruct").expected


def test_llama_cpps_file_by_outtype_and_its_alpha():
    """TinyLlama's q_proj: 22 blocks, A of r x 2,048 and B of 2,048 x r."""
    answer = served("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 16, target_modules=("q_proj",), use_rslora=True)

    half = 22 * 16 * 2048
    assert {"f32": 8 * half, "f16": 4 * half, "bf16": 4 * half, "q8_0": half * 34 // 32 + 2 * half} == answer[
        "gguf_bytes"
    ]
    assert (16 * 4, []) == (answer["gguf_alpha"], answer["gguf_refused"])
    whole = served("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 32, use_dora=True, modules_to_save=("lm_head",))
    assert ["DoRA", "modules_to_save"] == [each["feature"] for each in whole["gguf_refused"]]
    assert whole["gguf_bytes"]["q8_0"] * 64 == whole["gguf_bytes"]["f32"] * 17
