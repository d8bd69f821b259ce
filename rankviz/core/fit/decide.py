"""Makes all decisions about one question at one rank, as sentences and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from rankviz import units
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.estimate import Fit, tight_meaning
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Gpu
from rankviz.core.fit.cards import Card, Method, cards, cheapest_that_fits, methods, validate_prices
from rankviz.core.fit.changes import RULE, Knob, Limit, Remedy, Setting, knobs, limits, remedy, setting
from rankviz.core.from_json import as_answer
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import RangeJSON, WholeRangeJSON

LOWERED = {"r": "a lower rank", "batch": "a smaller batch", "max_length": "a shorter length"}
"""By the option of a limit."""


def fit_in_words(start: Setting) -> str:
    """Whether it fits, with the expected memory; where it may not, what to change."""
    row = start.row
    if start.gpu is None or row.fit is None:
        return "No GPU is selected, so it is not known whether the run fits."
    loading = " while loading" if row.memory.fuller_while_loading else ""
    name, memory = start.gpu.name, units.memory_size(row.memory.fullest)
    if row.fit in ("fits", "tight"):
        return f"r = {start.r} {'fits' if row.fit == 'fits' else 'barely fits'} {name}: {memory} expected{loading}."
    usable = units.memory_size(start.answer.usable_bytes.expected)
    lead = f"r = {start.r} does not fit {name}: {memory} expected{loading}, {usable} usable."
    if row.fit == "uncertain":
        lead = (
            f"Whether r = {start.r} fits {name} is uncertain: {memory} expected{loading}, and the limit of the card is "
            "inside its range."
        )
    known = limits(start)
    return f"{lead} {change_in_words(start, known, remedy(start, known))}"


def change_in_words(start: Setting, known_limits: Sequence[Limit], cure: Remedy, elsewhere: str = "") -> str:
    """What to change, or that nothing need be. elsewhere: a clause on other GPUs."""
    if not cure.needed:
        tight = f", with {tight_meaning(start.assumptions)}" if start.row.fit == "tight" else ""
        return f"It fits without changes{tight}."
    if cure.smallest:
        text = f"Smallest change that makes it fit: {cure.smallest.label} ({_effect(cure.smallest)})."
        return " ".join(filter(None, [text, _not_enough(start, known_limits)]))
    if cure.helps_most:
        short = units.gib(-cure.helps_most.spare.low)
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
    less = f"{units.memory_size(-knob.device_bytes)} less"
    if knob.seconds is None:
        return less
    if abs(knob.seconds) < 1:
        return f"{less}, same time"
    return f"{less}, {units.duration(abs(knob.seconds))} {'more' if knob.seconds > 0 else 'less'}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FitAnswer:
    setting: Setting
    limits: tuple[Limit, ...]
    """Rank, batch, length; empty without a GPU."""
    knobs: tuple[Knob, ...]
    remedy: Remedy
    cards: tuple[Card, ...]
    methods: tuple[Method, ...]

    @property
    def cheapest(self) -> Card | None:
        return cheapest_that_fits(self.cards)

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
        """What to change, or that nothing need be."""
        return sentence(self)


def decide(
    model: ModelSpec,
    question: Question,
    gpu: Gpu | None,
    gpus: Sequence[Gpu],
    assumptions: Assumptions,
    prices: Mapping[str, float] | None = None,
) -> FitAnswer:
    """question: with one rank. gpus: the table. prices: one's own, by GPU id, in USD an hour."""
    own = dict(prices or {})
    validate_prices(own, gpus)
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


def sentence(decided: FitAnswer) -> str:
    cheapest = decided.cheapest
    total = f", about {units.usd(cheapest.usd.expected)}" if cheapest and cheapest.usd else ""
    elsewhere = f"the cheapest GPU that fits is the {cheapest.gpu.name}{total}" if cheapest else ""
    if decided.setting.gpu is None:
        return f"No GPU is chosen; {elsewhere}." if elsewhere else "No GPU is chosen, and no GPU of the table fits."
    nowhere = "no GPU of the table fits either"
    return change_in_words(decided.setting, decided.limits, decided.remedy, elsewhere or nowhere)


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
        margin_bytes=start.spare,
        limits={limit.option: as_answer(LimitJSON, limit) for limit in decided.limits},
        knobs=[_knob(knob) for knob in decided.knobs],
        sentence=decided.sentence,
        smallest_change=cure.smallest and _knob(cure.smallest),
        helps_most=cure.helps_most and _knob(cure.helps_most),
        rule=RULE,
        cheapest_gpu=decided.cheapest and decided.cheapest.gpu.name,
        gpus=[_gpu(card) for card in decided.cards],
        methods=[
            as_answer(MethodJSON, method, device_bytes=method.device, margin_bytes=method.spare)
            for method in decided.methods
        ],
        notes=start.notes,
    )


def _knob(knob: Knob) -> KnobJSON:
    return as_answer(KnobJSON, knob, change=dict(knob.change), margin_bytes=knob.spare)


def _gpu(card: Card) -> GpuJSON:
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
