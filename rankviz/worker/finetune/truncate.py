"""Truncates a trained adapter to lower ranks in place, for a fast curve.

Each module's update B·A is truncated to its first k singular values (trained.read), and the pair of rank k takes the
place of the trained pair in the adapter. PEFT's scale stays what it was, so a few more steps train it at the very scale
of the trained one. A lower rank is made of the next higher one as that was trained, so that it has all of their steps.
"""

from math import sqrt
from pathlib import Path
from typing import Any

import torch

from rankviz.core.spectrum import alpha_for
from rankviz.errors import InvalidSettingError
from rankviz.trained import read
from rankviz.worker.finetune.adapter import save
from rankviz.worker.finetune.base import Base

ADAPTER = "default"


class Truncator:
    """The LoRA pairs of a trained adapter, as they were when this was made."""

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
        self._found = read.decompose(self._pairs)

    def truncate(self, k: int) -> None:
        """Put the rank-k update into the adapter, as factors of rank k."""
        for name, pair in read.truncate_all(self._pairs, self._found, k).items():
            for weight, factor in zip(self._weights[name], pair, strict=True):
                weight.grad = None
                weight.data = torch.from_numpy(factor).to(weight)

    def save(self, k: int, folder: Path, base: Base) -> int:
        """The adapter as it now is, truncated to rank k and perhaps trained on, as PEFT loads one of rank k; returns
        the bytes of its weights."""
        config = self._model.peft_config[ADAPTER]
        scale = config.lora_alpha / (sqrt(config.r) if config.use_rslora else config.r)
        return save(self._model, folder, base, r=k, lora_alpha=alpha_for(scale, k, use_rslora=config.use_rslora))
