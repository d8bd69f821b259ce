"""One training step of a small Llama with a LoRA, in torch and as RankViz's formulas have it."""

from dataclasses import replace

from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.stack import CPU_HABITS, Stack
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.resolve import resolve
from tests.support.runs.toy import ASSUMPTIONS, layer
from tests.support.runs.toy import model as toy_model

HIDDEN, QUERIES, KEYS, MLP, BLOCKS = 64, 128, 32, 192, 3
BATCH, LENGTH = 64, 32
QV = ("q_proj", "v_proj")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
SEVEN = (*ATTENTION, "gate_proj", "up_proj", "down_proj")

PROGRAMS = {
    name: {"habits": replace(CPU_HABITS, **habits), "precision": precision}
    for name, precision, habits in (
        ("autocast, output held", "bf16", {"autocast": True, "holds_logits": True}),
        ("autocast, output dropped", "bf16", {"autocast": True}),
        ("no autocast, fp32 adapter", "bf16", {"holds_logits": True}),
        ("no autocast, bf16 adapter", "bf16", {"holds_logits": True, "adapter_parameter_bytes": 2}),
        ("all fp32", "fp32", {"holds_logits": True}),
    )
}


def run_step(watch, *, habits, precision, targets, checkpointing, vocab, blocks=BLOCKS):
    """Forward and backward inside `watch`, a torch dispatch mode. It ignores the tensors that were there before."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=MLP,
        vocab_size=vocab,
        use_cache=False,
    )
    base = LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    base = base.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    train_once(watch, base, habits=habits, targets=targets, checkpointing=checkpointing)


def train_once(watch, base, *, habits, targets, checkpointing):
    """Wrap the base with a LoRA and take the step."""
    import torch
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    if checkpointing != "none":
        base.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        base.enable_input_require_grads()
    model = get_peft_model(
        base, PeftConfig(r=2, target_modules=list(targets)), autocast_adapter_dtype=habits.adapter_parameter_bytes == 4
    ).train()
    ids = torch.randint(0, base.config.vocab_size, (BATCH, LENGTH))
    watch.ignore([*model.parameters(), *model.buffers(), ids])
    with watch:
        with torch.autocast("cpu", torch.bfloat16, enabled=habits.autocast):
            output = model(input_ids=ids, labels=ids)
        loss = output.loss
        if not habits.holds_logits:
            del output
        loss.backward()


def formula_inputs(*, habits, precision, targets, checkpointing, vocab, blocks=BLOCKS):
    """The same model, plan and stack for the formulas."""
    in_blocks = {"blocks": tuple(range(blocks))}
    shapes = {"q": (HIDDEN, QUERIES), "k": (HIDDEN, KEYS), "v": (HIDDEN, KEYS), "o": (QUERIES, HIDDEN)}
    attention = [layer(f"self_attn.{name}_proj", *shape, **in_blocks) for name, shape in shapes.items()]
    shapes = {"gate": (HIDDEN, MLP), "up": (HIDDEN, MLP), "down": (MLP, HIDDEN)}
    mlp = [layer(f"mlp.{name}_proj", *shape, part="mlp", **in_blocks) for name, shape in shapes.items()]
    spec = toy_model(
        (*attention, *mlp), hidden_size=HIDDEN, vocab_size=vocab, num_hidden_layers=blocks, num_attention_heads=4
    )
    return spec, *adapted(spec, habits, precision, targets, checkpointing)


def adapted(spec, habits, precision, targets, checkpointing):
    """Plan and stack of the step on a model."""
    plan = resolve(spec, LoraConfig(target_modules=targets), "peft")
    setup = TrainingSetup(
        framework="trl",
        precision=precision,
        per_device_train_batch_size=BATCH,
        max_length=LENGTH,
        gradient_checkpointing=checkpointing,
        loss_path="full",
    )
    return plan, Stack(setup=setup, use_dora=False, assume=ASSUMPTIONS, measured_habits=habits)
