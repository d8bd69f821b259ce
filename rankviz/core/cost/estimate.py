"""Estimates one model and set-up at several ranks: exact adapter sizes, and ranges of memory, time and cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypedDict

from rankviz.core.cost.cards import SeveralGpus
from rankviz.core.cost.duration import DurationEstimate, price_of, usd_of
from rankviz.core.cost.grpo import RolloutJSON, grpo_notes, why_not, with_rollout
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.notes import attention_notes, by_name, mlx_notes, question_notes, several_notes, unsloth_notes
from rankviz.core.cost.predict import Prediction, predict, with_images
from rankviz.core.cost.question import Question, adapter_bytes_on, dtype_on
from rankviz.core.cost.setup import Gpu, Price, card
from rankviz.core.cost.shapes import heaviest
from rankviz.core.cost.stack import Stack, stack_on
from rankviz.core.from_json import as_answer, shape
from rankviz.core.images import Seen, seen_by
from rankviz.core.lora.config import Framework, lora_alpha, scale_at
from rankviz.core.lora.notes import experts_at
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Assumptions, Range, brief, by_level
from rankviz.units import GB, GIB

Fit = Literal["fits", "tight", "uncertain", "does_not_fit"]
FIT_WORDS = {"fits": "fits", "tight": "fits, tight", "uncertain": "uncertain", "does_not_fit": "does not fit"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RankEstimate:
    """Size, memory, time, cost and fit at one rank."""

    r: int
    lora_alpha: float
    scale: float
    """Factor by which B·A is multiplied: alpha / r, or alpha / sqrt(r) with rsLoRA."""
    adapter_parameters: int
    adapter_bytes: int
    memory: MemoryEstimate
    duration: DurationEstimate | None
    """Time; None without a GPU, or for a GPU of unknown speed (the notes say which)."""
    usd: Range | None
    """Cost of the whole training in US dollars; None without a price, and where the time is not known."""
    fit: Fit | None
    """Fit of the training on the GPU; None without a GPU."""
    spare: Range | None
    """Usable bytes of the card minus the peak that nvidia-smi shows in loading and training; negative where memory is
    short. Where usable memory is a range, each end is compared with the memory of this training on such a card."""
    refused: str = ""
    """With GRPO, why it cannot start, whatever memory is free; `fit` is then "does_not_fit"."""
    rollout: Mapping[str, Any] | None = None
    """With GRPO, memory and time of the trainer and of generation, by the keys of RolloutJSON."""

    @property
    def margin_bytes(self) -> int | None:
        """Expected value of `spare` in bytes; None without a GPU."""
        return round(self.spare.expected) if self.spare else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Answer to a question: estimates at all its ranks."""

    __repr__ = brief

    model: ModelSpec
    question: Question
    gpu: Gpu | None
    assumptions: Assumptions
    usable_bytes: Range | None
    price: Price | None
    plan: AdapterPlan
    adapter_dtype: str
    attention_kernel: str | None
    """Attention kernel that holds the most memory (see core.cost.shapes); None for a model without attention."""
    ranks: tuple[RankEstimate, ...]
    notes: tuple[str, ...]
    several_gpus: SeveralGpus | None = None
    """Division over several GPUs; `ranks` then has the memory of each, and time and cost of all. None for one GPU."""

    @property
    def row(self) -> RankEstimate:
        """The only rank, where the question has one; the first of several."""
        return self.ranks[0]


class AnyRank(NamedTuple):
    """Estimates of one question at any rank, without notes, and what they rest on."""

    at: Callable[[int], RankEstimate]
    question: Question  # with the tokens of its images
    stack: Stack
    predicted: Prediction
    usable: Range | None
    price: Price | None


def any_rank(model: ModelSpec, question: Question, gpu: Gpu | None, assumptions: Assumptions) -> AnyRank:
    """Return the estimates of a question at any rank; raise InvalidSettingError for an invalid setting."""
    question.validate(gpu)
    device = card(gpu)
    setup = with_images(model, question.training.without_auto(device), text_only=question.lora.text_only)
    stored = by_name(question.model_id) if setup.quantized and setup.framework in ("trl", "peft") else None
    if stored and stored.config_class:  # transformers dequantizes it, and quantizes it in no other way
        setup = replace(setup, precision="bf16" if device.has_bf16 else "fp16")
    question = question if setup is question.training else replace(question, training=setup)
    stack = stack_on(device, setup, question.lora.use_dora, assumptions)
    usable = usable_memory(gpu, assumptions) if gpu else None
    predicted = predict(model, question.lora, stack, device, usable_bytes=usable and usable.expected)
    elsewhere: tuple[Prediction, ...] = ()
    if usable and usable.low != usable.high and stack.habits.unsloth_kernels:
        # Unsloth decides by the card's memory what to keep on it: also the smallest and the largest that it may have
        ends = usable.low, usable.high
        elsewhere = tuple(predict(model, question.lora, stack, device, usable_bytes=end) for end in ends)
    plan, price = predicted.plan, price_of(gpu, question.usd_per_hour) if gpu else None

    def at(r: int) -> RankEstimate:
        memory, duration, alpha = predicted.memory_at(r), predicted.duration_at(r), lora_alpha(question.lora_alpha, r)
        rollout, refused = None, ""
        if setup.grpo:
            refused = why_not(predicted, r, usable and usable.expected)
            memory, duration, rollout = with_rollout(predicted, r, usable and usable.expected)
        left = usable and spare(memory.fullest_band, usable)
        if elsewhere:
            smallest, largest = (there.memory_at(r) for there in elsewhere)
            ends = (usable.low, usable.expected, usable.high)
            if setup.grpo:
                smallest, largest = (with_rollout(*each)[0] for each in zip(elsewhere, (r, r), ends[::2], strict=True))
            bands = (smallest.fullest_band, memory.fullest_band, largest.fullest_band)
            least = min(end - band.high for end, band in zip(ends, bands, strict=True))
            most = max(usable.low - bands[0].low, usable.high - bands[2].low)
            left = Range(min(least, left.expected), left.expected, max(most, left.expected))
            memory = memory.covering(smallest).covering(largest)
        return RankEstimate(
            r=r,
            lora_alpha=alpha,
            scale=scale_at(r, alpha, use_rslora=question.lora.use_rslora),
            adapter_parameters=plan.parameters(r),
            adapter_bytes=adapter_bytes_on(plan, r, setup, device),
            memory=memory,
            duration=duration,
            usd=usd_of(duration, price, setup.gpus),
            fit=usable and ("does_not_fit" if refused else fit(left, usable, assumptions)),
            spare=left,
            refused=refused,
            rollout=rollout,
        )

    return AnyRank(at, question, stack, predicted, usable, price)


def estimate(model: ModelSpec, question: Question, gpu: Gpu | None, assumptions: Assumptions) -> Estimate:
    """Return the estimates at every rank of the question; raise InvalidSettingError for an invalid setting."""
    at, question, stack, predicted, usable, price = any_rank(model, question, gpu, assumptions)
    model, plan, setup, device = predicted.plan.model, predicted.plan, question.training, card(gpu)
    ranks = tuple(at(r) for r in question.ranks)
    attention = heaviest(model, predicted.shape, predicted.stack)
    noted = next((each.r for each in ranks if each.refused), ranks[0].r)
    return Estimate(
        model=model,
        question=question,
        gpu=gpu,
        assumptions=assumptions,
        usable_bytes=usable,
        price=price,
        plan=plan,
        adapter_dtype=dtype_on(model, setup, device),
        attention_kernel=attention and attention.kernel,
        ranks=ranks,
        notes=(
            *plan.notes,
            *attention_notes(predicted),
            *mlx_notes(predicted, gpu, usable),
            *question_notes(model, question, gpu, price, assumptions),
            *unsloth_notes(model, question, stack, device, {each.r: each.memory for each in ranks}, predicted.memory),
            *several_notes(predicted.several, setup, gpu),
            *(grpo_notes(predicted, noted, usable and usable.expected) if setup.grpo else ()),
        ),
        several_gpus=predicted.several,
    )


def usable_memory(gpu: Gpu, assumptions: Assumptions) -> Range:
    """Return the bytes of the card that a program can use, as torch reported them. Without a report: a share of the
    nominal size, read as GiB; of a Mac, whose size is in GiB, the share that macOS lets the GPU wire by default."""
    if gpu.usable_bytes is not None:
        return Range(gpu.usable_bytes, gpu.usable_bytes, gpu.usable_bytes)
    share = "nominal" if not gpu.is_mac else "mac" if gpu.memory_bytes >= 36 * GIB else "small-mac"
    nominal = gpu.memory_bytes if gpu.is_mac else gpu.memory_bytes / GB * GIB
    return assumptions.range(f"usable-share-of-{share}").times(nominal)


def spare(device: Range, usable: Range) -> Range:
    """Return the bytes that remain free: usable bytes minus `device`, the range that nvidia-smi shows."""
    return Range(usable.low - device.high, usable.expected - device.expected, usable.high - device.low)


def fit(spare: Range, usable: Range, assumptions: Assumptions) -> Fit:
    """Return the verdict on a training with this range of free bytes, of usable (not nominal) memory. fits: the whole
    range is free, with the share "tight-share" of the card to spare. tight: less to spare. does_not_fit: the whole
    range is short. uncertain: 0 lies inside the range, or usable memory is not known exactly."""
    if spare.low >= usable.low * assumptions.value("tight-share"):
        return "fits"
    if spare.low >= 0:
        return "tight"
    if spare.high < 0:
        return "does_not_fit"
    return "uncertain"


def tight_meaning(assumptions: Assumptions) -> str:
    """Return a clause that says what "tight" means."""
    return f"less than {100 * assumptions.value('tight-share'):g} % to spare"


COMPONENTS = ("base_weights", "adapter", "gradients", "optimizer", "activations", "logits", "other")
TOTALS = ("allocated", "reserved", "device", "low", "high", "while_loading")
MemoryJSON = TypedDict("MemoryJSON", dict.fromkeys((*COMPONENTS, *TOTALS), int))
MemoryJSON.__doc__ = """Bytes of GPU memory: components that add up to allocated; what the allocator reserves, and
nvidia-smi shows (device), with the band around the last; and what nvidia-smi shows while the base is loaded."""
RangeJSON = shape(Range)


class RankJSON(TypedDict):
    """One rank. Without a GPU there is no time, cost or fit. `scale`: factor of B·A. `expert_rank`: rank of each
    expert, null where none has LoRA. `experts`: how they carry LoRA, empty without experts. `margin_bytes`: usable
    memory minus the expected peak that nvidia-smi shows, in loading or training. `rollout`: null without GRPO."""

    r: int
    lora_alpha: float
    scale: float
    adapter_parameters: int
    adapter_percent: float
    adapter_bytes: int
    adapter_dtype: str
    targets: list[str]
    expert_rank: int | None
    experts: str
    memory_bytes: MemoryJSON
    seconds: RangeJSON | None
    step_seconds: RangeJSON | None
    load_seconds: RangeJSON | None
    usd: RangeJSON | None
    fit: Fit | None
    margin_bytes: int | None
    rollout: RolloutJSON | None


class EstimateJSON(TypedDict):
    """All ranks of a question. `attention_kernel` is the kernel that takes most memory: flash, cudnn, efficient, flex,
    math or eager; the last two hold a matrix of length × length for each head. `images`: one image as the model gets
    it, null without images. `warnings` are the most important notes. `several_gpus` is null for one GPU; for several,
    memory and margin are those of each, time and cost those of all together."""

    model_id: str
    total_parameters: int
    gpu: str | None
    gpu_id: str | None
    usable_bytes: RangeJSON | None
    usd_per_hour: float | None
    price_source: str | None
    framework: Framework
    scheme: str
    adapter_dtype: str
    attention_kernel: str | None
    steps: int
    tokens_per_step: int
    images: shape(Seen) | None
    ranks: list[RankJSON]
    notes: list[str]
    warnings: list[str]
    several_gpus: shape(SeveralGpus) | None


class CalibrationJSON(TypedDict):
    """Probes and runs here that changed an estimate, with the factors. A shared page names only your own."""

    calibrated: str
    probe_ids: list[str]
    run_ids: list[str]
    working_factor: float | None
    seconds_factor: float | None
    in_words: str


def estimate_as_json(answer: Estimate) -> EstimateJSON:
    """Return the answer as `rankviz estimate --json` prints it."""
    gpu, price, setup = answer.gpu, answer.price, answer.question.training
    image = setup.images and seen_by(answer.model, setup.image_size, unsloth=setup.framework == "unsloth")
    return as_answer(
        EstimateJSON,
        answer,
        model_id=answer.model.id,
        total_parameters=answer.model.total_parameters,
        gpu=gpu and gpu.name,
        gpu_id=gpu and gpu.id,
        usd_per_hour=price and price.usd_per_hour,
        price_source=price and f"{price.provider}, {price.checked}".rstrip(", "),
        framework=setup.framework,
        scheme=answer.plan.scheme,
        steps=setup.total_steps,
        tokens_per_step=setup.tokens_per_step,
        images=image,
        ranks=[_rank(rank, answer) for rank in answer.ranks],
        warnings=by_level(answer.notes)[0],
    )


def _rank(rank: RankEstimate, answer: Estimate) -> RankJSON:
    plan, duration = answer.plan, rank.duration
    return as_answer(
        RankJSON,
        rank,
        adapter_percent=100 * rank.adapter_parameters / answer.model.total_parameters,
        adapter_dtype=answer.adapter_dtype,
        targets=plan.target_names,
        expert_rank=plan.expert_rank_at(rank.r) if plan.trains_experts else None,
        experts=experts_at(plan, rank.r),
        memory_bytes=as_answer(MemoryJSON, rank.memory),
        seconds=duration and duration.total,
        step_seconds=duration and duration.step,
        load_seconds=duration and duration.load,
        rollout=rank.rollout and as_answer(RolloutJSON, None, **rank.rollout),
    )
