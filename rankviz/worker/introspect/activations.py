"""Measures the bytes per token that each block keeps in training, from transformers' classes without weights.

The model is cut to its first blocks (core.model.periods), built on the meta device with everything frozen and no
adapter, and run for one row and for two: what a second row adds is per token. Twice each: a forward pass in which
autograd says what it saves (saved_tensors_hooks), and a step with checkpointing in which every tensor alive is
counted, block by block of the backward pass. Three ways: bf16, bf16 under the Trainer's autocast, and fp32.

Attention is fused and without a mask, experts run as transformers runs them unless told otherwise (grouped_mm), linear
attention as it runs it without optional kernels, which hold less. What is alive only inside the model but outside its
blocks isn't counted. Where a model can't be run without data there is no answer, nor for one with Mamba blocks: without
its kernels Mamba-2 makes a state for each pair of positions of a chunk, 8 MB a token in Nemotron 3 Nano, and nobody
trains so. The formulas of core.cost.memory.blocks then go without.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from rankviz.core.model.activations import ActivationBytes
from rankviz.core.model.json import encode_blocks
from rankviz.core.model.periods import Periods, periods
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import BadConfigError
from rankviz.worker.introspect.build import build, cut_config
from rankviz.worker.introspect.gpu_on_meta import GpuOnMeta
from rankviz.worker.introspect.live_bytes import LiveBytes

LENGTH = 256
"""Tokens of a row: a few chunks of chunked linear attention. Twice as many change its bytes a token by 0.1 %, others'
not at all."""
WAYS = {"bf16": (torch.bfloat16, False), "autocast": (torch.bfloat16, True), "fp32": (torch.float32, False)}
UNMASKED = "fused_without_mask"
"""transformers' SDPA under a name for which it makes no mask."""


def block_activations(
    config: Mapping[str, Any], model: ModelSpec, *, seconds: float = math.inf
) -> list[dict[str, Any]]:
    """Rows of ModelSpec.activation_bytes_per_token as JSON; none where the model can't be run without data, or where
    that takes more than `seconds`."""
    AttentionInterface.register(UNMASKED, sdpa_attention_forward)
    pattern = periods(model)
    depth = min(pattern.blocks, pattern.prefix + 2 * pattern.period)
    cut, path, end = cut_config(config, depth), _blocks_path(model), time.monotonic() + seconds
    try:
        ways = {name: _CutModel(cut, path, *way, end).bytes_per_token(pattern) for name, way in WAYS.items()}
    except Exception:
        # Any architecture may ask for data in its own way, and an estimate without these figures is still one.
        return []
    groups: dict[tuple[ActivationBytes, ...], list[int]] = {}
    for block in range(pattern.blocks):
        # The second period, since what all blocks share is saved by the first that reads it.
        repeated = pattern.prefix + pattern.period + (block - pattern.prefix) % pattern.period
        at = block if block < pattern.prefix or repeated >= depth else repeated
        groups.setdefault(tuple(each[at] for each in ways.values()), []).append(block)
    return [_row(encode_blocks(blocks), dict(zip(ways, each, strict=True))) for each, blocks in groups.items()]


def _row(blocks: str, ways: dict[str, ActivationBytes]) -> dict[str, Any]:
    """Without what says nothing."""
    if ways["autocast"] == ways["bf16"]:
        ways.pop("autocast")
    rows = {
        way: {name: n for name, n in asdict(each).items() if n or name != "own_input"} for way, each in ways.items()
    }
    return {"blocks": blocks, **rows}


def _blocks_path(model: ModelSpec) -> str:
    """Of the list of decoder blocks."""
    paths = Counter(layer.path.split(".{}")[0] for layer in model.layers if layer.blocks and layer.part != "vision")
    return paths.most_common(1)[0][0]


class _CutModel:
    """A model's first blocks, frozen, on the meta device."""

    def __init__(self, config: Mapping[str, Any], path: str, dtype: torch.dtype, autocast: bool, end: float):
        self._model, self._masked = _build(config, dtype)
        if any("Mamba" in type(module).__name__ for module in self._model.modules()):
            raise NotImplementedError("Mamba without its kernels")
        self._model.requires_grad_(False)
        self._model.enable_input_require_grads()
        # What some architectures draw at random between blocks in training needs data; blocks alone train.
        self._model.eval()
        self._blocks = self._model.get_submodule(path).train()
        self._autocast, self._end = autocast, end

    def bytes_per_token(self, pattern: Periods) -> list[ActivationBytes]:
        """Of each block."""
        kept, own, inputs = self._per_token(self._saved)
        # Gradients of the second period are the first one's.
        shown = min(len(kept), pattern.prefix + pattern.period)
        del self._blocks[shown:]
        (fullest,) = self._per_token(self._fullest)
        answers = []
        for block in range(len(kept)):
            most = fullest[block if block < shown else block - pattern.period]
            # Held beyond the block's input, which is its checkpoint, and the gradient of its output, which is as large.
            answers.append(
                ActivationBytes(kept=kept[block], gradients=most + inputs[block] - kept[block], own_input=own[block])
            )
        return answers

    def _per_token(self, measure: Callable[[int], list[list[int]]]) -> list[list[int]]:
        """What a second row adds, over its tokens."""
        one, two = measure(1), measure(2)
        return [[round((b - a) / LENGTH) for a, b in zip(*both, strict=True)] for both in zip(one, two, strict=True)]

    def _saved(self, rows: int) -> list[list[int]]:
        """For each block the bytes that autograd saves of it and of no block before, but for the block's input, then
        that input where it saves it, and that input whether it does or not."""
        known = {tensor.untyped_storage()._cdata for tensor in (*self._model.parameters(), *self._model.buffers())}
        saved: list[dict[int, Any]] = [{} for _ in self._blocks]
        inputs: list[Any] = [None] * len(self._blocks)
        current: list[int] = []

        def enter(block: int, hidden: torch.Tensor) -> None:
            inputs[block] = hidden.untyped_storage()
            current.append(block)

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if current and storage._cdata not in known:
                known.add(storage._cdata)
                saved[current[-1]][storage._cdata] = storage
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            self._forward(rows, enter, lambda block, hidden: current.clear())
        sizes = [{key: storage.nbytes() for key, storage in each.items()} for each in saved]
        own = [each.pop(hidden._cdata, 0) for each, hidden in zip(sizes, inputs, strict=True)]
        return [[sum(each.values()) for each in sizes], own, [hidden.nbytes() for hidden in inputs]]

    def _fullest(self, rows: int) -> list[list[int]]:
        """For each block the most that its backward pass holds beyond what was there when it began."""
        live = LiveBytes()
        live.ignore([*self._model.parameters(), *self._model.buffers()])
        began, most = [0] * len(self._blocks), [0] * len(self._blocks)

        def begins(block: int) -> None:
            ends(block + 1)
            began[block] = live.peak = live.now

        def ends(block: int) -> None:
            if block < len(most):
                most[block] = live.peak - began[block]

        def enter(block: int, hidden: torch.Tensor) -> None:
            if block == 0:
                hidden.register_hook(lambda gradient: ends(0))

        def leave(block: int, hidden: torch.Tensor) -> None:
            hidden.register_hook(lambda gradient: begins(block))

        recompute = {"context_fn": lambda: (nullcontext(), GpuOnMeta(autocast=self._autocast))}
        self._model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False, **recompute})
        with live:
            last = self._forward(rows, enter, leave)
            torch.autograd.backward([last], [torch.empty_like(last)])
        self._model.gradient_checkpointing_disable()
        return [most]

    def _forward(
        self, rows: int, enter: Callable[[int, torch.Tensor], None], leave: Callable[[int, torch.Tensor], None]
    ) -> torch.Tensor:
        """The last hidden states. `enter` and `leave` are told each block and its hidden states, once."""
        arguments = {"input_ids": torch.zeros(rows, LENGTH, dtype=torch.long, device="meta"), "use_cache": False}
        if self._masked:
            # One of its final form, or it would be looked into; fused attention here goes without.
            arguments["attention_mask"] = torch.zeros(1, 1, LENGTH, LENGTH, device="meta")
        with ExitStack() as hooks:
            for number, block in enumerate(self._blocks):

                def before(_module, args, kwargs, number=number):
                    if time.monotonic() > self._end:
                        raise TimeoutError
                    enter(number, args[0] if args else kwargs["hidden_states"])

                def after(_module, _args, output, number=number):
                    leave(number, output[0] if isinstance(output, tuple) else output)

                for handle in (
                    block.register_forward_pre_hook(before, with_kwargs=True),
                    block.register_forward_hook(after),
                ):
                    hooks.callback(handle.remove)
            with GpuOnMeta(autocast=self._autocast):
                return self._model.base_model(**arguments)[0]


def _build(config: Mapping[str, Any], dtype: torch.dtype) -> tuple[Any, bool]:
    """The model, and whether its attention insists on a mask: older classes know attention by their own names alone."""
    try:
        model, masked = build(config, attn_implementation=UNMASKED, dtype=dtype), False
    except BadConfigError:
        model, masked = build(config, attn_implementation="sdpa", dtype=dtype), True
    for module in model.modules():
        if getattr(module, "rope_type", None) in ("dynamic", "longrope"):
            # Which angles these take depends on the positions; how many doesn't.
            module.rope_type = "default"
    return model, masked
