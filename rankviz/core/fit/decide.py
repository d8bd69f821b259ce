"""Makes all decisions about one question at one rank: changes, GPUs and methods, as sentences and as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import DurationEstimate, cost, price_of
from rankviz.core.cost.estimate import Fit, fit, spare, tight_meaning, usable_memory
from rankviz.core.cost.predict import full_finetuning
from rankviz.core.cost.question import Question, validate_price
from rankviz.core.cost.setup import Gpu, Price
from rankviz.core.fit.changes import RULE, Knob, Limit, Remedy, Setting, knobs, limits, remedy, setting, sixteen_bit
from rankviz.core.from_json import as_answer
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range, RangeJSON, WholeRangeJSON
from rankviz.errors import InvalidSettingError
from rankviz.units import duration, gib, memory_size, usd

LOWERED = {"r": "a lower rank", "batch": "a smaller batch", "max_length": "a shorter length"}
"""Option of a limit: in words."""
FIT_ORDER = {"fits": 0, "tight": 0, "uncertain": 1, "does_not_fit": 2, None: 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class FittingCard:
    """One GPU with this setting on it."""

    gpu: Gpu
    usable: Range
    price: Price | None
    fit: Fit | None = None
    """None where the setting can't run on it; `reason` says why."""
    spare: Range | None = None
    seconds: Range | None = None
    usd: Range | None = None
    reason: str = ""

    @property
    def fits(self) -> bool:
        return self.fit in ("fits", "tight")


def cards(start: Setting, gpus: Sequence[Gpu], prices: Mapping[str, float]) -> tuple[FittingCard, ...]:
    """All GPUs, those that fit first, the cheapest first. prices: the user's own, by id, in USD an hour."""

    def order(card: FittingCard) -> tuple:
        total = card.usd.expected if card.usd else math.inf
        return FIT_ORDER[card.fit], total, card.gpu.memory_bytes, card.gpu.id

    return tuple(sorted((_card(start, gpu, prices) for gpu in gpus), key=order))


def _card(start: Setting, gpu: Gpu, prices: Mapping[str, float]) -> FittingCard:
    own = prices.get(gpu.id)
    if own is None and start.gpu is not None and gpu.id == start.gpu.id:
        own = start.question.usd_per_hour
    card = FittingCard(gpu=gpu, usable=usable_memory(gpu, start.assumptions), price=price_of(gpu, own))
    try:
        there = setting(start.model, replace(start.question, gpu=gpu.id, usd_per_hour=own), gpu, start.assumptions)
    except InvalidSettingError as error:
        return replace(card, reason=str(error))
    row = there.row
    return replace(card, fit=row.fit, spare=row.spare, **_costs(row.duration, there.answer.price))


def _costs(duration: DurationEstimate | None, price: Price | None) -> dict[str, Range | None]:
    paid = duration and cost(duration, price)
    return {"seconds": duration and duration.total, "usd": paid and paid.usd}


MethodName = Literal["qlora", "lora", "full"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One way to train the same data."""

    name: MethodName
    label: str
    precision: str
    """Precision of the base; for full fine-tuning of weights, gradients and optimizer states."""
    trained_parameters: int
    saved_bytes: int
    saved_exact: bool
    """False for full fine-tuning, whose checkpoint is counted without its headers."""
    device: Range
    """Bytes, as nvidia-smi shows."""
    fit: Fit | None
    spare: Range | None
    seconds: Range | None
    usd: Range | None
    chosen: bool
    """Whether this is what the question asks."""


def methods(start: Setting) -> tuple[Method, ...]:
    """QLoRA, 16-bit LoRA and full fine-tuning; an adapter's row is left out where its precision can't be asked or
    overflows."""
    rows, adapters = [], (("qlora", "QLoRA", "nf4-dq"), ("lora", "LoRA, 16-bit base", sixteen_bit(start)))
    for name, label, precision in adapters:
        try:
            there = start.with_change({"precision": precision}) if precision else None
        except InvalidSettingError:
            there = None
        if there:
            row = there.row
            rows.append(
                Method(
                    name=name,
                    label=label,
                    precision=precision,
                    trained_parameters=row.adapter_parameters,
                    saved_bytes=row.adapter_bytes,
                    saved_exact=True,
                    device=row.memory.device_band,
                    fit=row.fit,
                    spare=row.spare,
                    **_costs(row.duration, start.answer.price),
                    chosen=precision == start.question.training.precision,
                )
            )
    answer, usable, assume = start.answer, start.answer.usable_bytes, start.assumptions
    full = full_finetuning(answer.model, start.question.training, start.gpu, usable and usable.expected, assume)
    device = full.memory.device_band
    left = usable and spare(device, usable)
    return (
        *rows,
        Method(
            name="full",
            label="Full fine-tuning",
            precision=full.dtype,
            trained_parameters=full.trained_parameters,
            saved_bytes=full.saved_bytes,
            saved_exact=False,
            device=device,
            fit=left and fit(left, usable, assume),
            spare=left,
            **_costs(full.duration, answer.price),
            chosen=False,
        ),
    )


def fit_in_words(start: Setting) -> str:
    """Whether it fits, with the expected memory; where it may not, what to change."""
    row = start.row
    if start.gpu is None or row.fit is None:
        return "No GPU is selected, so it is not known whether the run fits."
    name, r = start.gpu.name, start.r
    memory = f"{memory_size(row.memory.fullest)} expected{' while loading' if row.memory.fuller_while_loading else ''}"
    if row.fit in ("fits", "tight"):
        return f"r = {r} {'fits' if row.fit == 'fits' else 'barely fits'} {name}: {memory}."
    lead = f"r = {r} does not fit {name}: {memory}, {memory_size(start.answer.usable_bytes.expected)} usable."
    if row.fit == "uncertain":
        lead = f"Whether r = {r} fits {name} is uncertain: {memory}, and the limit of the card is inside its range."
    known = limits(start)
    return f"{lead} {_change_in_words(start, known, remedy(start, known))}"


def _change_in_words(start: Setting, known_limits: Sequence[Limit], cure: Remedy, elsewhere: str = "") -> str:
    """Sentence on the change that is needed, if any. elsewhere: a clause on other GPUs."""
    if not cure.needed:
        tight = f", with {tight_meaning(start.assumptions)}" if start.row.fit == "tight" else ""
        return f"It fits without changes{tight}."
    if cure.smallest:
        text = f"Smallest change that makes it fit: {cure.smallest.label} ({_effect(cure.smallest)})."
        return " ".join(filter(None, [text, _not_enough(start, known_limits)]))
    if cure.helps_most:
        short = gib(-cure.helps_most.spare.low)
        most = f"{cure.helps_most.label} helps most ({_effect(cure.helps_most)}), but up to {short} are still missing"
    else:
        loading = start.row.memory.fuller_while_loading
        most = "no setting lowers what loading takes" if loading else "no setting is left that lowers it"
    return f"No single change makes it fit: {most}{elsewhere and '; '}{elsewhere}."


def _not_enough(start: Setting, known_limits: Sequence[Limit]) -> str:
    """Which of rank, batch and length cannot make it fit by themselves, however low; empty where each can."""
    training = start.question.training
    now = {"r": start.r, "batch": training.per_device_train_batch_size, "max_length": training.fitted_length}
    names = [LOWERED[each.option] for each in known_limits if each.surely is None and now[each.option] > 1]
    if not names:
        return ""
    text = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"{text[0].upper()}{text[1:]} alone is not enough."


def _effect(knob: Knob) -> str:
    less = f"{memory_size(-knob.device_bytes)} less"
    if knob.seconds is None:
        return less
    more = "more" if knob.seconds > 0 else "less"
    return f"{less}, {'same time' if abs(knob.seconds) < 1 else f'{duration(abs(knob.seconds))} {more}'}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FitAnswer:
    """All decisions about one setting."""

    setting: Setting
    limits: tuple[Limit, ...]
    """Rank, batch, length; empty without a GPU."""
    knobs: tuple[Knob, ...]
    remedy: Remedy
    cards: tuple[FittingCard, ...]
    methods: tuple[Method, ...]

    @property
    def cheapest(self) -> FittingCard | None:
        """The first card that fits with a known total; where no total is known, the first that fits."""
        return next((card for card in self.cards if card.fits), None)

    @property
    def fitting(self) -> int:
        """GPUs of the table on which it fits, tight or not."""
        return sum(card.fits for card in self.cards)

    @property
    def tight(self) -> int:
        """GPUs of the table on which it fits with little room."""
        return sum(card.fit == "tight" for card in self.cards)

    @property
    def sentence(self) -> str:
        """Sentence on the change that is needed, if any."""
        cheapest = self.cheapest
        total = f", about {usd(cheapest.usd.expected)}" if cheapest and cheapest.usd else ""
        elsewhere = f"the cheapest GPU that fits is the {cheapest.gpu.name}{total}" if cheapest else ""
        if self.setting.gpu is None:
            return f"No GPU is chosen; {elsewhere}." if elsewhere else "No GPU is chosen, and no GPU of the table fits."
        return _change_in_words(self.setting, self.limits, self.remedy, elsewhere or "no GPU of the table fits either")


def decide(
    model: ModelSpec,
    question: Question,
    gpu: Gpu | None,
    gpus: Sequence[Gpu],
    assumptions: Assumptions,
    prices: Mapping[str, float] | None = None,
) -> FitAnswer:
    """Decide for a question with one rank. gpus: the table. prices: the user's own, by GPU id, in USD an hour."""
    own = dict(prices or {})
    for each in gpus:
        if each.id in own:
            validate_price(own[each.id], of=each.name)
    start = setting(model, question, gpu, assumptions)
    known_limits = limits(start)
    return FitAnswer(
        setting=start,
        limits=known_limits,
        knobs=knobs(start),
        remedy=remedy(start, known_limits),
        cards=cards(start, gpus, own),
        methods=methods(start),
    )


class LimitJSON(TypedDict):
    """The largest value of a setting that surely fits and that is expected to; null: not even 1."""

    surely: int | None
    expected: int | None
    ceiling: int
    note: str


class KnobJSON(TypedDict):
    """One changed setting and its effect: bytes on the GPU, seconds for the same tokens and US dollars, each more than
    before (negative: less), and what fits then."""

    label: str
    change: dict[str, str | int | float | bool]
    same_result: bool
    device_bytes: int
    seconds: float | None
    usd: float | None
    fit: Fit | None
    margin_bytes: WholeRangeJSON | None
    peak: str


class GpuJSON(TypedDict):
    """One GPU with this setting; `reason` says why it can't run there."""

    gpu_id: str
    gpu: str
    fit: Fit | None
    reason: str
    usable_bytes: WholeRangeJSON
    margin_bytes: WholeRangeJSON | None
    usd_per_hour: float | None
    provider: str | None
    price_checked: str | None
    seconds: RangeJSON | None
    usd: RangeJSON | None


class MethodJSON(TypedDict):
    """QLoRA, LoRA or full fine-tuning of the same data. `saved_bytes` is exact where `saved_exact` says so."""

    name: str
    label: str
    precision: str
    chosen: bool
    trained_parameters: int
    saved_bytes: int
    saved_exact: bool
    device_bytes: WholeRangeJSON
    fit: Fit | None
    margin_bytes: WholeRangeJSON | None
    seconds: RangeJSON | None
    usd: RangeJSON | None


class FitJSON(TypedDict):
    """What fits, the effect of each change, and where it fits. Limits are by setting: r, batch, max_length; without a
    GPU there are none."""

    model_id: str
    r: int
    gpu: str | None
    gpu_id: str | None
    precision: str
    tokens: int
    usable_bytes: WholeRangeJSON | None
    device_bytes: WholeRangeJSON
    margin_bytes: WholeRangeJSON | None
    fit: Fit | None
    limits: dict[str, LimitJSON]
    knobs: list[KnobJSON]
    sentence: str
    smallest_change: KnobJSON | None
    helps_most: KnobJSON | None
    rule: str
    cheapest_gpu: str | None
    gpus: list[GpuJSON]
    methods: list[MethodJSON]
    notes: list[str]


def as_json(decided: FitAnswer) -> FitJSON:
    """The decisions as `rankviz fit --json` prints them."""
    start, cure = decided.setting, decided.remedy
    row, answer = start.row, start.answer
    return as_answer(
        FitJSON,
        row,
        model_id=answer.model.id,
        gpu=start.gpu and start.gpu.name,
        gpu_id=start.gpu and start.gpu.id,
        precision=start.question.training.precision,
        tokens=start.tokens,
        usable_bytes=answer.usable_bytes,
        device_bytes=row.memory.device_band,
        margin_bytes=row.spare,
        limits={limit.option: as_answer(LimitJSON, limit) for limit in decided.limits},
        knobs=[_knob(knob) for knob in decided.knobs],
        sentence=decided.sentence,
        smallest_change=cure.smallest and _knob(cure.smallest),
        helps_most=cure.helps_most and _knob(cure.helps_most),
        rule=RULE,
        cheapest_gpu=decided.cheapest and decided.cheapest.gpu.name,
        gpus=[_gpu(card) for card in decided.cards],
        methods=[
            as_answer(MethodJSON, each, device_bytes=each.device, margin_bytes=each.spare) for each in decided.methods
        ],
        notes=start.notes,
    )


def _knob(knob: Knob) -> KnobJSON:
    return as_answer(KnobJSON, knob, change=dict(knob.change), margin_bytes=knob.spare)


def _gpu(card: FittingCard) -> GpuJSON:
    paid = card.price
    return as_answer(
        GpuJSON,
        card,
        gpu_id=card.gpu.id,
        gpu=card.gpu.name,
        usable_bytes=card.usable,
        margin_bytes=card.spare,
        usd_per_hour=paid and paid.usd_per_hour,
        provider=paid and paid.provider,
        price_checked=paid and paid.checked,
    )
