"""Tells chat models from base models, and names LLaMA-Factory's template for a model.

A chat model is trained through its chat template, which ends each answer with a token that the model stops at. A base
model has no such template, or one whose tokens it was never trained on, so it is given plain text, which the trainer
ends with the tokenizer's own end token. RankViz has no tokenizer at hand. So LLaMA-Factory's own list decides
(assets/llamafactory_templates.csv), then the name and the model_type (core/model/towers.py). A fine-tune with a name of
its own is in no family: its template is unknown.
"""

import csv
import functools
import re
from pathlib import Path
from typing import NamedTuple

from rankviz.core.model.towers import COPY, is_chat, last_part
from rankviz.paths import ASSETS

MODEL_TYPES = {
    "falcon_h1": "falcon_h1",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gemma3_text": "gemma2",
    "gemma3n": "gemma3n",
    "glm4_moe": "glm4_moe",
    "gpt_oss": "gpt_oss",
    "hunyuan_v1_dense": "hunyuan",
    "lfm2_vl": "lfm2_vl",
    "llama4": "llama4",
    "llama4_text": "llama4",
    "mllama": "mllama",
    "phi3small": "phi_small",
    "qwen2_5_vl": "qwen2_vl",
    "qwen2_audio": "qwen2_audio",
    "qwen2_vl": "qwen2_vl",
    "seed_oss": "seed_oss",
}
"""model_types whose models all have one template in LLaMA-Factory's list."""
FAMILIES = (
    (r"deepseek-r1", "deepseekr1"),
    (r"deepseek-v3(-|$)|deepseek-v2\.5", "deepseek3"),
    (r"deepseek-(coder-)?v2-", "deepseek"),
    (r"phi-4-multimodal|phi-3(\.5)?-vision", ""),
    (r"phi-4-mini", "phi4_mini"),
    (r"phi-4", "phi4"),
    (r"phi-3-small", "phi_small"),
    (r"phi-3", "phi"),
    (r"smollm2-", "smollm2"),
    (r"smollm-", "smollm"),
    (r"llama-4-", "llama4"),
    (r"llama-3\.2-\d+b-vision", "mllama"),
    (r"llama-3(\.\d)?-\d+b-instruct", "llama3"),
    (r"llama-2-\d+b-chat", "llama2"),
    (r"ministral-3-", "ministral3"),
    (r"mistral-nemo|ministral-", "ministral"),
    (r"(mistral|devstral)-small", "mistral_small"),
    (r"(mistral-7b|mixtral-8x\d+b)-instruct", "mistral"),
    (r"gemma-4-e\db", "gemma4n"),
    (r"gemma-4-", "gemma4"),
    (r"gemma-3n-", "gemma3n"),
    (r"gemma-3-(270m|1b)|gemma-2-\d+b-", "gemma2"),
    (r"(med)?gemma-(3|1\.5|4b|27b)-", "gemma3"),
    (r"gemma-(1\.1-)?[27]b-", "gemma"),
    (r"qwen3\.5-", "qwen3_5"),
    (r"qwen3\.6-", "qwen3_6"),
    (r"qwen3-omni.*thinking", "qwen3_omni"),
    (r"qwen3-omni", "qwen3_omni_nothink"),
    (r"qwen3-vl.*thinking", "qwen3_vl"),
    (r"qwen3-vl", "qwen3_vl_nothink"),
    (r"qwen3-.*(coder|instruct)", "qwen3_nothink"),
    (r"qwen3-", "qwen3"),
    (r"qwen2\.5-omni", "qwen2_omni"),
    (r"qwen2-audio", "qwen2_audio"),
    (r"qwen2(\.5)?-vl", "qwen2_vl"),
    (r"qwen2(\.5)?-|qwq-", "qwen"),
    (r"glm-4\.[56]v", "glm4_5v"),
    (r"glm-4\.5(-|$)", "glm4_moe"),
    (r"glm-z1-", "glmz1"),
    (r"glm-4-(9b|32b)", "glm4"),
    (r"gpt-oss-\d+b", "gpt_oss"),
    (r"granite-3\.\d-\d+b-(a\d+m-)?instruct", "granite3"),
    (r"granite-4\.", "granite4"),
    (r"lfm2(\.5)?-vl", "lfm2_vl"),
    (r"lfm2", "lfm2"),
    (r"falcon-h1", "falcon_h1"),
    (r"falcon-\d+b", "falcon"),
    (r"seed-oss-", "seed_oss"),
    (r"hunyuan-([\d.]+|a13)b-", "hunyuan"),
    (r"internlm(2|2_5|3)-", "intern2"),
    (r"solar-10\.7b-instruct", "solar"),
    (r"yi-(1\.5-)?\d+b-chat", "yi"),
    (r"zephyr-7b", "zephyr"),
    (r"hermes-[23]-", "chatml"),
)
"""How the name begins, the first that matches: the template that LLaMA-Factory 0.9.5 registers for that family
(extras/constants.py, register_model_group; data/template.py); for Hermes 2 and 3 that of the format in their cards."""
_PUBLISHERS = r"(?:meta-|nvidia-)?"

_NOTHING = "aeva breeze chatglm3 falcon glm4 glm4_5v glm4_7 glm4_moe glm4v glm_ocr glmz1 index solar yi_vl"
NO_END = frozenset(_NOTHING.split())
"""LLaMA-Factory's templates of models whose chat template writes nothing behind an answer."""
_CHATML = """chatml cpm4 dbrx ernie falcon_h1 intern2 intern_s1 intern_vl keye_vl kimi_vl lfm2 lfm2_vl llava_next_qwen
llava_next_video_yi llava_next_yi mimo mimo_v2 mimo_vl minicpm_o minicpm_v minicpm_v_4_6 moonlight opencoder phi4 qwen
qwen2_audio qwen2_omni qwen2_vl qwen3 qwen3_5 qwen3_6 qwen3_nothink qwen3_omni qwen3_omni_nothink qwen3_vl
qwen3_vl_nothink smollm smollm2 yi"""
_ENDS = {
    "<|im_end|>": _CHATML,
    "<end_of_turn>": "gemma gemma2 gemma3 gemma3n",
    "<turn|>": "gemma4 gemma4n",
    "<|eot_id|>": "llama3 llava_next_llama3 mllama",
    "<|eot|>": "llama4",
    "<|end|>": "phi phi4_mini phi_small",
    "<|end_of_text|>": "granite3 granite4 youtu youtu_vl",
    "<|end_of_sentence|>": "ernie_nothink ernie_vl",
    "<|EOT|>": "deepseekcoder",
    "<|endofassistant|>": "dots_ocr",
    "<|eos|>": "hunyuan",
    "<｜hy_place▁holder▁no▁2｜>": "hunyuan_small",
    "<｜hy_eos｜>": "hy3",
    "<end_of_sentence>": "minimax1",
    "[e~[": "minimax2",
    "<eod>": "yuan",
}
ENDS_OF_TURN = {template: token for token, templates in _ENDS.items() for template in templates.split()}
"""By LLaMA-Factory's template: the token behind an answer, where the template names it. Elsewhere it is the tokenizer's
end token."""


class Listed(NamedTuple):
    """A model in LLaMA-Factory's list."""

    template: str
    is_chat: bool
    """Whether the list calls it a chat model; else its name decides."""


@functools.cache
def listed(assets: Path = ASSETS) -> dict[str, Listed]:
    """LLaMA-Factory's list by lower-case Hub id, and by the part after the slash."""
    with (assets / "llamafactory_templates.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"].lower(): Listed(row["template"], row["chat"] == "yes") for row in csv.DictReader(file)}
    return {name.split("/")[-1]: row for name, row in rows.items()} | rows


def has_chat_template(model_id: str, model_type: str = "") -> bool:
    """Whether rows are to go through the model's chat template.

    model_id: Hub id or folder. model_type: of its config.json, for folders with names of their own.
    """
    return bool(is_chat_model(model_id, model_type))


def is_chat_model(model_id: str, model_type: str = "") -> bool | None:
    """Whether it is a chat model; None where neither the list nor its name says."""
    row = _row(model_id)
    return is_chat(model_id, model_type, listed=row.is_chat if row else None)


def llamafactory_template(model_id: str, model_type: str = "") -> str:
    """LLaMA-Factory's template for a chat model; empty where it is unknown."""
    row, name = _row(model_id), last_part(model_id)
    if row:
        return row.template
    if model_type in MODEL_TYPES:
        return MODEL_TYPES[model_type]
    return next((template for pattern, template in FAMILIES if re.match(_PUBLISHERS + f"({pattern})", name)), "")


def end_of_turn(model_id: str, model_type: str = "") -> str | None:
    """The token that the chat template writes behind an answer; empty for the tokenizer's end token, or where the
    template is unknown; None where it writes none."""
    template = llamafactory_template(model_id, model_type)
    return None if template in NO_END else ENDS_OF_TURN.get(template, "")


def _row(model_id: str) -> Listed | None:
    """By its id, by its name, or by the name that it is a copy of."""
    name = last_part(model_id)
    names = (model_id.strip().removesuffix(":whole").lower(), name, COPY.sub("", name))
    return next((listed()[each] for each in names if each in listed()), None)
