"""Questions about a wide toy, and what is decided on a card."""

from rankviz.core.cost.setup import Price
from rankviz.core.fit.changes import setting
from rankviz.core.fit.decide import decide
from rankviz.core.quantity import Range
from tests.support.runs import questions
from tests.support.runs.toy import ASSUMPTIONS, gpu, layer, model

WIDE = model(
    (
        layer("self_attn.q_proj", 2048, 2048),
        layer("self_attn.k_proj", 2048, 512),
        layer("self_attn.v_proj", 2048, 512),
        layer("self_attn.o_proj", 2048, 2048),
        layer("mlp.gate_proj", 2048, 8192, part="mlp"),
        layer("mlp.up_proj", 2048, 8192, part="mlp"),
        layer("mlp.down_proj", 8192, 2048, part="mlp"),
    ),
    hidden_size=2048,
    intermediate_size=8192,
    num_attention_heads=16,
    num_key_value_heads=4,
    head_dim=128,
    vocab_size=32_000,
    id="toy/wide",
)
"""Wide enough for activations and adapters to count beside the CUDA context."""


def question(**more):
    training = {"max_steps": 10, "gradient_checkpointing": "hf", "framework": "trl", **more.pop("training", {})}
    return questions.question(**{"model_id": "toy/wide", "target_modules": "all-linear", **training} | more)


def on(question, card, spec=WIDE, gpus=None, prices=None):
    return decide(spec, question, card, gpus or (card,), ASSUMPTIONS, prices)


def needs(question, spec=WIDE) -> Range:
    """The band around nvidia-smi's figure, on a card with room to spare."""
    return setting(spec, question, gpu(usable_bytes=2**40), ASSUMPTIONS).row.memory.device_band


def card_for(question, **more):
    """A card that surely holds this, to the byte."""
    return gpu(usable_bytes=int(needs(question).high) + 1, **more)


def limit_of(decided, option):
    return next(limit for limit in decided.limits if limit.option == option)


def knob_of(decided, **change):
    return next(knob for knob in decided.knobs if dict(knob.change) == change)


def priced(usd_per_hour):
    return Price(usd_per_hour=usd_per_hour, provider="Toy cloud", source="made up", checked="2026-11-25")
