"""An advice, as `rankviz advise --json`, the page and the HTTP endpoint have it.

Keys may be added, none renamed. The answers of one room of the core have their function there: core.fit.json,
core.probe.summary and others.
"""

from dataclasses import asdict
from typing import TypedDict

from rankviz.api.advice import AdviceAnswer
from rankviz.core.advice import words
from rankviz.core.advice.advice import Alternative, Capacity, Step
from rankviz.core.advice.use_case import Data, Goal
from rankviz.core.cost.estimate import Fit
from rankviz.core.fit.decide import fit_in_words
from rankviz.core.forecast.bands import RankForecast
from rankviz.core.from_json import shape

GoalJSON = shape(Goal)
DataJSON = shape(Data)
StepJSON = shape(Step)
ReasonJSON = shape(words.Reason)
RegretJSON = shape(Alternative)


class LearningRatesJSON(TypedDict):
    """The best of the learning rates that studies tried at these ranks, of one base model or of all."""

    low: float
    high: float
    ranks: list[int]
    of: str


class CapacityJSON(shape(Capacity)):
    """The adapter against the data. `filled` is the share of its capacity that they take. `holds_from` is always null:
    capacity does not move the rank."""

    enough: bool | None
    filled: float | None
    holds_from: int | None


class NearStudyJSON(TypedDict):
    """A published study; `why` says what makes it near. Where it adapts experts in another way, `equal_ranks` has for
    each of its ranks the one of as many parameters here."""

    study_id: str
    base_model: str
    why: list[str]
    learning_rate: str
    source: str | None
    caveat: str
    equal_ranks: dict[str, float] | None


class AdvisedRankForecastJSON(shape(RankForecast)):
    """How far the recommended rank falls short of the reference rank in published studies, in `unit`."""

    unit: str
    reference_rank: int
    validated: bool
    in_words: str


class AdviceAnswerJSON(TypedDict):
    """The recommended settings for one model, in figures and in sentences, and what they rest on. Where `r_range` is
    given, studies disagree and it is recommended instead of `r`. `confidence`, `lead`, `general` and `rank_enough` are
    always null: nothing tells the rank of one model, no study leads, and how many models a rank was enough for did not
    hold for publications that were left out. `regret` has how good such advice was. `capacity` is null where the
    model's layers are not known, `fit` also without a GPU, and `forecast` where there is none for the use case."""

    use_case: str
    goal: GoalJSON
    r: int
    r_range: list[int] | None
    lora_alpha: int
    learning_rate: float
    learning_rate_best: LearningRatesJSON | None
    learning_rates_to_try: list[float]
    target_modules: str
    target_names: list[str]
    take: str
    because: str
    sentence: str
    then: list[str]
    general: None
    lead: None
    reasons: list[ReasonJSON]
    confidence: str | None
    confidence_in_words: str
    regret: list[RegretJSON]
    would_change: list[str]
    steps: list[StepJSON]
    capacity: CapacityJSON | None
    data: DataJSON
    rank_enough: None
    nearest: list[NearStudyJSON]
    model_id: str
    gpu: str | None
    fit: Fit | None
    fit_in_words: str
    forecast: AdvisedRankForecastJSON | None
    notes: list[str]


def advice_json(answer: AdviceAnswer) -> AdviceAnswerJSON:
    """As `rankviz advise --json` prints it."""
    advice, forecast = answer.advice, answer.forecast
    row, cap, rates = words.at_recommended(advice, forecast), advice.capacity, advice.rates
    of_forecast = {name: getattr(forecast, name) for name in ("unit", "reference_rank", "validated")}
    return {
        "model_id": answer.model_id,
        "use_case": advice.case.name,
        "goal": asdict(advice.goal),
        "r": advice.r,
        "r_range": advice.case.r_range and list(advice.case.r_range),
        "lora_alpha": advice.lora_alpha,
        "learning_rate": advice.learning_rate,
        "learning_rate_best": rates
        and {"low": rates.low, "high": rates.high, "ranks": list(rates.ranks), "of": advice.rates_of},
        "learning_rates_to_try": list(advice.learning_rates),
        "target_modules": answer.target_modules,
        "target_names": list(answer.target_names),
        "take": words.take(advice),
        "because": words.because(advice),
        "sentence": f"{words.take(advice)}. Reason: {words.because(advice)}.",
        "then": list(words.main_sentences(advice)[1:]),
        "general": None,
        "lead": None,
        "reasons": [reason._asdict() for reason in words.reasons(advice)],
        "confidence": None,
        "confidence_in_words": words.confidence_in_words(advice),
        "regret": [
            {**each._asdict(), "score": each.score._asdict(), "loss": each.loss._asdict()}
            for each in advice.record.alternatives
        ],
        "would_change": list(words.would_change(advice)),
        "steps": [step._asdict() for step in advice.steps],
        "capacity": cap and {**cap._asdict(), "enough": cap.enough, "filled": cap.filled, "holds_from": None},
        "data": advice.data._asdict(),
        "rank_enough": None,
        "nearest": [
            {
                "study_id": near.line.study.study_id,
                "base_model": near.line.model.base_model,
                "why": list(near.why),
                "learning_rate": near.line.study.learning_rate_label,
                "source": near.line.study.source,
                "caveat": near.line.study.caveat,
                "equal_ranks": {str(r): x for r, x in advice.equal_ranks.get(near.line.study.study_id, {}).items()}
                or None,
            }
            for near in advice.shown
        ],
        "gpu": answer.gpu,
        "fit": answer.fit,
        "fit_in_words": fit_in_words(answer.setting) if answer.setting else "",
        "forecast": row and {**of_forecast, **asdict(row), "in_words": words.forecast_sentence(advice, forecast)},
        "notes": list(answer.notes),
    }
