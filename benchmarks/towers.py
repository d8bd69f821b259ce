"""Count what real vision towers hold in training, on a CPU, beside the formula: `python -m benchmarks.towers`.

The shares are the source of the rows vision-tower-bytes of assumptions.json. Towers have random weights, few blocks and
16 x 16 patches (Gemma 4: 18 x 18), in bf16, with and without adapters, CPU autocast and checkpointing.
"""

import importlib
from dataclasses import replace
from itertools import product

import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import AutoConfig

from rankviz.catalog.hardware import load_assumptions
from rankviz.catalog.models import load_model, with_image_processor
from rankviz.core.cost.blocks import Block
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.shapes import model_shape
from rankviz.core.cost.stack import CPU_HABITS, Stack
from rankviz.core.images import image_tower
from rankviz.core.lora.plan import Adapted
from rankviz.paths import ASSETS
from rankviz.worker.introspect.activations import LiveBytes

TOWERS = {
    "Qwen/Qwen3-VL-4B-Instruct": "qwen3_vl.Qwen3VLVisionModel",
    "Qwen/Qwen3.5-4B:whole": "qwen3_5.Qwen3_5VisionModel",
    "google/gemma-3-4b-it:whole": "siglip.SiglipVisionModel",
    "google/gemma-4-31B:whole": "gemma4.Gemma4VisionModel",
    "google/gemma-4-E2B:whole": "gemma4.Gemma4VisionModel",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct:whole": "llama4.Llama4VisionModel",
    "meta-models/Muse-Glimmer-30B": "muse_glimmer.MuseGlimmerVisionModel",
    "mistralai/Ministral-3-3B-Instruct-2512:whole": "pixtral.PixtralVisionModel",
}
"""Class of transformers by catalogue id."""
WAYS = tuple(product((None, torch.bfloat16, torch.float32), (False, True)))
"""(dtype of adapters on all linear layers, None without; autocast)."""


def counted_bytes(model_id: str, depth: int, dtype: torch.dtype | None, autocast: bool, checkpointing: bool) -> tuple:
    """Return the bytes per patch that stay after the forward pass, and the peak of forward and backward pass."""
    name = model_id.removesuffix(":whole").replace("/", "__")
    file = next(each for end in ("full.json", "json") if (each := ASSETS / "configs" / f"{name}.{end}").is_file())
    config = AutoConfig.from_pretrained(file).vision_config
    side = 18 if config.model_type == "gemma4_vision" else 16
    small = {"depth": depth, "num_hidden_layers": depth, "layer_types": ["full_attention"] * depth}
    small |= {"deepstack_visual_indexes": [], "image_size": side * config.patch_size}
    for key, value in small.items():
        if hasattr(config, key):
            setattr(config, key, value)
    config._attn_implementation = "sdpa"
    module, kind = TOWERS[model_id].split(".")
    tower = getattr(importlib.import_module(f"transformers.models.{module}.modeling_{module}"), kind)(config)
    tower.to(torch.bfloat16).requires_grad_(False)
    if checkpointing:
        tower.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    if dtype is not None:
        inside = (n for n, each in tower.named_modules() if isinstance(each, torch.nn.Linear))
        names = sorted(n for n in inside if any(part.isdigit() for part in n.split(".")))
        tower = inject_adapter_in_model(LoraConfig(r=2, target_modules=names), tower)
        for n, each in tower.named_parameters():
            each.data = each.data.to(dtype) if "lora_" in n else each.data
    elements = 3 * config.patch_size**2
    if module in ("qwen3_vl", "qwen3_5", "muse_glimmer"):
        inputs = [torch.randn(side**2, 2 * elements), torch.tensor([[1, side, side]])]
    elif module == "gemma4":
        grid = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy")
        inputs = [torch.rand(1, side**2, elements), torch.stack(grid, -1).reshape(1, side**2, 2)]
    else:
        inputs = [torch.randn(1, 3, side * config.patch_size, side * config.patch_size)]
    inputs[0] = inputs[0].to(torch.bfloat16).requires_grad_()
    live = LiveBytes()
    live.ignore([*tower.train().parameters(), *tower.buffers(), *inputs])
    with live:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = tower(*inputs)[0]
        kept = live.now
        output.float().sum().backward()
    return kept / side**2, live.peak / side**2


def formula_bytes(model_id: str, dtype: torch.dtype | None, autocast: bool, checkpointing: bool) -> tuple:
    """Return kept bytes, gradients and a block's input, each per patch and block."""
    model = with_image_processor(ASSETS, load_model(ASSETS, model_id))
    layers = [each for each in model.layers if each.part == "vision" and each.blocks and dtype is not None]
    tower, carried, _ = image_tower(model, [Adapted(layer=e, blocks=e.blocks, module=e.path) for e in layers])
    width = 4 if dtype is torch.float32 else 2
    habits = replace(CPU_HABITS, on_cpu=False, autocast=autocast, fast_blocks=False, adapter_parameter_bytes=width)
    checkpoints = "hf" if checkpointing else "none"
    setup = TrainingSetup(framework="trl", precision="bf16", max_length=1024, gradient_checkpointing=checkpoints)
    stack = Stack(setup=setup, use_dora=False, assume=load_assumptions(ASSETS), measured_habits=habits)
    block = Block(model_shape(tower, carried).kinds[0], tower, stack)
    return block.kept()[0] / block.tokens, block.gradients() / block.tokens, 2 * tower.hidden_size


def main() -> None:
    for model_id in TOWERS:
        shares = []
        for dtype, autocast in WAYS:
            kept = [counted_bytes(model_id, depth, dtype, autocast, False)[0] for depth in (2, 3)]
            peak = counted_bytes(model_id, 3, dtype, autocast, True)[1]
            one, gradients, entry = formula_bytes(model_id, dtype, autocast, True)
            all_kept, *_ = formula_bytes(model_id, dtype, autocast, False)
            shares += [(kept[1] - kept[0]) / all_kept, peak / (3 * entry + one + gradients)]
        print(f"{model_id}: {min(shares):.2f} to {max(shares):.2f} times the formula", flush=True)


if __name__ == "__main__":
    main()
