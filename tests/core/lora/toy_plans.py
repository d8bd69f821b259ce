"""Toy models for adapters, and the plan of one."""

from dataclasses import replace

from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import LinearLayer, ModelSpec
from tests.support.runs.toy import ATTENTION, EXPERTS, MLP, layer, model

HEAD = LinearLayer(path="lm_head", in_features=16, out_features=100, kind="lm_head", part="head")
WITH_HEAD = model((*ATTENTION, *MLP, HEAD), output_embedding="lm_head", total_parameters=10_000)
UNTIED = replace(WITH_HEAD, tie_word_embeddings=False, config_ties=False, id="toy/untied")
ROUTER = layer("mlp.gate.weight", 16, 4, part="other", kind="router")
SHARED = tuple(replace(each, path=each.path.replace("mlp.", "mlp.shared_expert.")) for each in MLP)
REMAPPED = model(
    (*ATTENTION, ROUTER, *EXPERTS, *SHARED),
    id="toy/remapped",
    num_experts=4,
    num_experts_per_tok=2,
    peft_remap="qwen2_moe",
)


def plan_of(spec: ModelSpec, targets="unsloth", framework="peft", **settings) -> AdapterPlan:
    return resolve(spec, LoraConfig(target_modules=targets, **settings), framework)
