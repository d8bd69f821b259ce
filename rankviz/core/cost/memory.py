"""Estimates the memory of a LoRA training step: the base's weights as each program loads them, and the peak."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from operator import mul
from typing import Literal, NamedTuple, get_args

from rankviz.core.cost.blocks import Block, checkpoint_bytes, held_logits_bytes, loss_moments, mask_bytes
from rankviz.core.cost.shapes import ModelShape, caps_compiled
from rankviz.core.cost.stack import Litgpt, Stack
from rankviz.core.lora.config import QUANTIZED
from rankviz.core.lora.resolve import LEFT_IN_16_BIT
from rankviz.core.lora.targets import has_split_file
from rankviz.core.model.spec import LinearLayer, ModelSpec, PlainModule
from rankviz.core.quantity import Range

FP32_NORMS = (
    *("gemma3", "gemma4", "gpt_oss", "granitemoehybrid", "muse_glimmer", "olmo2", "olmo3", "qwen3_5", "qwen3_next"),
)
"""Beginnings of model_types whose norms Unsloth keeps in fp32: by name in models/loader.py
(UNSLOTH_HIGH_PRECISION_LAYERNORM), or because they multiply in fp32 (unsloth_zoo/compiler.py)."""
FUSED_IN_FILES = ("gemma4", "gpt_oss", "llama4", "qwen3_5_moe", "qwen3_vl_moe")
"""Beginnings of model_types whose checkpoints store experts as fused tensors; others have a tensor for each expert."""
KEPT_IN_16_BIT = ("lm_head", *LEFT_IN_16_BIT, "score", "classifier", "qa_outputs")
"""Names in a module's path that keep the module from being quantized under Unsloth, instead of transformers' own list
(unsloth_zoo/peft_utils.py, SKIP_QUANTIZATION_MODULES; patching_utils.py, _unsloth_should_convert_module)."""
ALSO_KEPT_IN_16_BIT = {
    "nemotron_h": ("out_proj",),
    "mamba": ("dt_proj",),
    "longcat_flash": ("q_b_proj", "kv_b_proj"),
    "longcat_flash_lsa": ("q_b_proj", "kv_b_proj"),
    "kimi_linear": ("self_attention_res_proj", "mlp_res_proj", "output_attn_res_proj"),
    "gemma3n": ("correction_coefs", "prediction_coefs", "altup_projections", "altup_unembed_projections"),
}
"""Further names that Unsloth does not quantize, by model_type (models/vision.py, _architecture_skip_modules)."""
SLICED_FROM = 2**31
"""Number of weights from which Unsloth quantizes fused experts in slices, without double quantization
(unsloth_zoo/temporary_patches/moe_utils_bnb4bit.py, _quantize_expert_stack_in_slices)."""
Component = Literal["towers", "linears", "experts", "embeddings", "head", "rest"]
"""Parts of a loaded base. "towers": all outside the text model, projectors included. "rest": norms, biases, routers
that are not linear layers, and other small tensors."""


def base_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> int:
    """Bytes of the frozen weights, except under Unsloth (unsloth_bytes), as a checkpoint stores them: quantized weights
    at their width, the rest (embeddings, head, norms) in 16 bit or, after PEFT's k-bit preparation, in fp32. NF4: 4
    bits a weight and an fp32 maximum for each 64 weights; double quantization stores the maximum in 8 bits
    (bitsandbytes functional.quantize_4bit). int8: an fp32 scale for each output row. MLX: groups of 64 with a scale and
    a bias, also in embeddings and experts (mlx nn/layers/quantized.py)."""
    setup, habits = stack.setup, stack.habits
    total, table = model.total_parameters, model.vocab_size * model.hidden_size
    total += table if habits.litgpt and model.tie_word_embeddings else 0
    if not setup.quantized:
        return total * stack.compute_bytes
    if habits.mlx:
        tied = {"lm_head"} if model.tie_word_embeddings else set()
        packed = sum(each.parameters for each in model.layers if each.kind not in {"router", "conv", *tied})
        width = stack.assume.value(f"weight-bytes-mlx-{8 if setup.precision == 'int8' else 4}bit")
        return round(packed * width) + stack.compute_bytes * (total - packed)
    experts = sum(layer.parameters for layer in model.layers if layer.kind == "experts")
    left_alone = model.unquantized_parameters - (experts if habits.quantizes_experts else 0)
    if habits.litgpt and habits.litgpt.quantizes_head:
        linear = sum(each.parameters for each in model.layers if each.kind in ("linear", "conv1d", "experts"))
        left_alone = max(0, model.total_parameters - linear - (0 if model.tie_word_embeddings else table))
    quantized = total - left_alone
    width = habits.weight_bytes or stack.assume.value(f"weight-bytes-{setup.precision}")
    scales = 4 * shape.linear_rows if setup.precision == "int8" else 0
    return round(quantized * width) + scales + left_alone * (4 if habits.raised == "all" else stack.compute_bytes)


def unsloth_bytes(model: ModelSpec, stack: Stack) -> Mapping[Component, int]:
    """Bytes of the frozen weights by component as Unsloth loads them (`make test-counts` compares with its loader).
    Quantized layers are counted tensor by tensor, because each tensor's maxima are rounded up to whole blocks."""
    habits = stack.habits
    ways = habits.quantizes_experts, habits.one_expert_at_a_time
    return _unsloth_bytes(model, stack.setup.precision, stack.compute_bytes, *ways)


@lru_cache(maxsize=256)
def _unsloth_bytes(
    model: ModelSpec, precision: str, kept: int, quantizes_experts: bool, one_expert_at_a_time: bool
) -> Mapping[Component, int]:
    # A file with a tensor for each quantized expert is rebuilt into stacks whose maxima are in fp32
    # (unsloth_zoo/temporary_patches/moe_utils_bnb4bit.py).
    fetched = model.unsloth_checkpoint
    rebuilt = fetched and fetched.quantized and not has_split_file(model)

    def copy_bytes(layer: LinearLayer) -> int:
        weights = _weights(layer)
        packed = quantizes_experts if layer.kind == "experts" else is_quantized(model, layer)
        if precision not in QUANTIZED or not packed:
            return kept * weights
        if precision == "int8":
            return weights + 4 * layer.out_features
        stacked = layer.kind == "experts" and not one_expert_at_a_time
        return nf4_bytes(weights, nested=not (stacked and (weights >= SLICED_FROM or rebuilt)))

    parts: dict[Component, int] = dict.fromkeys(get_args(Component), 0)
    counted = 0
    for layer in model.layers:
        if layer.kind == "lm_head" and model.tie_word_embeddings:
            continue
        parts[component_of(layer)] += layer.count * copy_bytes(layer)
        counted += layer.parameters
    small = sum(layer.count * layer.out_features for layer in model.layers if layer.bias and layer.part == "vision")
    for module in model.plain_modules:
        raised = fp32_tensors(model, module, four_bit=precision == "nf4-dq")
        copies = len(module.blocks) or 1
        parts["towers" if module.part == "vision" else "rest"] += (4 - kept) * copies * raised
        if module.part == "vision":
            small += copies * module.parameters
    parts["towers"] += kept * small
    parts["rest"] += kept * (model.total_parameters - counted - small)
    return parts


def component_of(layer: LinearLayer) -> Component:
    """Return the part of the loaded base that a layer belongs to."""
    if layer.part == "vision":
        return "towers"
    named: dict[str, Component] = {"experts": "experts", "embedding": "embeddings", "lm_head": "head", "router": "rest"}
    return named.get(layer.kind, "linears")


def _weights(layer: LinearLayer) -> int:
    return layer.num_experts * layer.in_features * layer.out_features


def nf4_bytes(weights: int, *, nested: bool) -> int:
    """Bytes of one tensor in NF4: half a byte per weight, and an fp32 maximum per 64 weights. nested: Double
    quantization: maxima in 8 bit, an fp32 one per 256 of them (bitsandbytes functional.quantize_4bit)."""
    maxima = -(-weights // 64)
    return -(-weights // 2) + (maxima + 4 * -(-maxima // 256) if nested else 4 * maxima)


def is_quantized(model: ModelSpec, layer: LinearLayer) -> bool:
    """Return True where Unsloth's 4-bit or 8-bit load quantizes this linear layer."""
    if layer.kind not in ("linear", "conv1d", "lm_head") or layer.subclass:
        return False
    kept = (*KEPT_IN_16_BIT, *ALSO_KEPT_IN_16_BIT.get(model.model_type.removesuffix("_text"), ()))
    path = layer.path
    return not any(path.startswith(name) or path.endswith(name) or f".{name}." in f".{path}." for name in kept)


def fp32_tensors(model: ModelSpec, module: PlainModule, *, four_bit: bool) -> int:
    """Parameters of a module in one block that Unsloth keeps in fp32: norms of some families, by name or with a bias
    (models/vision.py), and biases of gpt-oss's experts outside 4 bit (loader.py)."""
    name = module.path
    named = name.endswith(("norm", "norm1", "norm2", "norm3", "norm4")) or "layernorm" in name or "layer_norm" in name
    own_class = module.is_norm and any(tensor.name == "bias" for tensor in module.tensors)
    if module.has_weight and (named or own_class) and model.model_type.startswith(FP32_NORMS):
        return module.parameters
    if model.model_type != "gpt_oss" or four_bit:
        return 0
    return sum(math.prod(tensor.shape) for tensor in module.tensors if tensor.name.endswith("_proj_bias"))


def extra_bytes(model: ModelSpec, stack: Stack, plain: int, linear: int) -> Range:
    """Bytes by which the checkpoint that a 4-bit load fetches exceeds the model in plain NF4; 0 for most checkpoints.

    A dynamic checkpoint keeps some layers in 16 bit, and only its files say which. Its published size counts where
    known; else the excess of other dynamic checkpoints, limited by a measured load.

    plain, linear: Bytes of the model in plain NF4, and of its linear layers without experts.
    """
    checkpoint, habits = model.unsloth_checkpoint, stack.habits
    four_bit = habits.unsloth_kernels and not habits.loads_plain_nf4 and stack.setup.precision in ("nf4", "nf4-dq")
    if not (four_bit and checkpoint and checkpoint.dynamic):
        return Range(0.0, 0.0, 0.0)
    if checkpoint.file_bytes is not None:
        more = max(0.0, float(checkpoint.file_bytes - plain))
        return Range(more, more, more)
    more = stack.assume.range(f"unsloth-dynamic-4bit-extra{'-moe' if model.has_experts else ''}").times(linear)
    most = math.inf if checkpoint.at_most_bytes is None else max(0.0, float(checkpoint.at_most_bytes - plain))
    return Range(min(more.low, most), min(more.expected, most), min(more.high, most))


def movable_embedding_bytes(model: ModelSpec, stack: Stack, trained: frozenset[str]) -> int:
    """Bytes of the embeddings that Unsloth may move to host memory: the input embedding, if the head does not share it,
    and other large tables, such as Gemma 4's per-layer embeddings (models/vision.py, _input_side_embeddings). trained:
    Paths of modules that are trained in full, and so are not moved."""
    if not stack.habits.moves_embedding:
        return 0
    tables = [each for each in model.layers if each.kind == "embedding" and each.path not in trained]
    sizes = {each.path: stack.compute_bytes * each.parameters for each in tables}
    first = 0 if model.tie_word_embeddings else sizes.get(model.input_embedding, 0)
    return first + sum(size for path, size in sizes.items() if path != model.input_embedding and size >= 2**28)


def loading_bytes(model: ModelSpec, stack: Stack) -> float:
    """Peak bytes besides the base while it is loaded; 0 where no fused experts are quantized, or the file has them in 4
    bit. Unsloth quantizes one
    tensor of fused experts at a time, which exists in 16 bit twice: fused, and as the file's tensor for each expert;
    where the file has it fused, beside its quantized copy. Counted while tiny checkpoints were loaded on a CPU."""
    fetched = model.unsloth_checkpoint
    if not stack.habits.quantizes_experts or (fetched and fetched.quantized):
        return 0.0
    largest = max((_weights(each) for each in model.layers if each.kind == "experts"), default=0)
    return 2.0 * (1.25 if model.model_type.startswith(FUSED_IN_FILES) else 2.0) * largest


def dequantized_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """Bytes of the 16-bit copy of one whole weight that bitsandbytes makes for each product and then frees. For
    quantized experts: the larger of a block's two tensors, since a backward pass unpacks them again
    (unsloth_zoo/temporary_patches/moe_utils.py, _moe_recompute_enabled)."""
    if not stack.setup.quantized or stack.habits.mlx:
        return 0.0
    largest = shape.largest_linear
    if stack.habits.quantizes_experts and not stack.habits.one_expert_at_a_time:
        largest = max([largest, *(_weights(each) for each in model.layers if each.kind == "experts")])
    return float(stack.compute_bytes * largest * (stack.habits.litgpt or Litgpt()).unpacked_copies)


RESERVE_FACTOR = 1 + 1 / 16
RESERVE_BYTES_PER_PARAMETER = RESERVE_FACTOR * 16
"""Bytes that Unsloth reserves per trainable parameter: its fp32 weight and 12 more (_training_reserve_bytes)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """Bytes at the peak of a training step. Its first seven fields are components, whose sum is `allocated`."""

    base_weights: int
    adapter: int
    """Weights of the adapter, and of modules_to_save."""
    gradients: int
    optimizer: int
    activations: int
    """Checkpoints, the activations of one block (of all blocks without checkpointing), the adapter's intermediates."""
    logits: int
    """Logits; 0 where the peak is in the backward pass of a block, when no logits are held."""
    other: int
    """Scratch: one dequantized weight, DoRA's norms, merged experts, or the optimizer's temporary tensors."""
    allocated_band: Range
    reserved_band: Range
    device_band: Range
    """Memory that nvidia-smi shows at the peak."""
    loading_band: Range
    """Peak memory that nvidia-smi shows while the base is loaded."""

    def covering(self, other: "MemoryEstimate", *, low: bool = True) -> "MemoryEstimate":
        """Return a copy with bands widened to include those of `other`; with low=False only their high ends."""
        bands = {}
        for name in ("allocated_band", "reserved_band", "device_band"):
            mine, theirs = getattr(self, name), getattr(other, name)
            bands[name] = Range(
                min(mine.low, theirs.low) if low else mine.low, mine.expected, max(mine.high, theirs.high)
            )
        return replace(self, **bands)

    @property
    def allocated(self) -> int:
        """Sum of the components, as torch.cuda.max_memory_allocated reports it."""
        return self.static + self.working

    @property
    def static(self) -> int:
        """Bytes that follow from shapes alone: base, adapter, gradients and optimizer states."""
        return self.base_weights + self.adapter + self.gradients + self.optimizer

    @property
    def working(self) -> int:
        """Bytes of a step beyond `static`: activations, logits and scratch."""
        return self.activations + self.logits + self.other

    reserved = property(lambda self: round(self.reserved_band.expected), doc="torch.cuda.max_memory_reserved.")
    device = property(lambda self: round(self.device_band.expected), doc="nvidia-smi's figure, to compare with a card.")
    low = property(lambda self: round(self.device_band.low), doc="Low end around `device`, without allocator slack.")
    high = property(lambda self: round(self.device_band.high), doc="High end around `device`.")

    @property
    def while_loading(self) -> int:
        """Expected peak bytes that nvidia-smi shows while the base is loaded."""
        return round(self.loading_band.expected)

    @property
    def fullest_band(self) -> Range:
        """Bytes that the card needs: those at the peak of training, or of loading where that is higher."""
        return self.device_band.reached_by(self.loading_band)

    @property
    def fullest(self) -> int:
        """Expected value of `fullest_band` in bytes."""
        return round(self.fullest_band.expected)

    @property
    def fuller_while_loading(self) -> bool:
        """True where loading the base takes more memory than training."""
        return self.while_loading > self.device


class TrainedBytes(NamedTuple):
    """Bytes per trainable parameter. temporary: Copies that one optimizer step makes and frees. bucket: Buffers for the
    exchange of gradients among several GPUs."""

    weight: float
    gradient: float
    optimizer: float
    temporary: float
    bucket: float = 0.0


def bytes_per_trained_parameter(stack: Stack, width: int) -> TrainedBytes:
    """Return the bytes per trainable parameter. width: Bytes of the parameter itself. AdamW keeps two states; its 8-bit
    form in bitsandbytes two bytes, and two fp32 maxima for each 256 parameters. Left out: bitsandbytes keeps fp32
    states for tensors under 4,096 elements, and paged states may be in host memory."""
    optim, assume, copies, states = stack.setup.optim, stack.assume, 0.0, 0.0
    if optim == "adamw_torch":
        states, copies = width * assume.value("adam-states"), assume.value("adam-temporary-copies")
    elif optim != "sgd":
        states = assume.value("adam-8bit-bytes")
    return TrainedBytes(weight=width, gradient=width, optimizer=states, temporary=copies * width)


class Moment(NamedTuple):
    """Bytes at one moment of a step, besides the base, the adapter and the optimizer's states."""

    activations: float
    logits: float
    other: float
    gradients: float

    modelled = property(lambda self: self.activations + self.logits)
    counted = property(lambda self: self.other + self.gradients)


LoraAt = Callable[[int], tuple[int, int]]


class MemoryTerms:
    """Memory of one set-up on a large card for any rank; `at` adds the part that depends on rank. cards: Utilisation
    group of the card, for the measured size of its CUDA context. trained: Paths of modules trained in full. tower:
    Bytes of a vision tower that stay until its backward pass, and that it holds at its own fullest moment."""

    def __init__(
        self,
        model: ModelSpec,
        shape: ModelShape,
        stack: Stack,
        cards: str = "",
        trained: frozenset[str] = frozenset(),
        tower: tuple[float, float] = (0.0, 0.0),
    ):
        assume, setup, habits = stack.assume, stack.setup, stack.habits
        blocks = [Block(kind, model, stack) for kind in shape.kinds]
        matrix = any(block.attention.holds_matrix for block in blocks)
        self.context = assume.range(f"context-bytes-{cards}", "context-bytes")
        # of the base in a plain checkpoint: without base_extra, and without what is raised to fp32 after loading
        parts = unsloth_bytes(model, stack) if habits.unsloth_kernels else {}
        self.checkpoint_bytes = sum(parts.values()) if parts else base_bytes(model, shape, stack)
        # more that the checkpoint fetched may weigh; its expected end is in base_weights
        self.base_extra = extra_bytes(model, stack, self.checkpoint_bytes, parts.get("linears", 0))
        raised = 2 * model.vocab_size * model.hidden_size if habits.fp32_embedding else 0
        self.base_weights = self.checkpoint_bytes + round(self.base_extra.expected) + raised
        # beside the base at the fullest moment of loading it
        self.loading = loading_bytes(model, stack)
        # free before the adapter exists, which Unsloth's loss and its embedding depend on, and what is not free then
        self.free, self.loaded = math.inf, self.context.expected + self.base_weights
        # what Unsloth may move to host memory, and what it wants free otherwise, the adapter's needs aside
        self.embedding = movable_embedding_bytes(model, stack, trained)
        self.reserve = training_reserve_bytes(model, stack)
        self.adapter = bytes_per_trained_parameter(stack, habits.adapter_parameter_bytes)
        self.saved = bytes_per_trained_parameter(stack, habits.saved_parameter_bytes)
        self.accumulates = setup.gradient_accumulation_steps > 1
        self.depth = max(1, shape.blocks)
        self.checkpoints = checkpoint_bytes(model, shape, stack)
        self.masks = mask_bytes(blocks, stack) + tower[0]
        self.tower = tower[1]
        # (bytes, bytes for each unit of r, and of the experts' rank) of each kind of block, and its gradients. Without
        # checkpointing all blocks keep theirs: `kept`, in the same form.
        each, nothing = [block.kept() for block in blocks], (0.0, 0.0, 0.0)
        self.kept = nothing
        if not stack.checkpoints:
            counts = [block.kind.count for block in blocks]
            self.kept = tuple(sum(map(mul, counts, part)) for part in zip(*each, strict=True))
            each = [nothing] * len(each)
        self.blocks = [(*one, block.gradients()) for one, block in zip(each, blocks, strict=True)]
        previous = sum(block.kind.count * block.quantized_inputs() for block in blocks)
        self.loss_on = partial(loss_moments, model, stack, previous=previous)
        self.loss = self.loss_on(None)
        self.held_logits = held_logits_bytes(model, stack)
        # one weight unpacked: beside the gradients of Unsloth's blocks, at another moment elsewhere
        self.dequantized = dequantized_bytes(model, shape, stack)
        unfused = stack.own_blocks and not all(block.fuses_mlp for block in blocks)
        self.unpacks_beside_gradients = habits.unsloth_kernels and not unfused
        self.in_windows = habits.windows_experts
        self.standing = _standing_bytes(model, shape, stack)
        self.merged = _merged_bytes(shape, stack)
        # weights of other GPUs' shards, held while the loss is computed and while a block is (core.cost.cards)
        self.gathered_at_loss = self.gathered = 0.0
        # of DoRA's norm in the forward pass: by tokens, and by weights
        self.dora = (max(block.dora_inputs() for block in blocks), _dora_norm_bytes(model, shape, stack))
        slack = {"chunked": "full", "fused-func": "fused"}.get(setup.loss_path, setup.loss_path)
        slack = "mlx" if habits.mlx else "eager" if matrix else slack
        self.slack = assume.range(f"allocator-slack-{slack}")
        self.slack_static = assume.range("allocator-slack-static")
        # Half-widths of bands: bytes of what is counted, the same for any base (workspaces and small tensors), and a
        # share of it where every weight trains; a share of what is counted beside it, such as weights gathered from
        # other GPUs; a share of what trains and of all, for the high ends alone (the allocator, and compiled blocks);
        # a share of what is modelled.
        self.static_bytes_off = assume.value("width-static", "width-static-unmeasured")
        self.width_static = self.width_beside = 0.0
        self.width_trained = assume.value("width-trained-blocks")
        # Unsloth compiles blocks, except in forced fp32, of gpt-oss, and before 2026 (models/_block_compile.py).
        plain = habits.fp32_residual or model.model_type == "gpt_oss" or habits.unsloth_loss in ("func-2025", "cut")
        self.width_compiled = assume.value("width-unsloth-compiled") if habits.unsloth_kernels and not plain else 0.0
        self.width_working = _working_width(model, blocks, stack, matrix=matrix)

    def on(self, usable_bytes: float | None) -> "MemoryTerms":
        """Return the terms for a card with this much usable memory, by which Unsloth sizes its loss; None for a large
        card."""
        if usable_bytes is None:
            return self
        terms = copy(self)
        terms.free, terms.loss = usable_bytes - self.loaded, self.loss_on(usable_bytes)
        return terms

    def train_everything(self, plain: "MemoryTerms", width: int, model: ModelSpec, stack: Stack) -> None:
        """Change the terms to those of full fine-tuning. width: Bytes per parameter. plain: Terms with transformers'
        own blocks, which are used here because Unsloth's memory-saving kernels serve LoRA alone."""
        base, assume = model.total_parameters * width, stack.assume
        self.loaded += base - self.base_weights
        self.base_weights, self.base_extra, self.embedding = base, Range(0.0, 0.0, 0.0), 0
        self.saved = bytes_per_trained_parameter(stack, width)._replace(weight=0.0)
        self.blocks, self.kept = plain.blocks, plain.kept
        self.merged += max(0, width - stack.compute_bytes) / 2 * model.total_parameters  # autocast's 16-bit copies
        self.width_static = self.width_beside = assume.value("width-full-static")
        self.width_working = (self.width_working**2 + assume.value("width-full-working") ** 2) ** 0.5

    def at(self, r: int, parameters: int, saved_parameters: int = 0, lora_at: LoraAt | None = None) -> MemoryEstimate:
        """Return the memory at the peak of a step. parameters: All trained parameters, saved_parameters of them in
        modules_to_save. lora_at: Returns (the experts' rank, parameters of all LoRA pairs) at rank r; by default
        experts have rank r. Where Unsloth moves the embedding to host memory, the high ends are at least those of the
        highest rank without the move, since the rank from which it moves is not known exactly."""
        lora, full = parameters - saved_parameters, saved_parameters
        lora_at = lora_at or (lambda rank: (rank, round(lora * rank / max(1, r))))
        adapter = round(lora * self.adapter.weight + full * self.saved.weight)
        wanted = self.reserve + RESERVE_BYTES_PER_PARAMETER * parameters
        moved = self.embedding if self.embedding and self.free - adapter < wanted else 0
        memory = self._peak(r, lora_at(r)[0], lora, full, moved)
        if not moved:
            return memory
        # the highest rank below r at which the embedding stays
        left = self.free - self.reserve - full * (self.saved.weight + RESERVE_BYTES_PER_PARAMETER)
        each = self.adapter.weight + RESERVE_BYTES_PER_PARAMETER
        last = bisect_right(range(1, r), left, key=lambda rank: lora_at(rank)[1] * each)
        return memory.covering(self._peak(last, *lora_at(last), full, 0), low=False) if last >= 1 else memory

    def _peak(self, r: int, expert_rank: int, lora: int, full: int, moved: int) -> MemoryEstimate:
        """Return the memory at the peak with `moved` bytes of embeddings in host memory."""
        adapter = round(lora * self.adapter.weight + full * self.saved.weight)
        optimizer = round(lora * self.adapter.optimizer + full * self.saved.optimizer)
        base = self.base_weights - moved
        moments = self._moments(r, expert_rank, adapter - moved, lora, full)
        peak = Moment(*map(round, max(moments, key=sum)))
        allocated, reserved = self._bands(base, adapter + optimizer, moments, peak)
        return MemoryEstimate(
            activations=peak.activations,
            logits=peak.logits,
            other=peak.other,
            gradients=peak.gradients,
            base_weights=base,
            adapter=adapter,
            optimizer=optimizer,
            allocated_band=allocated,
            reserved_band=reserved,
            device_band=reserved.plus(self.context),
            loading_band=self.while_loading,
        )

    # Not cached: for cached_property, Python 3.11 has one lock for all instances, on which visitors wait.
    @property
    def while_loading(self) -> Range:
        """Peak bytes that nvidia-smi shows during loading: the base, and copies of experts while they are quantized."""
        return self._around(self.base_weights, self.loading).multiplied(self.slack_static).plus(self.context)

    def _around(self, static: float, beside: float = 0.0) -> Range:
        """Return the band for bytes that are known from shapes, the base among them, and for others beside them."""
        extra, whole = self.base_extra, static + beside
        off = self.static_bytes_off + static * self.width_static + beside * self.width_beside
        low = whole - off - (extra.expected - extra.low)
        return Range(max(0.0, low), whole, whole + off + extra.high - extra.expected)

    def _moments(self, r: int, expert_rank: int, adapter: int, lora: int, full: int) -> list[Moment]:
        kept = self.checkpoints + self.kept[0] + r * self.kept[1] + expert_rank * self.kept[2]
        temporaries = lora * self.adapter.temporary + full * self.saved.temporary
        of_lora, of_full = lora * self.adapter.gradient, full * self.saved.gradient
        buckets = lora * self.adapter.bucket + full * self.saved.bucket
        before = of_full + (of_lora if self.accumulates else 0.0) + buckets
        moments = [Moment(0.0, 0.0, temporaries + self.standing, of_lora + of_full + buckets)]
        if self.tower:
            moments.append(Moment(self.tower, 0.0, self.dequantized + self.standing, of_lora + of_full + buckets))
        for loss in self.loss:
            logits = loss.logits
            if loss.cap is not None:
                # of what is free when the first forward pass begins, without gradients and states
                logits = min(logits, loss.cap, max(0.0, (self.free - adapter) * loss.share_of_free))
            scratch = loss.scratch + self.standing + self.gathered_at_loss
            moments.append(Moment(self.masks + kept + loss.activations, logits, scratch, before))
        ends = [(kept, before)]
        if not self.accumulates:
            ends = [(kept, before + of_lora / self.depth), (kept / self.depth, before + of_lora)]
        scratch = self.merged + self.standing + self.gathered
        for fixed, slope, expert_slope, gradients in self.blocks:
            for others, made in ends:
                block = self.masks + others + fixed + r * slope + expert_rank * expert_slope
                unpacked = self.dequantized
                if self.in_windows:
                    unpacked = min(unpacked, max(0.0, (self.free - adapter - block) / 2))
                unpacked += scratch
                other = unpacked if self.unpacks_beside_gradients else scratch
                moments.append(Moment(block + gradients, self.held_logits, other, made))
                if self.dora != (0.0, 0.0) or unpacked > other:  # otherwise larger in no part
                    moments.append(Moment(block + self.dora[0], self.held_logits, unpacked + self.dora[1], made))
        return moments

    def _bands(self, base: int, trained: int, moments: list[Moment], peak: Moment) -> tuple[Range, Range]:
        """Return the bands of allocated and of reserved memory. They are narrow around what is counted (weights,
        adapter, gradients, states, scratch) and wider around what is modelled (activations, logits). Each end is that
        of the moment at which it is largest. trained: Bytes of adapter and states. peak: The moment with the most
        expected bytes."""
        static, at_peak = base + trained, sum(peak)
        known = self._around(static)
        narrow, wide, fixed, slack = self.width_beside, self.width_working, self.slack_static, self.slack
        static_high = known.high + self.width_trained * (trained + peak.gradients)
        static_high += self.width_compiled * (static + at_peak)
        # fuller cards get smaller windows: half of what is left beside all else
        left = self.free + self.base_weights + self.context.expected - self.context.high - static_high * fixed.high
        low = high = most = 0.0
        least = max(0.0, 1 - wide)
        for activations, logits, other, gradients in moments:  # a loop, since an answer comes here 256 times
            counted, modelled = other + gradients, activations + logits
            scratch, kept = counted * (1 + narrow), modelled * (1 + wide)
            if self.in_windows:
                scratch = gradients + min(other, max(0.0, (left - gradients - kept * slack.high) / 2))
            low = max(low, counted * (1 - narrow) + modelled * least)
            high, most = max(high, scratch + kept), max(most, scratch * fixed.high + kept * slack.high)
        expected = static + at_peak
        band = Range(known.low + low, expected, max(expected, static_high + high))
        expected = (static + peak.counted) * fixed.expected + peak.modelled * slack.expected
        return band, Range(band.low * slack.low, expected, max(expected, static_high * fixed.high + most))


def training_reserve_bytes(model: ModelSpec, stack: Stack) -> float:
    """Bytes that must be free, besides those of the adapter, for Unsloth to leave an untied embedding on the card: 48
    per token and hidden unit, fp32 logits of at most 2,048 tokens, a sixteenth more, and 256 MiB (unsloth_zoo
    block_swap.py, estimate_training_reserve_bytes). Tokens are those of one example, whatever the batch."""
    length = stack.setup.max_length
    return RESERVE_FACTOR * (48.0 * length * model.hidden_size + 4.0 * min(length, 2048) * model.vocab_size) + 2**28


def _standing_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """Bytes that are allocated once and stay: cuBLAS's workspaces. In Unsloth's own families also tables of sines and
    cosines (32,768 rows in 16 bit, Gemma's 8,192 rows in fp32; models/llama.py, gemma.py), and a buffer into which
    quantized weights are unpacked, as large as the largest weight with an adapter (kernels/utils.py, _SCRATCH)."""
    if stack.habits.on_cpu or stack.habits.mlx:
        return 0.0
    large = "-hopper" if 9 <= stack.compute_capability < 11 else ""
    workspaces = stack.assume.value(f"cublas-workspace-bytes{large}")
    if not stack.own_blocks:
        return workspaces
    unpacked = stack.compute_bytes * shape.largest_targeted if stack.setup.precision in ("nf4", "nf4-dq") else 0
    row = 8192 * 4 if model.model_type.startswith("gemma") else 32_768 * 2
    return workspaces + 2.0 * row * model.head_dim + unpacked


def _merged_bytes(shape: ModelShape, stack: Stack) -> float:
    """Bytes of experts merged by PEFT: ParamWrapper adds the adapter to each whole expert parameter (peft
    lora/layer.py). The backward pass holds one gradient of that size at a time, from the last parameter to the first,
    and frees each merged weight after its gradient. So the largest moment is the smaller gradient beside both weights,
    or the larger beside its own. Without checkpointing the merged weights of all blocks stay."""
    if stack.habits.unsloth_kernels or stack.habits.mlx or not shape.targeted_experts:
        return 0.0
    smallest, largest, every = shape.targeted_experts[0], shape.targeted_experts[-1], sum(shape.targeted_experts)
    weights = max(every + smallest, 2 * largest) if stack.checkpoints else every * shape.expert_blocks + smallest
    return float((4 if stack.habits.raised == "all" else stack.compute_bytes) * weights)


def _dora_norm_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """Bytes for DoRA's norm of one module's merged weight in each forward pass: an identity matrix that goes through A
    and B, with its 16-bit copy, then B·A, the weight and their sum (peft tuners/lora/dora.py)."""
    if not stack.use_dora:
        return 0.0
    identity = max(kind.targeted_mlp_hidden or model.hidden_size for kind in shape.kinds) ** 2
    before, after = stack.assume.value("dora-identity-bytes"), stack.assume.value("dora-norm-bytes")
    half, largest = stack.compute_bytes, shape.largest_targeted
    return max(before * identity + half * largest, half * identity + after * largest)


def _working_width(model: ModelSpec, blocks: list[Block], stack: Stack, *, matrix: bool) -> float:
    """Return the half-width of the band around activations and logits, as a share of them: the one measured for this
    kind of setting, or a wider one. Experts, DoRA and other features that few rows measured add widths of their own, as
    independent errors. matrix: True where attention holds a matrix of length × length."""
    assume = stack.assume
    kinds = {stack.kind, stack.kind_with(matrix=matrix)}
    widths = [max(assume.value(f"width-{kind}", "width-unmeasured") for kind in kinds)]
    if model.num_experts:
        widths.append(assume.value("width-experts"))
    if linear := [block.kernels_may_save() for block in blocks if not block.kind.attention_width]:
        widths.append(max(assume.value("width-no-attention"), *linear))
    if matrix and caps_compiled(model, stack):
        widths.append(assume.value("width-unsloth-capped"))
    if stack.use_dora:
        widths.append(assume.value("width-dora"))
    if stack.setup.precision in ("int8", "fp32"):
        widths.append(assume.value("width-int8-fp32"))
    return math.hypot(*widths)
