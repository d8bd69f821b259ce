"""Endpoints for what a rank costs and buys: estimate, fit, advise, forecast; and the settings as a file."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from rankviz.api import Api
from rankviz.api.advice import AdviceAnswerJSON, advice_json
from rankviz.api.estimates import EstimateAnswerJSON, estimate_json
from rankviz.core.advice.use_case import Goal
from rankviz.core.cost.question import ASSUMED_RANK
from rankviz.core.fit.decide import FitJSON
from rankviz.core.fit.decide import as_json as fit_json
from rankviz.core.forecast.bands import ForecastJSON, forecast_json
from rankviz.core.forecast.quick_look import BentForecastJSON, bent_json
from rankviz.options import DATA, SETUP, UNSLOTH, question_of, takes


class ForecastAnswerJSON(ForecastJSON):
    """Quality by rank from published studies; `bent` is the forecast of the requested sweep."""

    bent: BentForecastJSON | None


class TextFileJSON(TypedDict):
    """A file's name and its text."""

    file_name: str
    text: str


class ExportJSON(TextFileJSON):
    """A file, notes on it, and the files that belong beside it."""

    notes: list[str]
    beside: list[TextFileJSON]


MORE = (*UNSLOTH, *DATA, "text_only", "expert_rank")


def _with_note(answer: Mapping[str, Any], assumed: str) -> Any:
    return {**answer, "notes": [*filter(None, [assumed]), *answer["notes"]]}


def operations(api: Api) -> Sequence[Callable[..., Any]]:
    """The endpoints. A model that a call leaves out is empty and refused as such: Gradio answers a missing argument
    without words."""

    @takes("model", "ranks", "targets", "alpha", *SETUP, *MORE)
    def estimate(**options: Any) -> EstimateAnswerJSON:
        """Exact adapter numbers, and ranges for memory, time and money."""
        question, assumed = question_of(options).with_assumed_length()
        return _with_note(estimate_json(api.estimates.estimate(question)), assumed)

    @takes("model", "r", "targets", "alpha", *SETUP, "prices", *MORE)
    def fit(prices: dict[str, float] | None = None, **options: Any) -> FitJSON:
        """What fits, the effect of each change, the smallest change that makes it fit, and the cheapest GPUs that fit.

        Args:
            prices: Your own prices in USD per hour by GPU, instead of the table's.
        """
        question, assumed = question_of(options).with_assumed_length()
        return _with_note(fit_json(api.estimates.fit(question, options["r"], prices)), assumed)

    @takes(
        *("model", "use_case", "examples", "example_tokens", "forgetting", "targets"),
        *(*SETUP, "longest_tokens", "epochs", "parameters", "expert_rank"),
    )
    def advise(
        use_case: str = "instruction", forgetting: bool = False, parameters: float | None = None, **options: Any
    ) -> AdviceAnswerJSON:
        """A recommended rank, alpha, learning rate and targets, with reasons, and costs where the model can be read.

        Args:
            model: A catalogue id, an alias of one, a Hub id, or any other name.
            use_case: simple, instruction, complex, near-full, pretraining or rl.
            forgetting: Whether the base model must keep its abilities.
            parameters: Parameters of a model that has no name here.
        """
        question, _ = question_of(options).with_assumed_length()
        return advice_json(api.advice.advise(question, Goal(use_case=use_case, forgetting=forgetting), parameters))

    def forecast(
        model: str = "",
        use_case: str = "instruction",
        metric: str | None = None,
        base: bool | None = None,
        runs: str | None = None,
        parameters: float | None = None,
    ) -> ForecastAnswerJSON:
        """How far each rank falls short of r = 128 in published studies, as a band; with runs, also their own forecast.

        Args:
            model: Any name: the band is the same for every model. With runs, the model that they trained.
            use_case: simple, instruction, complex, near-full, pretraining or rl.
            metric: score (points) or loss (% of the loss).
            base: No longer used: the band does not depend on it.
            runs: A sweep with finished runs at two ranks or more.
            parameters: Parameters of a model that has no name here.
        """
        answer, bent = api.forecasts.answer(model, use_case, metric=metric, runs=runs, parameters=parameters)
        return {**forecast_json(answer), "bent": bent_json(bent) if bent else None}

    @takes("model", "r", "format", "targets", "alpha", *SETUP, "learning_rate", "use_case", *MORE)
    def export(
        r: int = ASSUMED_RANK,
        format: str = "script",
        learning_rate: float | None = None,
        use_case: str | None = None,
        **options: Any,
    ) -> ExportJSON:
        """A script, a notebook or a configuration file that trains with these settings elsewhere.

        Args:
            format: colab, script, notebook, unsloth, trl, peft, adapter-config, axolotl or llamafactory.
            learning_rate: Empty for a usual one, or that of the use case.
            use_case: Take the learning rate for it: simple, instruction, complex, near-full, pretraining or rl.
        """
        goal = Goal(use_case=use_case) if use_case else None
        written = api.exports.write(question_of({**options, "r": r}), r, format, learning_rate, goal)
        beside = [TextFileJSON(file_name=name, text=text) for name, text in written.beside]
        return ExportJSON(file_name=written.file_name, text=written.text, notes=list(written.notes), beside=beside)

    return estimate, fit, advise, forecast, export
