"""Makes all decisions about one question at one rank: changes, GPUs and methods, as sentences and as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import DurationEstimate, cost, price_of
from rankviz.core.cost.estimate import Fit, fit, spare, tight_meaning, usable_memory
from rankviz.core.cost.predict import full_finetuning
from rankviz.core.cost.question import Question, validate_price
from rankviz.core.cost.setup import Gpu, Price
from rankviz.core.fit.changes import RULE, Knob, Limit, Setting, knobs, limits, setting, sixteen_bit, smallest_change
from rankviz.core.from_json import as_answer, shape
from rankviz.core.lora.targets import listed
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range, RangeJSON, WholeRangeJSON
from rankviz.errors import InvalidSettingError
from rankviz.units import duration, memory_size, usd

LOWERED = {"r": "a lower rank", "batch": "a smaller batch", "max_length": "a shorter length"}
"""Words for lowering a setting, by option of a Limit."""
FIT_ORDER = {"fits": 0, "tight": 0, "uncertain": 1, "does_not_fit": 2, None: 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class FittingCard:
    """One GPU, and how this setting fits on it."""

    gpu: Gpu
    usable: Range
    price: Price | None
    fit: Fit | None = None
    """Verdict; None where the setting cannot run on the GPU (`reason` says why)."""
    spare: Range | None = None
    seconds: Range | None = None
    usd: Range | None = None
    reason: str = ""

    @property
    def fits(self) -> bool:
        return self.fit in ("fits", "tight")


def cards(start: Setting, gpus: Sequence[Gpu], prices: Mapping[str, float]) -> tuple[FittingCard, ...]:
    """Return all GPUs with this setting, first those that fit, then by cost. prices: the user's, by id, in
    USD/hour."""

    def on(gpu: Gpu) -> FittingCard:
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

    def order(card: FittingCard) -> tuple:
        total = card.usd.expected if card.usd else math.inf
        return FIT_ORDER[card.fit], total, card.gpu.memory_bytes, card.gpu.id

    return tuple(sorted(map(on, gpus), key=order))


def _costs(duration: DurationEstimate | None, price: Price | None) -> dict[str, Range | None]:
    paid = duration and cost(duration, price)
    return {"seconds": duration and duration.total, "usd": paid and paid.usd}


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """QLoRA, LoRA or full fine-tuning of the same data."""

    name: Literal["qlora", "lora", "full"]
    label: str
    precision: str
    """Precision of the base; in full fine-tuning also of gradients and optimizer states."""
    chosen: bool
    """True for the method of the question."""
    trained_parameters: int
    saved_bytes: int
    saved_exact: bool
    """False for full fine-tuning, whose checkpoint is counted without its headers."""
    device_bytes: Range
    """Bytes that nvidia-smi shows."""
    fit: Fit | None
    margin_bytes: Range | None
    seconds: Range | None
    usd: Range | None


def methods(start: Setting) -> tuple[Method, ...]:
    """Return QLoRA, 16-bit LoRA and full fine-tuning, without adapters whose precision is invalid or overflows."""
    answer, usable, assume = start.answer, start.answer.usable_bytes, start.assumptions
    full = full_finetuning(answer.model, start.question.training, start.gpu, usable and usable.expected, assume)
    rows = [("full", "Full fine-tuning", full.dtype, full.trained_parameters, full.saved_bytes, full)]
    for name, label, precision in (("lora", "LoRA, 16-bit base", sixteen_bit(start)), ("qlora", "QLoRA", "nf4-dq")):
        try:
            row = start.with_change({"precision": precision}).row if precision else None
        except InvalidSettingError:
            row = None
        if row:
            rows.insert(0, (name, label, precision, row.adapter_parameters, row.adapter_bytes, row))

    def method(name: str, label: str, precision: str, parameters: int, size: int, row: Any) -> Method:
        band = row.memory.device_band
        left = usable and spare(band, usable) if name == "full" else row.spare
        return Method(
            name=name,
            label=label,
            precision=precision,
            chosen=name != "full" and precision == start.question.training.precision,
            trained_parameters=parameters,
            saved_bytes=size,
            saved_exact=name != "full",
            device_bytes=band,
            fit=left and fit(left, usable, assume),
            margin_bytes=left,
            **_costs(row.duration, answer.price),
        )

    return tuple(method(*row) for row in rows)


def fit_in_words(start: Setting) -> str:
    """Return a sentence on whether the setting fits, with the expected memory; where it may not, what to change."""
    row = start.row
    if start.gpu is None or row.fit is None:
        return "No GPU is selected, so it is not known whether the run fits."
    what = f"r = {start.r} {{}} {start.gpu.name}"
    memory = f"{memory_size(row.memory.fullest)} expected{' while loading' if row.memory.fuller_while_loading else ''}"
    if row.fit in ("fits", "tight"):
        return f"{what.format('fits' if row.fit == 'fits' else 'barely fits')}: {memory}."
    lead = f"{what.format('does not fit')}: {memory}, {memory_size(start.answer.usable_bytes.expected)} usable."
    if row.fit == "uncertain":
        lead = f"Whether {what.format('fits')} is uncertain: {memory}, and the limit of the card is inside its range."
    known = limits(start)
    return f"{lead} {_change_in_words(start, known, smallest_change(start, knobs(start), known))}"


def _change_in_words(start: Setting, known_limits: Sequence[Limit], smallest: Knob | None, elsewhere: str = "") -> str:
    """Return a sentence on the change that is needed, if any. elsewhere: a clause on other GPUs."""
    if start.row.fit in ("fits", "tight"):
        tight = f", with {tight_meaning(start.assumptions)}" if start.row.fit == "tight" else ""
        return f"It fits without changes{tight}."
    if smallest:
        effect = [f"{memory_size(-smallest.device_bytes)} less"]
        if smallest.seconds is not None:
            span = f"{duration(abs(smallest.seconds))} {'more' if smallest.seconds > 0 else 'less'}"
            effect.append("same time" if abs(smallest.seconds) < 1 else span)
        text = f"Smallest change that makes it fit: {smallest.label} ({', '.join(effect)})."
        training = start.question.training
        now = {"r": start.r, "batch": training.per_device_train_batch_size, "max_length": training.fitted_length}
        names = [LOWERED[each.option] for each in known_limits if each.surely is None and now[each.option] > 1]
        alone = listed(names).replace(" and ", " or ").capitalize()
        return f"{text} {alone} alone is not enough." if names else text
    why = ": no setting lowers what loading takes" if start.row.memory.fuller_while_loading else ""
    return f"No single change makes it fit{why}{elsewhere and '; '}{elsewhere}."


@dataclass(frozen=True, kw_only=True, slots=True)
class FitAnswer:
    """All decisions about one setting."""

    setting: Setting
    limits: tuple[Limit, ...]
    """Limits of rank, batch and length; empty without a GPU."""
    knobs: tuple[Knob, ...]
    smallest: Knob | None
    """Smallest change that makes the setting fit; None where it fits already, and where no single change is enough."""
    cards: tuple[FittingCard, ...]
    methods: tuple[Method, ...]

    @property
    def cheapest(self) -> FittingCard | None:
        """Cheapest GPU that fits, or the first that fits where no total is known; None where none fits."""
        return next((card for card in self.cards if card.fits), None)

    @property
    def helps_most(self) -> Knob | None:
        """Change that lowers memory most, where no single change makes the setting fit; else None."""
        if self.smallest or self.setting.row.fit in (None, "fits", "tight"):
            return None
        return min(self.knobs, key=lambda knob: knob.device_bytes, default=None)

    @property
    def sentence(self) -> str:
        """Sentence on the change that is needed, if any."""
        cheapest = self.cheapest
        total = f", about {usd(cheapest.usd.expected)}" if cheapest and cheapest.usd else ""
        elsewhere = f"the cheapest GPU that fits is the {cheapest.gpu.name}{total}" if cheapest else ""
        if self.setting.gpu is None:
            return f"No GPU is chosen; {elsewhere}." if elsewhere else "No GPU is chosen, and no GPU of the table fits."
        return _change_in_words(
            self.setting, self.limits, self.smallest, elsewhere or "no GPU of the table fits either"
        )


def decide(
    model: ModelSpec,
    question: Question,
    gpu: Gpu | None,
    gpus: Sequence[Gpu],
    assumptions: Assumptions,
    prices: Mapping[str, float] | None = None,
) -> FitAnswer:
    """Return all decisions for a question with one rank. gpus: the table. prices: the user's, by id, in USD/hour."""
    own = dict(prices or {})
    for each in gpus:
        if each.id in own:
            validate_price(own[each.id], of=each.name)
    start = setting(model, question, gpu, assumptions)
    known_limits, priced = limits(start), knobs(start)
    return FitAnswer(
        setting=start,
        limits=known_limits,
        knobs=priced,
        smallest=smallest_change(start, priced, known_limits),
        cards=cards(start, gpus, own),
        methods=methods(start),
    )


LimitJSON, KnobJSON, MethodJSON = shape(Limit), shape(Knob), shape(Method)


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


class FitJSON(TypedDict):
    """Limits by setting (r, batch, max_length; none without a GPU), the effect of each change (more bytes, seconds and
    US dollars than before), and the GPUs and methods that fit."""

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
    """Return the decisions as `rankviz fit --json` prints them."""
    start, row, answer = decided.setting, decided.setting.row, decided.setting.answer

    def knob(each: Knob) -> dict[str, Any]:
        return as_answer(KnobJSON, each, change=dict(each.change))

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
        knobs=list(map(knob, decided.knobs)),
        sentence=decided.sentence,
        smallest_change=decided.smallest and knob(decided.smallest),
        helps_most=decided.helps_most and knob(decided.helps_most),
        rule=RULE,
        cheapest_gpu=decided.cheapest and decided.cheapest.gpu.name,
        gpus=[_gpu(card) for card in decided.cards],
        methods=[as_answer(MethodJSON, each) for each in decided.methods],
        notes=start.notes,
    )


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
