"""Endpoints for what a rank costs and buys: estimate, fit, advise, forecast; and the settings as a file."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from inspect import cleandoc, signature
from textwrap import indent
from typing import Any, TypedDict

from rankviz.api import Api
from rankviz.api.json import advice_json, estimate_json
from rankviz.core.advice.use_case import Goal
from rankviz.core.cost.data import TrainingData
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.fit.json import as_json as fit_json
from rankviz.core.forecast.json import as_json as forecast_json
from rankviz.core.forecast.json import bent_json
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.targets import targets_in


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

    @_with_more
    def estimate(
        model: str = "",
        ranks: list[int] = [16],  # noqa: B006 - Gradio reads defaults from the signature; nobody changes it
        targets: str = "unsloth",
        alpha: str | float = "r",
        precision: str = "nf4-dq",
        framework: str = "unsloth",
        batch: int = 2,
        accumulation: int = 4,
        max_length: int = 2048,
        steps: int | None = None,
        gpu: str | None = "l4",
        *,
        data: TrainingData | None,
        unsloth: dict[str, Any],
    ) -> dict[str, Any]:
        """Exact adapter numbers, and ranges for memory, time and money.

        Args:
            model: A catalogue id, an alias of one, or a Hub id.
            ranks: LoRA ranks, 1 to 1024.
            targets: all-linear, attention, mlp, qv, unsloth, or module names separated by commas.
            alpha: r, 2r or a number.
            precision: bf16, fp16, fp32, nf4, nf4-dq or int8.
            framework: unsloth, trl or peft.
            batch: Batch size per micro-step.
            accumulation: Micro-steps per optimizer step.
            max_length: Maximum tokens per example; without data, all examples have as many.
            steps: Optimizer steps; empty for the epochs of the data, or 1,000.
            gpu: A GPU of the table; empty for no GPU.
        """
        question = _question(
            model, ranks, targets, alpha, precision, framework, batch, accumulation, max_length, steps, gpu, data
        )
        question, assumed = replace(question, lora=replace(question.lora, **unsloth)).with_assumed_length()
        answer = estimate_json(api.estimates.estimate(question))
        return {**answer, "notes": [*filter(None, [assumed]), *answer["notes"]]}

    @_with_more
    def fit(
        model: str = "",
        r: int = 16,
        targets: str = "unsloth",
        alpha: str | float = "r",
        precision: str = "nf4-dq",
        framework: str = "unsloth",
        batch: int = 2,
        accumulation: int = 4,
        max_length: int = 2048,
        steps: int | None = None,
        gpu: str | None = "l4",
        prices: dict[str, float] | None = None,
        *,
        data: TrainingData | None,
        unsloth: dict[str, Any],
    ) -> dict[str, Any]:
        """What fits, the effect of each change, the smallest change that makes it fit, and the cheapest GPUs that fit.

        Args:
            model: A catalogue id, an alias of one, or a Hub id.
            r: LoRA rank, 1 to 1024.
            targets: As for estimate, like the arguments down to gpu.
            alpha: r, 2r or a number.
            precision: bf16, fp16, fp32, nf4, nf4-dq or int8.
            framework: unsloth, trl or peft.
            batch: Batch size per micro-step.
            accumulation: Micro-steps per optimizer step.
            max_length: Maximum tokens per example; without data, all examples have as many.
            steps: Optimizer steps; empty for the epochs of the data, or 1,000.
            gpu: A GPU of the table; empty for no GPU.
            prices: Your own prices in USD per hour by GPU, instead of the table's.
        """
        question = _question(
            model, [r], targets, alpha, precision, framework, batch, accumulation, max_length, steps, gpu, data
        )
        question, assumed = replace(question, lora=replace(question.lora, **unsloth)).with_assumed_length()
        return {**fit_json(api.estimates.fit(question, r, prices)), "notes": [assumed] if assumed else []}

    def advise(
        model: str = "",
        use_case: str = "instruction",
        examples: int | None = None,
        example_tokens: int | None = None,
        forgetting: bool = False,
        targets: str = "unsloth",
        precision: str = "nf4-dq",
        framework: str = "unsloth",
        batch: int = 2,
        accumulation: int = 4,
        max_length: int = 2048,
        steps: int | None = None,
        gpu: str | None = "l4",
        longest_tokens: int | None = None,
        epochs: float | None = None,
    ) -> dict[str, Any]:
        """A recommended rank, alpha, learning rate and targets, with reasons and confidence.

        Args:
            model: A catalogue id, an alias of one, or a Hub id.
            use_case: simple, instruction, complex, near-full or pretraining.
            examples: Number of different training examples.
            example_tokens: Mean tokens per example, chat template included.
            forgetting: Whether the base model must keep its abilities.
            targets: As for estimate, like the arguments below.
            precision: bf16, fp16, fp32, nf4, nf4-dq or int8.
            framework: unsloth, trl or peft.
            batch: Batch size per micro-step.
            accumulation: Micro-steps per optimizer step.
            max_length: Maximum tokens per example; without data, all examples have as many.
            steps: Optimizer steps; empty for the epochs of the data, or 1,000.
            gpu: A GPU of the table; empty for no GPU.
            longest_tokens: Tokens of the longest example.
            epochs: Passes over the examples; empty for 1, or for those that steps make.
        """
        data = _data(examples, example_tokens, longest_tokens, epochs)
        question = _question(
            model, [16], targets, "r", precision, framework, batch, accumulation, max_length, steps, gpu, data
        )
        question, _ = question.with_assumed_length()
        return advice_json(api.advice.advise(question, Goal(use_case=use_case, forgetting=forgetting)))

    def forecast(
        model: str = "",
        use_case: str = "instruction",
        metric: str | None = None,
        base: bool | None = None,
        runs: str | None = None,
    ) -> dict[str, Any]:
        """How far each rank falls short of r = 128 in published studies, as a band; with runs, also their own forecast.

        Args:
            model: A catalogue id, an alias of one, or a Hub id.
            use_case: simple, instruction, complex, near-full or pretraining.
            metric: score (points) or loss (% of the loss).
            base: Whether it is a base model; empty: its name decides.
            runs: A sweep with finished runs at two ranks or more.
        """
        answer, bent = api.forecasts.answer(model, use_case, base=base, metric=metric, runs=runs)
        return forecast_json(answer) | ({"bent": bent_json(bent)} if bent else {})

    @_with_more
    def export(
        model: str = "",
        r: int = 16,
        format: str = "script",
        targets: str = "unsloth",
        alpha: str | float = "r",
        precision: str = "nf4-dq",
        framework: str = "unsloth",
        batch: int = 2,
        accumulation: int = 4,
        max_length: int = 2048,
        steps: int | None = None,
        gpu: str | None = "l4",
        learning_rate: float | None = None,
        use_case: str | None = None,
        *,
        data: TrainingData | None,
        unsloth: dict[str, Any],
    ) -> ExportJSON:
        """A script, a notebook or a configuration file that trains with these settings elsewhere.

        Args:
            model: A catalogue id, an alias of one, or a Hub id.
            r: LoRA rank, 1 to 1024.
            format: colab, script, notebook, unsloth, trl, peft, adapter-config, axolotl or llamafactory.
            targets: As for estimate, like the arguments down to gpu.
            alpha: r, 2r or a number.
            precision: bf16, fp16, fp32, nf4, nf4-dq or int8.
            framework: unsloth, trl or peft.
            batch: Batch size per micro-step.
            accumulation: Micro-steps per optimizer step.
            max_length: Maximum tokens per example.
            steps: Optimizer steps; empty for the epochs of the data.
            gpu: A GPU of the table; empty for no GPU.
            learning_rate: Empty for a usual one, or that of the use case.
            use_case: Take the learning rate for it: simple, instruction, complex, near-full or pretraining.
        """
        question = _question(
            model, [r], targets, alpha, precision, framework, batch, accumulation, max_length, steps, gpu, data
        )
        question = replace(question, lora=replace(question.lora, **unsloth))
        written = api.exports.write(question, r, format, learning_rate, Goal(use_case=use_case) if use_case else None)
        beside = [TextFileJSON(file_name=name, text=text) for name, text in written.beside]
        return ExportJSON(file_name=written.file_name, text=written.text, notes=list(written.notes), beside=beside)

    return estimate, fit, advise, forecast, export


def _more(
    unsloth_class: str = "FastLanguageModel",
    finetune_vision_layers: bool | None = None,
    finetune_language_layers: bool | None = None,
    finetune_attention_modules: bool | None = None,
    finetune_mlp_modules: bool | None = None,
    examples: int | None = None,
    example_tokens: int | None = None,
    longest_tokens: int | None = None,
    epochs: float | None = None,
) -> None:
    """unsloth_class: FastLanguageModel or FastModel; under Unsloth, names reach other layers in each.
    finetune_vision_layers: Unsloth's flag, mainly for whole multimodal models; empty for the class's default.
    finetune_language_layers: The same for the language model.
    finetune_attention_modules: The same for attention.
    finetune_mlp_modules: The same for MLP layers.
    examples: Number of different training examples.
    example_tokens: Mean tokens per example, chat template included.
    longest_tokens: Tokens of the longest example.
    epochs: Passes over the examples; empty for 1 where steps are empty too.
    """


DATA = ("examples", "example_tokens", "longest_tokens", "epochs")


def _with_more(operation: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The operation with the arguments of _more after its own; it takes them together, as `unsloth` and `data`.

    Gradio reads names and defaults from the signature, types from the annotations, and meanings from the docstring.
    """
    last = signature(_more).parameters
    together_only = ("unsloth", "data")
    own = [parameter for name, parameter in signature(operation).parameters.items() if name not in together_only]
    together = signature(operation).replace(parameters=[*own, *last.values()])

    @wraps(operation)
    def call(*args: Any, **kwargs: Any) -> dict[str, Any]:
        bound = together.bind(*args, **kwargs)
        bound.apply_defaults()
        unsloth = {name: bound.arguments.pop(name) for name in last if name not in DATA}
        data = _data(*(bound.arguments.pop(name) for name in DATA))
        return operation(**bound.arguments, data=data, unsloth=unsloth)

    call.__signature__ = together
    call.__annotations__ = {each.name: each.annotation for each in together.parameters.values()}
    call.__annotations__["return"] = together.return_annotation
    call.__doc__ = f"{cleandoc(operation.__doc__)}\n{indent(cleandoc(_more.__doc__), '    ')}"
    return call


def _data(
    examples: int | None, example_tokens: int | None, longest_tokens: int | None, epochs: float | None
) -> TrainingData | None:
    """None where nothing is known of the data."""
    data = TrainingData(examples=examples, mean_tokens=example_tokens, longest_tokens=longest_tokens, epochs=epochs)
    return None if data == TrainingData() else data


def _question(
    model: str,
    ranks: list[int],
    targets: str,
    alpha: str | float,
    precision: str,
    framework: str,
    batch: int,
    accumulation: int,
    max_length: int,
    steps: int | None,
    gpu: str | None,
    data: TrainingData | None,
) -> Question:
    return Question(
        model_id=model,
        ranks=tuple(ranks),
        lora=LoraConfig(target_modules=targets_in(targets)),
        alpha=str(alpha),
        training=TrainingSetup(
            framework=framework,
            precision=precision,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_length=max_length,
            max_steps=steps,
            data=data,
        ),
        gpu=gpu or None,
    )
