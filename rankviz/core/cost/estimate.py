"""Estimates one model and set-up at several ranks: exact adapter sizes, and ranges for memory, time and cost.

What doesn't depend on rank is worked out once a question, so that a rank costs some multiplications: nine ranks of
any catalogue model take under a millisecond.
"""

from dataclasses import dataclass, replace
from typing import Literal

from rankviz.core.cost.adapter import dtype_on, file_bytes_on
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.device import Device, card
from rankviz.core.cost.duration import CostEstimate, DurationEstimate, cost, price_of
from rankviz.core.cost.gpu import Gpu, Price
from rankviz.core.cost.memory.estimate import MemoryEstimate
from rankviz.core.cost.notes.estimate import question_notes, unsloth_notes
from rankviz.core.cost.predict import Prediction, predict
from rankviz.core.cost.question import Question
from rankviz.core.cost.stack import Stack, stack_on
from rankviz.core.lora.config import LoraConfig, lora_alpha, scale
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.units import GB, GIB

Fit = Literal["fits", "tight", "uncertain", "does_not_fit"]
FIT_WORDS: dict[Fit, str] = {
    "fits": "fits",
    "tight": "fits, tight",
    "uncertain": "uncertain",
    "does_not_fit": "does not fit",
}
"""What a reader sees of each verdict."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankEstimate:
    """One rank."""

    r: int
    lora_alpha: float
    scale: float
    """What B·A is multiplied by."""
    adapter_parameters: int
    adapter_bytes: int
    """Of adapter_model.safetensors, header included."""
    memory: MemoryEstimate
    duration: DurationEstimate | None
    """None where there is no GPU or its speed is not known; the notes say which."""
    cost: CostEstimate | None
    fit: Fit | None
    """None without a GPU."""
    spare: Range | None
    """Usable memory less what nvidia-smi would show at the fullest moment of loading and training, in bytes: negative
    where that is more. Each usable memory that the
    card may have is compared with what this training takes there."""
    margin_bytes: int | None
    """Usable memory minus the expected figure of nvidia-smi at that moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """All ranks of a question."""

    model: ModelSpec
    question: Question
    gpu: Gpu | None
    usable_bytes: Range | None
    price: Price | None
    plan: AdapterPlan
    adapter_dtype: str
    attention_kernel: str | None
    """Which kernel attends, as core.cost.attention names them; None where no block attends."""
    ranks: tuple[RankEstimate, ...]
    notes: tuple[str, ...]


def estimate(model: ModelSpec, question: Question, gpu: Gpu | None, assumptions: Assumptions) -> Estimate:
    """The answer for every rank of the question; InvalidSettingError says what to change."""
    question.validate(gpu)
    device = card(gpu)
    setup = question.training.without_auto(device)
    if setup is not question.training:
        question = replace(question, training=setup)
    stack = stack_on(device, setup, question.lora.use_dora, assumptions)
    usable = usable_memory(gpu, assumptions) if gpu else None
    first = question.lora_at(question.ranks[0])
    predicted = predict(model, first, stack, device, usable_bytes=usable.expected if usable else None)
    elsewhere = _at_both_ends(model, first, stack, device, usable)
    model, plan, price = predicted.plan.model, predicted.plan, price_of(gpu, question.usd_per_hour) if gpu else None

    def at(r: int) -> RankEstimate:
        memory, duration, alpha = predicted.memory_at(r), predicted.duration_at(r), lora_alpha(question.alpha, r)
        left = spare(memory.fullest_band, usable) if usable else None
        if elsewhere:
            smallest, largest = (there.memory_at(r) for there in elsewhere)
            ends = (
                usable.low - smallest.fullest_band.high,
                usable.expected - memory.fullest_band.high,
                usable.high - largest.fullest_band.high,
            )
            most = max(usable.low - smallest.fullest_band.low, usable.high - largest.fullest_band.low)
            left = Range(min(*ends, left.expected), left.expected, max(most, left.expected))
            memory = memory.covering(smallest).covering(largest)
        return RankEstimate(
            r=r,
            lora_alpha=alpha,
            scale=scale(r, alpha, use_rslora=question.lora.use_rslora),
            adapter_parameters=plan.parameters(r),
            adapter_bytes=file_bytes_on(plan, r, setup, device),
            memory=memory,
            duration=duration,
            cost=cost(duration, price) if duration else None,
            fit=fit(left, usable, assumptions.value("tight-share")) if usable else None,
            spare=left,
            margin_bytes=round(usable.expected - memory.fullest_band.expected) if usable else None,
        )

    each = tuple(at(r) for r in question.ranks)
    return Estimate(
        model=model,
        question=question,
        gpu=gpu,
        usable_bytes=usable,
        price=price,
        plan=plan,
        adapter_dtype=dtype_on(model, setup, device),
        attention_kernel=predicted.attention.kernel if predicted.attention else None,
        ranks=each,
        notes=(
            *plan.notes,
            *predicted.notes,
            *question_notes(model, question, gpu, price, assumptions),
            *unsloth_notes(
                model, question, stack, device, {rank.r: rank.memory for rank in each}, predicted, elsewhere
            ),
        ),
    )


def usable_memory(gpu: Gpu, assumptions: Assumptions) -> Range:
    """What a program can have of the card: as torch reported it or, where that was never seen, a share of what is
    sold, in GiB for each GB of the name."""
    if gpu.usable_bytes is not None:
        return Range(gpu.usable_bytes, gpu.usable_bytes, gpu.usable_bytes)
    return assumptions.range("usable-share-of-nominal").times(gpu.memory_bytes / GB * GIB)


def _at_both_ends(
    model: ModelSpec, lora: LoraConfig, stack: Stack, device: Device, usable: Range | None
) -> tuple[Prediction, ...]:
    """The prediction on the smallest and on the largest card that this one may be, where Unsloth decides by its memory
    what to keep on it; empty elsewhere."""
    if usable is None or usable.low == usable.high or not stack.habits.unsloth_kernels:
        return ()
    return tuple(predict(model, lora, stack, device, usable_bytes=end) for end in (usable.low, usable.high))


def spare(device: Range, usable: Range) -> Range:
    """Usable memory less the band around nvidia-smi's figure."""
    return Range(usable.low - device.high, usable.expected - device.expected, usable.high - device.low)


def fit(spare: Range, usable: Range, tight_share: float) -> Fit:
    """What the band around nvidia-smi's figure leaves of usable, not nominal, memory.

    fits: the whole band, with tight_share of the card to spare. tight: the whole band, with less. does_not_fit: not
    even the low end. uncertain: the card's edge lies inside the band (or its usable memory isn't known well enough).
    """
    if spare.low >= usable.low * tight_share:
        return "fits"
    if spare.low >= 0:
        return "tight"
    if spare.high < 0:
        return "does_not_fit"
    return "uncertain"


def tight_meaning(assumptions: Assumptions) -> str:
    """What "tight" says, as a clause."""
    return f"less than {100 * assumptions.value('tight-share'):g} % to spare"
