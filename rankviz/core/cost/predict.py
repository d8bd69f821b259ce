"""Predicts memory and duration of one set-up, and of full fine-tuning of its base."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Literal, NamedTuple

from rankviz.core.cost.blocks import Block, checkpoint_bytes
from rankviz.core.cost.cards import SeveralGpus, together
from rankviz.core.cost.duration import DurationEstimate, DurationTerms, duration_terms
from rankviz.core.cost.memory import MemoryEstimate, MemoryTerms
from rankviz.core.cost.setup import Device, Gpu, TrainingSetup, card
from rankviz.core.cost.shapes import ModelShape, model_shape
from rankviz.core.cost.stack import DTYPE_BYTES, Stack, compute_dtype, settled
from rankviz.core.images import image_tower, seen_by
from rankviz.core.lora.config import Framework, LoraConfig
from rankviz.core.lora.plan import Adapted, AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Assumptions, Range
from rankviz.errors import InvalidSettingError


class Prediction(NamedTuple):
    """Memory and duration of one adapter on one stack, for any rank."""

    plan: AdapterPlan
    memory: MemoryTerms
    duration: DurationTerms | None  # None where the speed of the GPU is not known
    saved_parameters: int  # trained in full beside the adapter
    shape: ModelShape
    stack: Stack  # after the program's decisions for this model and card
    ends: tuple[MemoryTerms, ...] = ()  # memory with the least and the most that a vision tower may hold
    several: SeveralGpus | None = None  # of several GPUs; memory is then that of each, and the duration that of all

    def memory_at(self, r: int) -> MemoryEstimate:
        """Return the memory at the peak of a step, at one rank."""
        plan, saved, parameters = self.plan, self.saved_parameters, self.plan.parameters(r)

        def lora_at(rank: int) -> tuple[int, int]:
            return plan.expert_rank_at(rank), plan.parameters(rank) - saved

        memory = self.memory.at(r, parameters, saved, lora_at)
        for end in self.ends:
            memory = memory.covering(end.at(r, parameters, saved, lora_at))
        return memory

    def duration_at(self, r: int) -> DurationEstimate | None:
        """Return the times of a step, of loading and of the training at one rank; None for a GPU of unknown speed."""
        # of the pairs that a token is multiplied with, weighted by their parameters per unit of rank
        mean, more, shape = r, self.plan.expert_rank_at(r) - r, self.shape
        if more:
            mean = r + more * shape.active_expert_parameters / shape.active_adapter_parameters
        return self.duration and self.duration.at(mean, self.plan.parameters(r) - self.saved_parameters)


def predict(
    model: ModelSpec,
    lora: LoraConfig,
    stack: Stack,
    device: Device,
    *,
    usable_bytes: float | None = None,
    names: Framework | None = None,
) -> Prediction:
    """Return the prediction of an adapter for any rank; raise InvalidSettingError where PEFT refuses the adapter.
    usable_bytes: Usable memory of the card, where known; the more, the larger the pieces of Unsloth's loss. names:
    Framework by whose rules target names select modules; by default the stack's framework."""
    setup = stack.setup.fitted
    plan = resolve(model, lora, names or setup.framework, precision=setup.precision, cuda=device.cuda)
    if setup is not stack.setup or device.gpu is not stack.gpu:
        stack = replace(stack, setup=setup, gpu=device.gpu)
    return _prediction(plan, stack, device, usable_bytes)


@lru_cache(maxsize=512)
def _prediction(plan: AdapterPlan, stack: Stack, device: Device, usable_bytes: float | None) -> Prediction:
    if usable_bytes is not None:  # nothing else depends on it
        alike = _prediction(plan, stack, device, None)
        ends = tuple(end.on(usable_bytes) for end in alike.ends)
        return alike._replace(memory=alike.memory.on(usable_bytes), ends=ends)
    model, shape = plan.model, _shape(plan)
    stack = _raised(settled(stack, model, device), model, device)
    trained = frozenset(module.path for module in plan.saved if module.trained)
    cards = device.gpu.utilisation_group if device.gpu else ""
    duration, several = duration_terms(model, shape, stack, device), None
    towers, seconds = _tower(model, plan.adapted, stack, device)
    duration = _with_tower(duration, seconds)
    low, *ends = map(partial(MemoryTerms, model, shape, stack, cards, trained), towers)
    if stack.setup.gpus > 1:
        pairs = [together(terms, duration, plan, stack, device.gpu) for terms in (low, *ends)]
        duration, several = pairs[0]
    return Prediction(
        plan=plan,
        memory=ends[0] if ends else low,
        duration=duration,
        several=several,
        saved_parameters=sum(module.trained for module in plan.saved),
        shape=shape,
        stack=stack,
        ends=(low, ends[1]) if ends else (),
    )


def with_images(model: ModelSpec, setup: TrainingSetup, *, text_only: bool) -> TrainingSetup:
    """Return the setup with the tokens of an example's images; raise InvalidSettingError where the model takes none.
    text_only: True where Unsloth loads no vision tower."""
    tokens = 0
    if setup.images is not None:
        if text_only and setup.framework == "unsloth":
            raise InvalidSettingError("With text_only no vision tower is loaded. Leave text_only or the images out.")
        seen = seen_by(model, setup.image_size, unsloth=setup.framework == "unsloth")
        tokens = setup.images * (seen.tokens + seen.marks)
    if tokens == setup.image_tokens:
        return setup
    counted = replace(setup, image_tokens=tokens)
    counted.validate()
    return counted


def _tower(
    model: ModelSpec, adapted: tuple[Adapted, ...], stack: Stack, device: Device, *, trained: bool = False
) -> tuple[list[tuple[float, float]], DurationTerms | None]:
    """Return what the images of a micro-step add: (bytes that the vision tower keeps until its backward pass, bytes at
    its own fullest moment) at the low, expected and high end, and its times; [(0, 0)] and None without images.

    The tower's blocks are counted as those of a text model (core.cost.blocks), whose tokens are the patches, one
    sequence for each picture; Pixtral's have one sequence and a mask for all. Without an adapter, a tower keeps tensors
    only if its inputs have gradients, which depends on the program's version: the low end is for none, the others for
    gradients under checkpointing (transformers modeling_utils.py, enable_input_require_grads). The features are kept
    twice: as the tower's result, and among the text's embeddings. No measured row has images, so the shares are wide.
    trained: True where the tower's own weights train.
    """
    setup, nothing = stack.setup, ([(0.0, 0.0)], None)
    if not (setup.images and setup.image_tokens and model.image_processor):
        return nothing
    seen = seen_by(model, setup.image_size, unsloth=setup.framework == "unsloth")
    if not seen.patches or (found := image_tower(model, adapted)) is None:
        return nothing
    tower, carried, behind = found
    batch, joined = setup.per_device_train_batch_size, model.image_processor.get("joined", False)
    pictures, kind = batch * setup.images * seen.tiles, "-clipped" if model.clippable_linears else ""
    share = stack.assume.range(f"vision-tower-bytes-{model.model_type}{kind}", "vision-tower-bytes")
    inside = {"per_device_train_batch_size": 1 if joined else pictures, "images": None, "image_tokens": 0, "data": None}
    inside["max_length"] = seen.patches * (pictures if joined else 1)
    there = replace(stack, setup=replace(setup, **inside)).with_habits(fast_blocks=False)
    there = _raised(there, tower, device)
    shape = model_shape(tower, carried)
    behind_patch = round(behind * seen.tokens / (seen.tiles * seen.patches))
    shape = shape._replace(active_weights=shape.active_weights + behind_patch)
    blocks = [Block(kind, tower, there) for kind in shape.kinds]
    kept, gradients = [block.kept()[0] for block in blocks], max(block.gradients() for block in blocks)
    outside = 2.0 * stack.residual_bytes * batch * setup.image_tokens * model.hidden_size
    outside += 2.0 * there.setup.max_length**2 if joined else 0.0
    forward = 0.0, max(kept)
    held = sum(block.kind.count * each for block, each in zip(blocks, kept, strict=True))
    backward = held, held + gradients
    if there.checkpoints:
        held = checkpoint_bytes(tower, shape, there)
        backward = held, held + max(kept) + gradients
    flows = trained or bool(carried)
    expected = backward if flows or there.checkpoints else forward
    ends = [(share.low, backward if flows else forward), (share.expected, expected), (share.high, expected)]
    seconds = duration_terms(tower, shape, there, device, weight_gradients=trained)
    if seconds is not None:
        factor = stack.assume.range("vision-tower-seconds")
        factor = factor if flows else Range(factor.low / 3, factor.expected, factor.high)  # a forward pass alone
        seconds = seconds._replace(work=seconds.work.multiplied(factor))
    return [(outside + part * stays, outside + part * peak) for part, (stays, peak) in ends], seconds


def _with_tower(duration: DurationTerms | None, seconds: DurationTerms | None) -> DurationTerms | None:
    """Return the times of the text model with those of the vision tower, if both are known."""
    if not (duration and seconds):
        return duration
    parts = ("work", "work_per_rank", "floor")
    return duration._replace(**{each: getattr(duration, each).plus(getattr(seconds, each)) for each in parts})


def _raised(stack: Stack, model: ModelSpec, device: Device) -> Stack:
    """Return the stack with its fp32 decisions: hidden states in fp32, where autocast runs LayerNorm or an activation
    function (Apertus' xIELU) in fp32, since bitsandbytes' layers return their input's dtype (nn/modules.py,
    Linear4bit.forward); all in fp32, where RankViz's scripts for TRL and PEFT train so."""
    habits, setup = stack.habits, stack.setup
    in_fp32 = setup.precision != "fp32" and "fp32" == compute_dtype(model.model_type, setup, bf16=device.has_bf16)
    if stack.measured_habits is None and in_fp32:
        return stack.with_habits(fp32_compute=True, autocast=False, adapter_parameter_bytes=4, saved_parameter_bytes=4)
    norms = [module for module in model.plain_modules if module.is_norm and module.part != "vision"]
    layer_norms = any(tensor.name == "bias" for module in norms for tensor in module.tensors)  # RMS norms have none
    quantizes = setup.quantized and model.unquantized_parameters < model.total_parameters
    if not (layer_norms or model.model_type == "apertus") or not quantizes or habits.unsloth_kernels:
        return stack
    return stack.with_habits(raised="norms" if stack.autocasts and habits.raised == "none" else habits.raised)


@lru_cache(maxsize=512)
def _shape(plan: AdapterPlan) -> ModelShape:
    return model_shape(plan.model, plan.adapted)


def full_finetuning(
    model: ModelSpec, setup: TrainingSetup, gpu: Gpu | None, usable_bytes: float | None, assumptions: Assumptions
) -> tuple[Literal["bf16", "fp32"], MemoryEstimate, DurationEstimate | None]:
    """Return dtype, memory and time of full fine-tuning with this set-up's batch, length, checkpointing, loss and
    optimizer. Its precision counts only if it is fp32; any other is replaced by 16-bit training."""
    dtype = "fp32" if setup.precision == "fp32" or (gpu is not None and not gpu.supports_bf16) else "bf16"
    computed = "fp32" if setup.precision == "fp32" else "bf16"
    stack = Stack(setup=replace(setup.fitted, precision=computed), use_dora=False, assume=assumptions, gpu=gpu)
    shape, total = model_shape(model, ()), model.total_parameters
    towers, seconds = _tower(model, (), stack, card(gpu), trained=True)
    tower = towers[len(towers) // 2]
    terms = MemoryTerms(model, shape, stack, "mac" if stack.habits.mlx else "", tower=tower)
    plain = stack if stack.habits.mlx else replace(stack, setup=replace(stack.setup, framework="trl"))
    terms.train_everything(MemoryTerms(model, shape, plain), DTYPE_BYTES[dtype], model, stack)
    duration = _with_tower(duration_terms(model, shape, stack, card(gpu), weight_gradients=True), seconds)
    return dtype, terms.on(usable_bytes).at(0, total, total), duration and duration.at(0)
