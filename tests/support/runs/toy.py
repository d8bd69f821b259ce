"""Toy models whose numbers can be worked out by hand, and a toy card."""

from dataclasses import replace
from pathlib import Path

from rankviz.catalog.hardware import load_assumptions
from rankviz.core.cost.setup import Gpu, Price
from rankviz.core.lora.plan import Adapted
from rankviz.core.model.spec import LinearLayer, ModelSpec
from rankviz.core.quantity import Range

ASSETS = Path(__file__).parents[3] / "assets"
SHIPPED = load_assumptions(ASSETS)
WORKSPACE = next(row for row in SHIPPED if row.id == "cublas-workspace-bytes")
ASSUMPTIONS = SHIPPED.with_rows([replace(WORKSPACE, value=Range(0.0, 0.0, 0.0))])
"""Without cuBLAS's workspaces, which are a thousand times a toy."""


def layer(path: str, in_features: int, out_features: int, *, part: str = "attention", **more) -> LinearLayer:
    more.setdefault("blocks", (0, 1))
    return LinearLayer(
        path=f"model.layers.{{}}.{path}", in_features=in_features, out_features=out_features, part=part, **more
    )


ATTENTION = (
    layer("self_attn.q_proj", 16, 16),
    layer("self_attn.k_proj", 16, 8),
    layer("self_attn.v_proj", 16, 8),
    layer("self_attn.o_proj", 16, 16),
)
MLP = (
    layer("mlp.gate_proj", 16, 32, part="mlp"),
    layer("mlp.up_proj", 16, 32, part="mlp"),
    layer("mlp.down_proj", 32, 16, part="mlp"),
)
EXPERTS = (
    layer("mlp.experts.gate_up_proj", 16, 16, part="mlp", kind="experts", num_experts=4),
    layer("mlp.experts.down_proj", 8, 16, part="mlp", kind="experts", num_experts=4),
)
EMBEDDING = LinearLayer(path="model.embed_tokens", in_features=100, out_features=16, kind="embedding", part="embedding")


def model(layers: tuple[LinearLayer, ...] = (*ATTENTION, *MLP), **more) -> ModelSpec:
    """16 wide, 2 blocks, a vocabulary of 100 with tied embeddings (1,600) and 80 weights in norms."""
    fields = {
        "id": "toy/toy-16",
        "name": "Toy 16",
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "tower": "text",
        "total_parameters": sum(each.parameters for each in layers) + 1680,
        "unquantized_parameters": 1680,
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "intermediate_size": 32,
        "vocab_size": 100,
        "tie_word_embeddings": True,
        "config_ties": True,
        "layers": (EMBEDDING, *layers),
        "input_embedding": "model.embed_tokens",
    }
    return ModelSpec(**{**fields, **more})


def adapted(spec: ModelSpec, *names: str) -> list[Adapted]:
    """The layers with these names, each with its adapter in every block."""
    return [
        Adapted(layer=each, blocks=each.blocks, module=each.path, rank_factor=each.num_experts)
        for each in spec.layers
        if each.name in names
    ]


TOY = model()
TOY_MOE = model((*ATTENTION, *EXPERTS), id="toy/toy-moe", num_experts=4, num_experts_per_tok=2)


def gpu(**more) -> Gpu:
    fields = {
        "id": "toy-card",
        "name": "Toy card",
        "memory_bytes": 24 * 10**9,
        "usable_bytes": 22 * 2**30,
        "usable_source": "made up",
        "bf16_flops_per_second": 1e14,
        "fp16_flops_per_second": None,
        "flops_source": "made up",
        "bandwidth_bytes_per_second": 1e12,
        "supports_bf16": True,
        "utilisation_group": "a100",
        "prices": (Price(usd_per_hour=3.6, provider="Toy cloud", source="made up", checked="2026-11-25"),),
    }
    return Gpu(**{**fields, **more})
