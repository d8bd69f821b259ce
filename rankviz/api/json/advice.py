"""An advice, with whether it fits and what quality to expect."""

from dataclasses import asdict

from rankviz.api.advice import AdviceAnswer
from rankviz.core.advice.json import AdviceJSON, as_json
from rankviz.core.advice.words import at_recommended, forecast_sentence
from rankviz.core.cost.estimate import Fit
from rankviz.core.fit.decide import fit_in_words
from rankviz.core.forecast.bands import RankForecast
from rankviz.core.from_json import shape


class AdvisedRankForecastJSON(shape(RankForecast)):
    """How far the recommended rank falls short of the reference rank in published studies, in `unit`."""

    unit: str
    reference_rank: int
    validated: bool
    in_words: str


class AdviceAnswerJSON(AdviceJSON):
    """An advice for one model. `fit` is null without a GPU or without the model's layers, `forecast` where there is
    none for the use case."""

    model_id: str
    gpu: str | None
    fit: Fit | None
    fit_in_words: str
    forecast: AdvisedRankForecastJSON | None
    notes: list[str]


def advice_json(answer: AdviceAnswer) -> AdviceAnswerJSON:
    """As `rankviz advise --json` prints it."""
    forecast, row = answer.forecast, at_recommended(answer.advice, answer.forecast)
    return {
        "model_id": answer.model_id,
        **as_json(answer.advice, answer.target_modules, answer.target_names),
        "gpu": answer.gpu,
        "fit": answer.fit,
        "fit_in_words": fit_in_words(answer.setting) if answer.setting else "",
        "forecast": row
        and {
            "unit": forecast.unit,
            "reference_rank": forecast.reference_rank,
            "validated": forecast.validated,
            **asdict(row),
            "in_words": forecast_sentence(answer.advice, forecast),
        },
        "notes": list(answer.notes),
    }
