"""Estimates the peak memory of one LoRA training step, by component, with a range for each total."""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from rankviz.core.cost import blocks as memory_parts
from rankviz.core.cost import weights
from rankviz.core.cost.blocks import LossMoment, held_logits_bytes, loss_moments
from rankviz.core.cost.shapes import ModelShape
from rankviz.core.cost.stack import (
    RESERVE_BYTES_PER_PARAMETER,
    Stack,
    compiles_blocks,
    extra_bytes,
    training_reserve_bytes,
)
from rankviz.core.cost.weights import TrainedBytes
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range

BANDS = ("allocated_band", "reserved_band", "device_band")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """Bytes at the peak. The seven components add up to `allocated`."""

    base_weights: int
    adapter: int
    """Adapter weights, and full copies of modules_to_save."""
    gradients: int
    optimizer: int
    activations: int
    """Checkpoints, the working set of one block (of all without checkpointing), the adapter's intermediates."""
    logits: int
    """0 when the peak is in a block's backward pass, where no logits are held."""
    other: int
    """Scratch: one de-quantized weight, DoRA's norms, merged experts, or the optimizer's temporaries."""
    allocated_band: Range
    reserved_band: Range
    device_band: Range
    loading_band: Range | None = None
    """What nvidia-smi would show at the fullest moment of loading the base; None where that was not asked."""

    def reaching(self, other: "MemoryEstimate") -> "MemoryEstimate":
        """Raise the high ends to the other's where these are higher."""
        return replace(self, **{name: getattr(self, name).reaching(getattr(other, name).high) for name in BANDS})

    def covering(self, other: "MemoryEstimate") -> "MemoryEstimate":
        """Widen the bands until the other's are inside."""
        lower = {name: getattr(self, name).including(getattr(other, name).low) for name in BANDS}
        return replace(self, **lower).reaching(other)

    @property
    def allocated(self) -> int:
        """What torch.cuda.max_memory_allocated would say: the sum of the components."""
        return (
            self.base_weights
            + self.adapter
            + self.gradients
            + self.optimizer
            + self.activations
            + self.logits
            + self.other
        )

    @property
    def static(self) -> int:
        """Known from shapes: base, adapter, gradients, optimizer states."""
        return self.base_weights + self.adapter + self.gradients + self.optimizer

    @property
    def working(self) -> int:
        """What a step takes beside it: activations, logits, scratch."""
        return self.activations + self.logits + self.other

    @property
    def reserved(self) -> int:
        """What torch.cuda.max_memory_reserved would say."""
        return round(self.reserved_band.expected)

    @property
    def device(self) -> int:
        """What nvidia-smi would show: the figure to compare with a card."""
        return round(self.device_band.expected)

    @property
    def while_loading(self) -> int:
        """What nvidia-smi would show at the fullest moment of loading the base."""
        return round(self.loading_band.expected) if self.loading_band else 0

    @property
    def fullest_band(self) -> Range:
        """What a card must hold: the peak of training, or of loading where that is higher."""
        return self.device_band.reached_by(self.loading_band or self.device_band)

    @property
    def fullest(self) -> int:
        """Expected bytes at the fullest moment of loading and training."""
        return round(self.fullest_band.expected)

    @property
    def fuller_while_loading(self) -> bool:
        """Whether loading the base takes more than training."""
        return self.while_loading > self.device

    @property
    def low(self) -> int:
        """Low end around `device`: what must be allocated and a small context, all slack given back."""
        return round(self.device_band.low)

    @property
    def high(self) -> int:
        """High end around `device`."""
        return round(self.device_band.high)


class Moment(NamedTuple):
    """Bytes beside the base, the adapter and the optimizer's states."""

    activations: float
    logits: float
    other: float
    gradients: float

    @property
    def modelled(self) -> float:
        return self.activations + self.logits

    @property
    def counted(self) -> float:
        return self.other + self.gradients


class MemoryTerms(NamedTuple):
    """Everything that doesn't depend on rank."""

    base_weights: int
    checkpoint_bytes: int
    """Of the base in a plain checkpoint: without base_extra, and without what is raised to fp32 after loading."""
    base_extra: Range
    """More that the checkpoint fetched may weigh; its expected end is in base_weights."""
    loading: float
    """What is there beside the base at the fullest moment of loading it."""
    adapter: TrainedBytes
    saved: TrainedBytes
    checkpoints: float
    masks: float
    """There from the first block's forward pass to its backward pass."""
    blocks: tuple[tuple[float, float, float, float], ...]
    """For each kind of block: what it keeps for its backward pass, bytes more for each unit of r and of the experts'
    rank, and the gradients alive at its fullest moment. Without checkpointing the first three are 0, since `kept` has
    them for all blocks."""
    kept: tuple[float, float, float]
    """Without checkpointing, what all blocks keep, in the same form."""
    depth: int
    """Blocks."""
    accumulates: bool
    """A step has more than one micro-step."""
    loss: tuple[LossMoment, ...]
    free: float
    """Bytes free on the card before the adapter is there, which Unsloth's loss and its embedding depend on; infinite
    where the card is not known."""
    embedding: int
    """What Unsloth may move to host memory, and what it wants free otherwise, the adapter's needs aside."""
    reserve: float
    held_logits: float
    dequantized: float
    """One weight unpacked; beside the gradients of Unsloth's blocks, at another moment elsewhere."""
    with_gradients: bool
    in_windows: bool
    """Unpacked in at most half of what is free."""
    standing: float
    merged: float
    dora: tuple[float, float]
    """What DoRA's norm takes in the forward pass: of the tokens, and of the weights."""
    slack: Range
    """Of activations, logits and scratch."""
    slack_static: Range
    context: Range
    static_bytes_off: float
    """Half-width of the band around what is counted: workspaces and small tensors, the same for any base."""
    width_static: float
    """And a share of it, where every weight trains."""
    width_trained: float
    """What the allocator may give more for what trains, as a share of it; of the high end alone."""
    width_working: float
    width_compiled: float
    """At the high end, a share of all: what compiled blocks may add."""


def memory_terms(
    model: ModelSpec,
    shape: ModelShape,
    stack: Stack,
    usable_bytes: float | None,
    cards: str = "",
    trained: frozenset[str] = frozenset(),
) -> MemoryTerms:
    """The rank-independent part.

    usable_bytes: the card's, on which Unsloth's loss depends; None is a large card. cards: its utilisation group, where
    the CUDA context of such cards was measured. trained: paths of modules that are trained in full.
    """
    assume, setup = stack.assume, stack.setup
    plain = weights.base_bytes(model, shape, stack)
    linear = weights.unsloth_bytes(model, stack)["linears"] if stack.habits.unsloth_kernels else 0
    extra = extra_bytes(model, stack, plain, linear)
    base = plain + round(extra.expected) + weights.raised_bytes(model, stack)
    context = assume.range_of(f"context-bytes-{cards}", "context-bytes")
    each = [memory_parts.kept_bytes(kind, model, stack) for kind in shape.kinds]
    kept = (0.0, 0.0, 0.0)
    if setup.gradient_checkpointing == "none":
        counts = [kind.count for kind in shape.kinds]
        kept = tuple(sum(n * one[i] for n, one in zip(counts, each, strict=True)) for i in range(3))
        each = [(0.0, 0.0, 0.0)] * len(each)
    gradients = [memory_parts.backward_bytes(kind, model, stack) for kind in shape.kinds]
    free = math.inf if usable_bytes is None else usable_bytes - context.expected - base
    slack = {"chunked": "full", "fused-func": "fused"}.get(setup.loss_path, setup.loss_path)
    slack = "eager" if memory_parts.holds_matrix(model, shape, stack) else slack
    previous = sum(kind.count * memory_parts.quantized_inputs(kind, stack) for kind in shape.kinds)
    return MemoryTerms(
        base_weights=base,
        checkpoint_bytes=plain,
        base_extra=extra,
        loading=weights.loading_bytes(model, stack),
        adapter=weights.trained_bytes(stack, stack.habits.adapter_bytes),
        saved=weights.trained_bytes(stack, stack.habits.saved_bytes),
        checkpoints=memory_parts.checkpoint_bytes(model, shape, stack),
        masks=memory_parts.mask_bytes(model, shape, stack),
        blocks=tuple((*one, more) for one, more in zip(each, gradients, strict=True)),
        kept=kept,
        depth=max(1, shape.blocks),
        accumulates=setup.gradient_accumulation_steps > 1,
        loss=tuple(loss_moments(model, stack, usable_bytes, previous)),
        free=free,
        embedding=weights.movable_embedding_bytes(model, stack, trained),
        reserve=training_reserve_bytes(model, stack),
        held_logits=held_logits_bytes(model, stack),
        dequantized=weights.dequantized_bytes(model, shape, stack),
        with_gradients=stack.habits.unsloth_kernels
        and not (
            memory_parts.own_blocks(stack)
            and not all(memory_parts.fuses_mlp(k, model.hidden_size, stack) for k in shape.kinds)
        ),
        in_windows=stack.habits.windows_experts,
        standing=weights.standing_bytes(model, shape, stack),
        merged=weights.merged_bytes(shape, stack),
        dora=(
            max(memory_parts.dora_input_bytes(k, model, stack) for k in shape.kinds),
            weights.dora_norm_bytes(model, shape, stack),
        ),
        slack=assume.range(f"allocator-slack-{slack}"),
        slack_static=assume.range("allocator-slack-static"),
        context=context,
        static_bytes_off=assume.first("width-static", "width-static-unmeasured"),
        width_static=0.0,
        width_trained=assume.value("width-trained-blocks"),
        width_working=memory_parts.working_width(model, shape, stack),
        width_compiled=assume.value("width-unsloth-compiled") if compiles_blocks(model, stack) else 0.0,
    )


def memory_at(
    terms: MemoryTerms,
    r: int,
    parameters: int,
    saved_parameters: int = 0,
    lora_at: Callable[[int], tuple[int, int]] | None = None,
) -> MemoryEstimate:
    """The peak at one rank.

    parameters: all that train; saved_parameters: those of them that modules_to_save trains as full copies. lora_at:
    from r to the rank of experts and the parameters of all pairs; without it, experts have rank r.

    Where Unsloth has moved the embedding, the high ends are at least those of the last rank at which it stays: the rank
    where it moves is not known that well. They can still fall a little as the rank grows, since Unsloth's loss takes a
    share of what is free.
    """
    lora, full = parameters - saved_parameters, saved_parameters
    adapter = round(lora * terms.adapter.weight + full * terms.saved.weight)
    moved = _moved_embedding(terms, adapter, parameters)
    lora_at = lora_at or (lambda rank: (rank, round(lora * rank / max(1, r))))
    memory = _with_embedding_moved(terms, r, lora_at(r)[0], lora, full, moved)
    last = _last_rank_with_embedding(terms, r, lora_at, full) if moved else 0
    if last < 1:
        return memory
    return memory.reaching(_with_embedding_moved(terms, last, *lora_at(last), full, 0))


def _with_embedding_moved(
    terms: MemoryTerms, r: int, expert_rank: int, lora: int, full: int, moved: int
) -> MemoryEstimate:
    """The peak with so many bytes of the embedding on the host."""
    adapter = round(lora * terms.adapter.weight + full * terms.saved.weight)
    optimizer = round(lora * terms.adapter.optimizer + full * terms.saved.optimizer)
    base = terms.base_weights - moved
    moments = _moments(terms, r, expert_rank, adapter - moved, lora, full)
    activations, logits, other, gradients = (round(part) for part in max(moments, key=sum))
    peak = Moment(activations, logits, other, gradients)
    band, reserved = _bands(terms, base, adapter + optimizer, moments, peak)
    context = terms.context
    return MemoryEstimate(
        base_weights=base,
        adapter=adapter,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        logits=logits,
        other=other,
        allocated_band=band,
        reserved_band=reserved,
        device_band=reserved.plus(context),
        loading_band=while_loading(terms),
    )


def while_loading(terms: MemoryTerms) -> Range:
    """The base, all of it on the card, and what is there beside it while experts are quantized."""
    narrow, extra, off = terms.width_static, terms.base_extra, terms.static_bytes_off
    held = terms.base_weights + terms.loading
    low = max(0.0, held * (1 - narrow) - (extra.expected - extra.low) - off)
    band = Range(low, held, held * (1 + narrow) + extra.high - extra.expected + off)
    return band.multiplied(terms.slack_static).plus(terms.context)


def _moved_embedding(terms: MemoryTerms, adapter: int, parameters: int) -> int:
    """Bytes of the input embedding that Unsloth moves to host memory, since too little would stay free beside it."""
    if not terms.embedding:
        return 0
    wanted = terms.reserve + RESERVE_BYTES_PER_PARAMETER * parameters
    return terms.embedding if terms.free - adapter < wanted else 0


def _last_rank_with_embedding(terms: MemoryTerms, r: int, lora_at: Callable[[int], tuple[int, int]], full: int) -> int:
    """The highest rank below r at which the embedding stays; 0 where there is none. Adapters grow with the rank."""
    per_parameter = RESERVE_BYTES_PER_PARAMETER
    left = terms.free - terms.reserve - full * (terms.saved.weight + per_parameter)
    each = terms.adapter.weight + per_parameter
    return bisect_right(range(1, r), left, key=lambda rank: lora_at(rank)[1] * each)


def _moments(terms: MemoryTerms, r: int, expert_rank: int, adapter: int, lora: int, full: int) -> list[Moment]:
    """All moments that can hold most."""
    kept = terms.checkpoints + terms.kept[0] + r * terms.kept[1] + expert_rank * terms.kept[2]
    temporaries = lora * terms.adapter.temporary + full * terms.saved.temporary
    of_lora, of_full = lora * terms.adapter.gradient, full * terms.saved.gradient
    before = of_full + (of_lora if terms.accumulates else 0.0)
    moments = [Moment(0.0, 0.0, temporaries + terms.standing, of_lora + of_full)]
    for moment in terms.loss:
        logits = moment.logits
        if moment.cap is not None:
            # of what is free when the first forward pass begins, without gradients and states
            logits = min(logits, moment.cap, max(0.0, (terms.free - adapter) * moment.share_of_free))
        activations = terms.masks + kept + moment.activations
        moments.append(Moment(activations, logits, moment.scratch + terms.standing, before))
    ends = [(kept, before)]
    if not terms.accumulates:
        ends = [(kept, before + of_lora / terms.depth), (kept / terms.depth, before + of_lora)]
    for fixed, slope, expert_slope, gradients in terms.blocks:
        scratch = terms.merged + terms.standing
        for others, made in ends:
            block = terms.masks + others + fixed + r * slope + expert_rank * expert_slope
            unpacked = scratch + _unpacked_bytes(terms, adapter, block)
            with_gradients = unpacked if terms.with_gradients else scratch
            moments += [
                Moment(block + gradients, terms.held_logits, with_gradients, made),
                Moment(block + terms.dora[0], terms.held_logits, unpacked + terms.dora[1], made),
            ]
    return moments


def _unpacked_bytes(terms: MemoryTerms, adapter: int, block: float) -> float:
    """What is unpacked for one product."""
    if not terms.in_windows:
        return terms.dequantized
    return min(terms.dequantized, max(0.0, (terms.free - adapter - block) / 2))


def _bands(terms: MemoryTerms, base: int, trained: int, moments: list[Moment], peak: Moment) -> tuple[Range, Range]:
    """What is allocated and what torch reserves for it.

    Weights, adapter, gradients, states and scratch are counted and have a narrow band of some MiB, activations and
    logits are modelled and have a wider one. Each end is that of the moment which is fullest there. trained: adapter
    and optimizer states, which every moment has like the base. peak: as expected.
    """
    static = base + trained
    narrow, wide, extra = terms.width_static, terms.width_working, terms.base_extra
    fixed, slack = terms.slack_static, terms.slack
    low = max(each.counted * (1 - narrow) + each.modelled * max(0.0, 1 - wide) for each in moments)
    ends = [(each.counted * (1 + narrow), each.modelled * (1 + wide)) for each in moments]
    off = terms.static_bytes_off
    static_low = max(0.0, static * (1 - narrow) - (extra.expected - extra.low) - off)
    static_high = static * (1 + narrow) + extra.high - extra.expected + off
    static_high += terms.width_trained * (trained + peak.gradients)
    static_high += terms.width_compiled * (static + sum(peak))
    if terms.in_windows:
        # fuller cards get smaller windows: half of what is left beside all else
        usable = terms.free + terms.base_weights + terms.context.expected - terms.context.high
        left = usable - static_high * fixed.high
        ends = [
            (each.gradients + min(each.other, max(0.0, (left - each.gradients - kept * slack.high) / 2)), kept)
            for each, (_, kept) in zip(moments, ends, strict=True)
        ]
    expected = static + sum(peak)
    band = Range(static_low + low, expected, max(expected, static_high + max(map(sum, ends))))
    expected = (static + peak.counted) * fixed.expected + peak.modelled * slack.expected
    most = static_high * fixed.high + max(scratch * fixed.high + kept * slack.high for scratch, kept in ends)
    reserved = Range(band.low * slack.low, expected, max(expected, most))
    return band, reserved
