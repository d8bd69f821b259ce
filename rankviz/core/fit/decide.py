"""Makes all decisions about one question at one rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rankviz import units
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.gpu import Gpu
from rankviz.core.cost.question import Question
from rankviz.core.fit.cards import Card, cards, cheapest_that_fits, validate_prices
from rankviz.core.fit.knobs import Knob, knobs
from rankviz.core.fit.limits import Limit, limits
from rankviz.core.fit.methods import Method, methods
from rankviz.core.fit.remedy import Remedy, remedy
from rankviz.core.fit.setting import Setting, setting
from rankviz.core.fit.words import change_in_words
from rankviz.core.model.spec import ModelSpec


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
        """Those of them on which it fits, tight."""
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
