"""Decides which attention kernel runs in a block, as torch, transformers and Unsloth do. Memory and time ask here.

Read in torch 2.13 (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp, sdp_utils_cpp.h), transformers 5.17
(integrations/sdpa_attention.py, masking_utils.py, the models' own _supports_sdpa) and unsloth 2026.10.9
(utils/attention_dispatch.py; unsloth_zoo temporary_patches/sdpa_gqa.py). From torch 2.14 on the memory-efficient kernel
takes grouped keys too (pytorch pull request 191085), and `math` becomes `efficient` on cards without flash. Left out:
CPUs, where no kernel holds a matrix.
"""

from functools import partial
from typing import Literal, NamedTuple

from rankviz.core.cost.data import pads
from rankviz.core.cost.shapes import BlockKind, ModelShape
from rankviz.core.cost.stack import Stack
from rankviz.core.model.spec import ModelSpec

Kernel = Literal["flash", "cudnn", "efficient", "flex", "math", "eager"]
MATRIX_KERNELS = ("math", "eager")
"""Those that hold the attention matrix, length × length for each query head."""
# fmt: off
SINKS = ("deepseek_v4", "gpt_oss", "granite_swa", "granitemoe_swa", "hy_v4", "mimo_v2_flash")
"""model_types with attention sinks."""
WITHOUT_SDPA = (
    *SINKS, "bloom", "codegen", "cpmant", "gpt_neo", "gpt_neox_japanese", "gptj", "mpt", "openai-gpt", "xglm",
)
"""model_types for which transformers has no SDPA and runs eager attention (no _supports_sdpa in their classes)."""
# fmt: on
WITHOUT_FLASH = (
    *("bloom", "codegen", "deepseek_v32", "deepseek_v4", "glm_moe_dsa", "gpt_neox_japanese", "hy_v4", "llama4"),
    *("minimax_m3_vl", "mpt", "qwen4_exp", "xglm"),
)
"""Beginnings of model_types that transformers does not load with FlashAttention 2 (no _supports_flash_attn)."""
BROADCASTS_KEYS = ("falcon",)
"""model_types that hand SDPA their one key head as it is, beside a mask that is always made (modeling_falcon.py)."""
LATENT = ("deepseek_v2", "deepseek_v3")
"""model_types whose keys are wider than their values, which torch's flash kernel refuses."""
CAPS_SCORES = ("gemma2",)
"""model_types with a soft cap on their scores. Eager attention alone applies it: SDPA in transformers leaves it out."""
UNSLOTH_FLEX_SINKS = ("gpt_oss",)
"""Those of SINKS that Unsloth gives flex attention (unsloth_zoo/temporary_patches/gpt_oss.py)."""
UNSLOTH_EAGER = ("deepseek_v4", "gemma3n")
"""How the model_types begin that Unsloth loads with eager attention (models/_utils.py, _EAGER_ONLY_PREFIXES)."""
WIDEST_FLASH = 256
"""Elements of a head in torch's flash kernel, in FlashAttention 2, and in transformers' bound for grouped keys."""
WIDEST_CUDNN = 128


class Attention(NamedTuple):
    """How one kind of block attends."""

    kernel: Kernel
    expanded: bool = False
    """Keys and values are copied to every query head first."""
    masked: bool = False
    """A mask is made, length × length for each example."""

    @property
    def holds_matrix(self) -> bool:
        return self.kernel in MATRIX_KERNELS


def attention_of(kind: BlockKind, model: ModelSpec, stack: Stack) -> Attention:
    """The kernel that a kind of block runs; blocks that do not attend count as flash, which holds nothing."""
    setup, habits = stack.setup, stack.habits
    grouped = key_heads(kind, model) < model.num_attention_heads
    masked = _padded(model, stack) or _beyond_window(kind, model, stack) or model.model_type in BROADCASTS_KEYS
    if not kind.attention_width or habits.on_cpu:
        return Attention("flash")
    if habits.own_models and setup.attn_implementation == "sdpa":
        return Attention("eager" if model.model_type in CAPS_SCORES else "flash")
    if setup.attn_implementation == "eager":
        return Attention("eager", grouped, True)
    if setup.attn_implementation == "flash":
        return Attention("flash")
    if model.model_type in UNSLOTH_FLEX_SINKS and habits.unsloth_kernels:
        return Attention("flex")
    unsloth_eager = model.model_type.startswith(UNSLOTH_EAGER) or caps_compiled(model, stack)
    if model.model_type in WITHOUT_SDPA or (habits.unsloth_kernels and unsloth_eager):
        return Attention("eager", grouped, True)
    sdpa = partial(_sdpa, stack, head_dim(kind, model), masked=masked, uneven=model.model_type in LATENT)
    if model.model_type in BROADCASTS_KEYS and key_heads(kind, model) == 1:
        return Attention("math", masked=True)
    if habits.unsloth_kernels:
        copied = grouped and sdpa(grouped=True) == "math"
    else:
        copied = grouped and (masked or head_dim(kind, model) > WIDEST_FLASH or habits.copies_keys)
    return Attention(sdpa(grouped=grouped and not copied), copied, masked)


def caps_compiled(model: ModelSpec, stack: Stack) -> bool:
    """Whether Unsloth's own blocks cap the scores in a compiled function that holds the matrix: always without
    flash-attn, since its flex attention is off (kernels/flex_attention.py, slow_attention_softcapping)."""
    habits = stack.habits
    return model.model_type in CAPS_SCORES and habits.unsloth_kernels and habits.fast_blocks


def head_dim(kind: BlockKind, model: ModelSpec) -> int:
    """Elements of a head; 0 in blocks that do not attend."""
    return kind.attention_width // model.num_attention_heads


def key_heads(kind: BlockKind, model: ModelSpec) -> int:
    """Heads of keys and values. Falcon's config.json names as many as query heads where its weights have one."""
    width = head_dim(kind, model)
    if model.model_type not in BROADCASTS_KEYS or not width:
        return model.num_key_value_heads
    return (kind.attention - 2 * kind.attention_width) // (2 * width)


def heaviest(model: ModelSpec, shape: ModelShape, stack: Stack) -> Attention | None:
    """The kernel of the blocks that hold most for it; None where no block attends."""
    order = ("flash", "cudnn", "flex", "efficient", "math", "eager")
    each = [attention_of(kind, model, stack) for kind in shape.kinds if kind.attention_width]
    return max(each, key=lambda attention: order.index(attention.kernel), default=None)


def _padded(model: ModelSpec, stack: Stack) -> bool:
    """Whether the batches at the peak hold padding, and so come with a mask."""
    setup = stack.setup
    return setup.mixes_lengths and pads(setup.framework, model)


def _beyond_window(kind: BlockKind, model: ModelSpec, stack: Stack) -> bool:
    """transformers makes a mask from the window's own length on (masking_utils.py, _ignore_causal_mask_sdpa); the
    kernels of Unsloth's own families take the window itself, its other families have the mask at any length
    (unsloth_zoo/temporary_patches/misc.py: only the compiled create_causal_mask is left out where it can be)."""
    own = stack.habits.unsloth_kernels and stack.habits.fast_blocks
    within = stack.setup.max_length < (model.sliding_window or 0) and not stack.habits.unsloth_kernels
    return not own and kind.sliding and bool(model.sliding_window) and not within


def _sdpa(stack: Stack, width: int, *, masked: bool, grouped: bool, uneven: bool) -> Kernel:
    """What torch.nn.functional.scaled_dot_product_attention chooses.

    width: elements of a head. grouped: enable_gqa. uneven: keys are wider than values. Unsloth's own families train
    without cuDNN on cards of compute capability 10 (utils/attention_dispatch.py, _NO_CUDNN_TRAINING).
    """
    sm, half = stack.compute_capability, stack.attention_bytes == 2
    cudnn = 9 <= sm < 11 and not (sm >= 10 and stack.habits.unsloth_kernels and stack.habits.fast_blocks)
    if half and cudnn and width <= WIDEST_CUDNN and width % 8 == 0:
        return "cudnn"
    # no backward pass between these widths with the shared memory of such cards
    lacks_room = (8.6 <= sm <= 8.9 or sm >= 12) and 192 < width <= 224
    if half and sm >= 8 and not masked and not uneven and width <= WIDEST_FLASH and not lacks_room:
        return "flash"
    aligned = width % (8 if half and sm >= 7 else 4 if sm >= 8 else 1) == 0
    return "efficient" if aligned and not grouped else "math"
