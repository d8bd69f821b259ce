"""Measures the bytes per token that each block keeps in training, from transformers' classes without weights."""

import math
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch.autograd.function import FunctionCtx
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from rankviz.core.model.spec import ActivationBytes, ModelSpec, Periods, encode_blocks, periods
from rankviz.errors import BadConfigError
from rankviz.worker.introspect.layers import build, cut_config

# fmt: off
IN_FP32 = {
    "__pow__", "__rpow__", "__rdiv__", "__rtruediv__", "pow", "exp", "expm1", "log", "log1p", "log2", "log10", "rsqrt",
    "reciprocal", "softplus", "layer_norm", "rms_norm", "group_norm", "cosine_similarity", "dist", "logsumexp", "prod",
    "softmax", "log_softmax", "cumprod", "cumsum", "sum", "norm",
}
"""Functions that autocast on CUDA runs in fp32 (ATen/autocast_mode.h of torch 2.13, and operators of the same meaning;
losses and image functions are left out)."""
IN_16_BIT = {
    "__matmul__", "__rmatmul__", "conv1d", "conv2d", "conv3d", "prelu", "addmm", "addmv", "addr", "matmul", "einsum",
    "mm", "mv", "linear", "addbmm", "baddbmm", "bmm", "chain_matmul", "scaled_dot_product_attention",
}
"""Functions that autocast on CUDA runs in 16 bit, from the same header."""
# fmt: on


class FusedAttention(torch.autograd.Function):
    """Attention as fused kernels compute it: saves queries, keys, values, output, and an fp32 per head and token."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        rows, heads, length, _ = query.shape
        output = query.new_empty(rows, length, heads, value.shape[-1]).transpose(1, 2)
        ctx.save_for_backward(query, key, value, output, query.new_empty(rows, heads, length, dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


class GroupedProduct(torch.autograd.Function):
    """Product behind torch.nn.functional.grouped_mm with frozen weights, which does not save its input."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weights)
        return rows.new_empty(rows.shape[0], weights.shape[-1])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weights,) = ctx.saved_tensors
        return gradient.new_empty(gradient.shape[0], weights.shape[1]), None


class GpuOnMeta(TorchFunctionMode):
    """Mode in which functions on the meta device save what they save on a GPU, with or without autocast."""

    def __init__(self, *, autocast: bool):
        super().__init__()
        self._autocast = autocast

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.__name__, kwargs or {}
        if self._autocast and (name in IN_16_BIT or (name in IN_FP32 and kwargs.get("dtype") is None)):
            dtype = torch.bfloat16 if name in IN_16_BIT else torch.float32

            def cast(value: Any) -> Any:
                floating = isinstance(value, torch.Tensor) and value.is_floating_point()
                return value.to(dtype) if floating and value.dtype != torch.float64 else value

            args, kwargs = tuple(map(cast, args)), {key: cast(value) for key, value in kwargs.items()}
        if func is functional.scaled_dot_product_attention:
            return FusedAttention.apply(*args[:3])
        if func is torch._grouped_mm:
            return GroupedProduct.apply(*args[:2])
        if func is functional.dropout:
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Apply the fused dropout kernel, which saves a byte per element."""
    return torch.native_dropout(input, p, True)[0] if training and p else input


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of every storage that an operator makes inside the block, until it is freed."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def ignore(self, tensors: Iterable[torch.Tensor]) -> None:
        """Leave out the storages of these tensors, such as weights made before the block."""
        self._known |= {tensor.untyped_storage()._cdata for tensor in tensors}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage())._cdata not in self._known:
                key, size = storage._cdata, storage.nbytes()
                self._known.add(key)
                self.now += size
                weakref.finalize(storage, self._freed, key, size)
        self.peak = max(self.peak, self.now)
        return result

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


LENGTH = 256
"""Tokens of a row: a few chunks of chunked linear attention. With twice as many, its bytes per token change by 0.1 %,
and the bytes of other blocks do not change."""
WAYS = {"bf16": (torch.bfloat16, False), "autocast": (torch.bfloat16, True), "fp32": (torch.float32, False)}
UNMASKED = "fused_without_mask"
"""Name under which transformers' SDPA is registered here: for unknown names, transformers makes no mask."""


def block_activations(
    config: Mapping[str, Any], model: ModelSpec, *, seconds: float = math.inf
) -> list[dict[str, Any]]:
    """Return rows of ModelSpec.activation_bytes_per_token as JSON; none where the model needs data or too much time."""
    AttentionInterface.register(UNMASKED, sdpa_attention_forward)
    paths = Counter(layer.path.split(".{}")[0] for layer in model.layers if layer.blocks and layer.part != "vision")
    pattern = periods(model)
    depth = min(pattern.blocks, pattern.prefix + 2 * pattern.period)
    cut, path, end = cut_config(config, depth), paths.most_common(1)[0][0], time.monotonic() + seconds
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
    rows = []
    for each, blocks in groups.items():
        row: dict[str, Any] = {"blocks": encode_blocks(blocks)}
        for way, held in zip(ways, each, strict=True):
            if way != "autocast" or held != each[0]:  # else that of bf16
                row[way] = {name: n for name, n in asdict(held).items() if n or name != "own_input"}
        rows.append(row)
    return rows


class _CutModel:
    """A model's first blocks, frozen, on the meta device."""

    def __init__(self, config: Mapping[str, Any], path: str, dtype: torch.dtype, autocast: bool, end: float):
        self._masked = False
        try:
            self._model = build(config, attn_implementation=UNMASKED, dtype=dtype)
        except BadConfigError:  # older classes know attention by their own names alone, and insist on a mask
            self._model, self._masked = build(config, attn_implementation="sdpa", dtype=dtype), True
        for module in self._model.modules():
            if getattr(module, "rope_type", None) in ("dynamic", "longrope"):
                module.rope_type = "default"  # which angles these take depends on the positions; how many doesn't
        if any("Mamba" in type(module).__name__ for module in self._model.modules()):
            raise NotImplementedError("Mamba without its kernels")
        self._model.requires_grad_(False)
        self._model.enable_input_require_grads()
        # What some architectures draw at random between blocks in training needs data; blocks alone train.
        self._model.eval()
        self._blocks = self._model.get_submodule(path).train()
        self._autocast, self._end = autocast, end

    def bytes_per_token(self, pattern: Periods) -> list[ActivationBytes]:
        """Return the bytes per token of each block."""
        kept, own, inputs = self._per_token(self._saved)
        # Gradients of the second period are the first one's.
        shown = min(len(kept), pattern.prefix + pattern.period)
        del self._blocks[shown:]
        (fullest,) = self._per_token(self._fullest)
        # Held beyond the block's input, which is its checkpoint, and the gradient of its output, which is as large.
        most = [*fullest, *(fullest[block - pattern.period] for block in range(shown, len(kept)))]
        return [
            ActivationBytes(kept=k, gradients=m + i - k, own_input=o)
            for k, m, i, o in zip(kept, most, inputs, own, strict=True)
        ]

    def _per_token(self, measure: Callable[[int], list[list[int]]]) -> list[list[int]]:
        """Return the bytes per token that a second row adds. measure: returns lists of bytes for a number of rows."""
        one, two = measure(1), measure(2)
        return [[round((b - a) / LENGTH) for a, b in zip(*both, strict=True)] for both in zip(one, two, strict=True)]

    def _saved(self, rows: int) -> list[list[int]]:
        """Return three lists by block: bytes that autograd saves for the block and for no earlier one, without the
        block's input; bytes of that input where autograd saves it, else 0; bytes of that input in any case."""
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
        """Return by block the most bytes that its backward pass holds beyond those held when it began."""
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
        """Return the last hidden states. Call `enter` and `leave` once per block, with its number and hidden states."""
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

                hooks.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
                hooks.callback(block.register_forward_hook(after).remove)
            with GpuOnMeta(autocast=self._autocast):
                return self._model.base_model(**arguments)[0]
