"""Endpoints for what a rank costs and buys: estimate, fit, advise, forecast; and the settings as a file."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from rankviz.api import Api
from rankviz.api.json.advice import AdviceAnswerJSON, advice_json
from rankviz.api.json.estimates import EstimateAnswerJSON, estimate_json
from rankviz.core.advice.use_case import Goal
from rankviz.core.cost.question import ASSUMED_RANK
from rankviz.core.fit.json import FitJSON
from rankviz.core.fit.json import as_json as fit_json
from rankviz.core.forecast.bands import ForecastJSON, forecast_json
from rankviz.core.forecast.quick_look import BentForecastJSON, bent_json
from rankviz.ui.endpoints.arguments import More, Setup, data_of, spelled_out


class ForecastAnswerJSON(ForecastJSON):
    """Quality by rank from published studies; `bent` is the forecast of the sweep that was asked for."""

    bent: BentForecastJSON | None


class TextFileJSON(TypedDict):
    """A file's name and what is in it."""

    file_name: str
    text: str


class ExportJSON(TextFileJSON):
    """A file, what to know of it, and the files that belong beside it."""

    notes: list[str]
    beside: list[TextFileJSON]


def operations(api: Api) -> Sequence[Callable[..., Any]]:
    """A model that a call leaves out is empty and refused as such: Gradio answers a missing argument without words."""

    @spelled_out
    def estimate(
        model: str = "",
        ranks: list[int] = [ASSUMED_RANK],  # noqa: B006 - Gradio reads defaults from the signature; nobody changes it
        targets: str = "unsloth",
        alpha: str | float = "r",
        *,
        setup: Setup,
        more: More,
    ) -> EstimateAnswerJSON:
        """Exact adapter numbers, and ranges for memory, time and money.

        Args:
            model: A catalogue id, an alias of one, or a Hub id.
            ranks: LoRA ranks, 1 to 1024.
            targets: all-linear, attention, mlp, qv, unsloth, or module names separated by commas.
            alpha: r, 2r or a number.
        """
        question = setup.question(model, ranks, more.data, targets=targets, alpha=alpha, **more.lora)
        question, assumed = question.with_assumed_length()
        answer = estimate_json(api.estimates.estimate(question))
        return {**answer, "notes": [*filter(None, [assumed]), *answer["notes"]]}

    @spelled_out
    def fit(
        model: str = "",
        r: int = ASSUMED_RANK,
        targets: str = "unsloth",
        alpha: str | float = "r",
        *,
        setup: Setup,
        prices: dict[str, float] | None = None,
        more: More,
    ) -> FitJSON:
        """What fits, the effect of each change, the smallest change that makes it fit, and the cheapest GPUs that fit.

        Args:
            model: A catalogue id, an alias of one, or a Hub id.
            r: LoRA rank, 1 to 1024.
            targets: As for estimate, like the arguments down to gpu.
            alpha: r, 2r or a number.
            prices: Your own prices in USD per hour by GPU, instead of the table's.
        """
        question = setup.question(model, [r], more.data, targets=targets, alpha=alpha, **more.lora)
        question, assumed = question.with_assumed_length()
        answer = fit_json(api.estimates.fit(question, r, prices))
        return {**answer, "notes": [*filter(None, [assumed]), *answer["notes"]]}

    @spelled_out
    def advise(
        model: str = "",
        use_case: str = "instruction",
        examples: int | None = None,
        example_tokens: int | None = None,
        forgetting: bool = False,
        targets: str = "unsloth",
        *,
        setup: Setup,
        longest_tokens: int | None = None,
        epochs: float | None = None,
        parameters: float | None = None,
        expert_rank: str = "r",
    ) -> AdviceAnswerJSON:
        """A recommended rank, alpha, learning rate and targets, with reasons, and costs where the model can be read.

        Args:
            model: A catalogue id, an alias of one, a Hub id, or any other name.
            use_case: simple, instruction, complex, near-full, pretraining or rl.
            examples: Number of different training examples.
            example_tokens: Mean tokens per example, chat template included.
            forgetting: Whether the base model must keep its abilities.
            targets: As for estimate, like the arguments below.
            longest_tokens: Tokens of the longest example.
            epochs: Passes over the examples; empty for 1, or for those that steps make.
            parameters: Parameters of a model that has no name here.
            expert_rank: Rank of each expert: r, r/active (r / experts per token), r/all (r / all experts) or a number.
        """
        data = data_of(examples, example_tokens, longest_tokens, epochs)
        lora = {"targets": targets, "expert_rank": expert_rank}
        question, _ = setup.question(model, [ASSUMED_RANK], data, **lora).with_assumed_length()
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

    @spelled_out
    def export(
        model: str = "",
        r: int = ASSUMED_RANK,
        format: str = "script",
        targets: str = "unsloth",
        alpha: str | float = "r",
        *,
        setup: Setup,
        learning_rate: float | None = None,
        use_case: str | None = None,
        more: More,
    ) -> ExportJSON:
        """A script, a notebook or a configuration file that trains with these settings elsewhere.

        Args:
            model: A catalogue id, an alias of one, or a Hub id.
            r: LoRA rank, 1 to 1024.
            format: colab, script, notebook, unsloth, trl, peft, adapter-config, axolotl or llamafactory.
            targets: As for estimate, like the arguments down to gpu.
            alpha: r, 2r or a number.
            max_length: Maximum tokens per example.
            steps: Optimizer steps; empty for the epochs of the data.
            learning_rate: Empty for a usual one, or that of the use case.
            use_case: Take the learning rate for it: simple, instruction, complex, near-full, pretraining or rl.
        """
        question = setup.question(model, [r], more.data, targets=targets, alpha=alpha, **more.lora)
        written = api.exports.write(question, r, format, learning_rate, Goal(use_case=use_case) if use_case else None)
        beside = [TextFileJSON(file_name=name, text=text) for name, text in written.beside]
        return ExportJSON(file_name=written.file_name, text=written.text, notes=list(written.notes), beside=beside)

    return estimate, fit, advise, forecast, export
