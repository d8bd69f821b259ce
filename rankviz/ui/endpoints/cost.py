"""Endpoints for what a rank costs and buys: estimate, fit, advise, forecast; and the settings as a file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, cleandoc, signature
from typing import Any, TypedDict

from rankviz.api import Api
from rankviz.api.advice import AdviceAnswerJSON, advice_json
from rankviz.api.estimates import EstimateAnswerJSON, estimate_json
from rankviz.core.advice.use_case import Goal
from rankviz.core.cost.question import ASSUMED_RANK, Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.core.fit.decide import FitJSON
from rankviz.core.fit.decide import as_json as fit_json
from rankviz.core.forecast.bands import ForecastJSON, forecast_json
from rankviz.core.forecast.quick_look import BentForecastJSON, bent_json
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.targets import targets_in


@dataclass(frozen=True, kw_only=True)
class Setup:
    """precision: bf16, fp16, fp32, nf4, nf4-dq or int8.
    framework: unsloth, trl or peft.
    batch: Batch size per micro-step.
    accumulation: Micro-steps per optimizer step.
    max_length: Maximum tokens per example; without data, all examples have as many.
    steps: Optimizer steps; empty for the epochs of the data, or 1,000.
    gpu: A GPU of the table; empty for no GPU.
    """

    precision: str = "nf4-dq"
    framework: str = "unsloth"
    batch: int = 2
    accumulation: int = 4
    max_length: int = 2048
    steps: int | None = None
    gpu: str | None = "l4"

    def question(self, model: str, ranks: list[int], data: TrainingData | None, **lora: Any) -> Question:
        """lora: targets and alpha as the endpoints have them, and Unsloth's settings."""
        return Question(
            model_id=model,
            ranks=tuple(ranks),
            alpha=str(lora.pop("alpha", "r")),
            lora=LoraConfig(target_modules=targets_in(lora.pop("targets")), **lora),
            training=TrainingSetup(
                framework=self.framework,
                precision=self.precision,
                per_device_train_batch_size=self.batch,
                gradient_accumulation_steps=self.accumulation,
                max_length=self.max_length,
                max_steps=self.steps,
                data=data,
            ),
            gpu=self.gpu or None,
        )


@dataclass(frozen=True, kw_only=True)
class More:
    """unsloth_class: FastLanguageModel or FastModel; under Unsloth, names reach other layers in each.
    finetune_vision_layers: Unsloth's flag, mainly for whole multimodal models; empty for the class's default.
    finetune_language_layers: The same for the language model.
    finetune_attention_modules: The same for attention.
    finetune_mlp_modules: The same for MLP layers.
    examples: Number of different training examples.
    example_tokens: Mean tokens per example, chat template included.
    longest_tokens: Tokens of the longest example.
    epochs: Passes over the examples; empty for 1 where steps are empty too.
    text_only: Under Unsloth, load the text model of a multimodal checkpoint alone.
    expert_rank: Rank of each expert: r, r/active (r / experts per token), r/all (r / all experts) or a number.
    """

    unsloth_class: str = "FastLanguageModel"
    finetune_vision_layers: bool | None = None
    finetune_language_layers: bool | None = None
    finetune_attention_modules: bool | None = None
    finetune_mlp_modules: bool | None = None
    examples: int | None = None
    example_tokens: int | None = None
    longest_tokens: int | None = None
    epochs: float | None = None
    text_only: bool = False
    expert_rank: str = "r"

    @property
    def lora(self) -> dict[str, Any]:
        """The settings of LoraConfig, mostly Unsloth's."""
        return {name: value for name, value in vars(self).items() if name not in DATA}

    @property
    def data(self) -> TrainingData | None:
        return data_of(**{name: getattr(self, name) for name in DATA})


DATA = ("examples", "example_tokens", "longest_tokens", "epochs")
GROUPS = (Setup, More)


def data_of(
    examples: int | None, example_tokens: int | None, longest_tokens: int | None, epochs: float | None
) -> TrainingData | None:
    """None where nothing is known of the data."""
    data = TrainingData(examples=examples, mean_tokens=example_tokens, longest_tokens=longest_tokens, epochs=epochs)
    return None if data == TrainingData() else data


def spelled_out(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The operation with each argument of its groups as one of its own.

    A line of the operation's docstring on an argument of a group goes before that of the group.
    """
    groups = {name: each.annotation for name, each in _of(operation).items() if each.annotation in GROUPS}
    parameters = list(_spelled_out(operation))
    together = signature(operation).replace(parameters=parameters)

    @wraps(operation)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = together.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        whole = {
            name: group(**{each.name: given.pop(each.name) for each in fields(group)}) for name, group in groups.items()
        }
        return operation(**given, **whole)

    summary, _, own = cleandoc(operation.__doc__).partition("\n\nArgs:\n")
    meanings = dict(line.strip().split(": ", 1) for doc in (*map(_doc, groups.values()), own) for line in _lines(doc))
    call.__signature__ = together
    call.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": together.return_annotation}
    call.__doc__ = "\n".join(
        [f"{summary}\n\nArgs:", *(f"    {each.name}: {meanings[each.name]}" for each in parameters)]
    )
    return call


def _spelled_out(operation: Callable[..., Any]) -> Iterator[Parameter]:
    for parameter in _of(operation).values():
        group = parameter.annotation
        for each in _of(group).values() if group in GROUPS else [parameter]:
            yield each.replace(kind=Parameter.POSITIONAL_OR_KEYWORD)


def _of(described: Callable[..., Any]) -> dict[str, Parameter]:
    return dict(signature(described).parameters)


def _doc(group: type) -> str:
    return cleandoc(group.__doc__)


def _lines(doc: str) -> list[str]:
    return [line for line in doc.splitlines() if line]


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
