"""The adapter of a run in the arguments of PEFT and Unsloth, from its plan; its files as PEFT loads them; and the
adapter truncated in place. Importing this module imports neither torch, PEFT nor Unsloth."""

import json
import re
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.spectrum import alpha_for
from rankviz.errors import InvalidSettingError
from rankviz.trained import svd
from rankviz.worker.base import Base


def peft_arguments(lora: LoraConfig, plan: AdapterPlan) -> dict[str, Any]:
    """Return the modules of the plan as PEFT's LoraConfig takes them."""
    modules = plan.target_modules
    arguments: dict[str, Any] = {"target_modules": modules if isinstance(modules, str) else list(modules)}
    if plan.target_parameters:
        arguments["target_parameters"] = list(plan.target_parameters)
    if plan.modules_to_save:
        arguments["modules_to_save"] = list(plan.modules_to_save)
    return arguments | plan.patterns(lora)


def with_peft_adapter(model: Any, lora: LoraConfig, plan: AdapterPlan) -> Any:
    """Attach the adapter of the plan by PEFT alone."""
    import peft  # not above: runs import Unsloth before PEFT

    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=0,
        bias="none",
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        task_type="CAUSAL_LM",
        **peft_arguments(lora, plan),
    )
    return peft.get_peft_model(model, config)


def unsloth_arguments(lora: LoraConfig, plan: AdapterPlan, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """Return the modules of the plan as Unsloth's get_peft_model takes them, with its flags.

    left_out: paths of towers that no target name may reach (PEFT's exclude_modules).

    On a GPU Unsloth adds the experts by itself, unless it is told of no parameters. Its CPU backend leaves PEFT's own
    rewrite of experts on, and runs and probes there take no other MoE scheme. tests/worker/finetune/test_experts.py
    compares what is trained with what is counted.
    """
    arguments = peft_arguments(lora, plan) | plan.unsloth_flags
    if plan.route.kind == "model" and plan.scheme == "linear-only":
        arguments["target_parameters"] = []
    if left_out:
        arguments["exclude_modules"] = rf"({'|'.join(map(re.escape, left_out))})(\..*)?"
    return arguments


def save(adapter: Any, folder: Path, base: Base, **changed: Any) -> int:
    """Write the adapter's files and return the bytes of its weights.

    PEFT names the base in two of them by where it was loaded from, which for the embedded model is a folder of this
    machine. changed: values of adapter_config.json that are not the model's own.
    """
    adapter.save_pretrained(folder)
    config, card = folder / "adapter_config.json", folder / "README.md"
    values = json.loads(config.read_text(encoding="utf-8")) | changed
    if base.published_as:
        values["base_model_name_or_path"] = base.published_as
        card.write_text(card.read_text(encoding="utf-8").replace(base.name, base.published_as), encoding="utf-8")
    config.write_text(json.dumps(values, indent=2, sort_keys=True), encoding="utf-8")
    return (folder / "adapter_model.safetensors").stat().st_size


ADAPTER = "default"


class Truncator:
    """The LoRA pairs of a trained adapter as they were when this was made, to truncate it in place.

    Each module's update B·A is truncated to its first k singular values (trained.svd), and the pair of rank k takes the
    place of the trained pair in the adapter. PEFT's scale stays what it was, so a few more steps train it at the very
    scale of the trained one. A lower rank is made of the next higher one as that was trained, so that it has all of
    their steps.
    """

    def __init__(self, model: Any):
        self._model = model
        layers = {name: layer for name, layer in model.named_modules() if ADAPTER in getattr(layer, "lora_A", {})}
        if not layers:
            raise InvalidSettingError("This adapter cannot be truncated: it has no B·A on linear layers.")
        self._weights = {
            name: (layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight) for name, layer in layers.items()
        }
        self._pairs = {
            # Copies: training on goes through the very tensors.
            name: tuple(weight.detach().float().cpu().clone().numpy() for weight in pair)
            for name, pair in self._weights.items()
        }
        self._decompositions = svd.decompose(self._pairs)

    def truncate(self, k: int) -> None:
        """Put the rank-k update into the adapter, as factors of rank k."""
        import torch

        for name, pair in svd.truncate_all(self._pairs, self._decompositions, k).items():
            for weight, factor in zip(self._weights[name], pair, strict=True):
                weight.grad = None
                weight.data = torch.from_numpy(factor).to(weight)

    def save(self, k: int, folder: Path, base: Base) -> int:
        """Save the adapter as it now is, truncated to rank k and perhaps trained on, as PEFT loads one of rank k.

        Returns the bytes of its weights."""
        config = self._model.peft_config[ADAPTER]
        scale = config.lora_alpha / (sqrt(config.r) if config.use_rslora else config.r)
        return save(self._model, folder, base, r=k, lora_alpha=alpha_for(scale, k, use_rslora=config.use_rslora))
