"""Puts an adapter on the base as Unsloth does, and takes it off again. Importing this module imports Unsloth."""

from collections.abc import Sequence
from typing import Any

import unsloth

# isort: split
from peft import PeftModel

from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.runs.request import RunRequest
from rankviz.worker.finetune.adapter import unsloth_arguments
from rankviz.worker.settings import Settings


def attach(model: Any, request: RunRequest, plan: AdapterPlan, settings: Settings, left_out: Sequence[str] = ()) -> Any:
    """A fresh adapter on the base, as Unsloth puts it there. left_out: paths of towers without one."""
    return getattr(unsloth, request.lora.unsloth_class).get_peft_model(
        model,
        r=request.lora.r,
        lora_alpha=request.lora.lora_alpha,
        **unsloth_arguments(request.lora, plan, left_out),
        lora_dropout=0,
        bias="none",
        use_rslora=request.lora.use_rslora,
        use_dora=request.lora.use_dora,
        use_gradient_checkpointing=settings.gradient_checkpointing,
        random_state=request.seed,
        max_seq_length=request.training.max_length,
    )


def detach(adapter: PeftModel) -> Any:
    """Take the adapter off: PEFT puts the base's own layers back where it had wrapped them."""
    model = adapter.unload()
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model


class Hooks:
    """The forward hooks of a model as it was loaded. Each get_peft_model adds some to the input embedding (gradients
    must reach the checkpointed blocks), which PEFT's unload leaves there."""

    def __init__(self, model: Any):
        self._kept = {module: set(module._forward_hooks) | set(module._forward_pre_hooks) for module in model.modules()}

    def restore(self) -> None:
        """Remove what was added since."""
        for module, kept in self._kept.items():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key in [key for key in hooks if key not in kept]:
                    del hooks[key]
