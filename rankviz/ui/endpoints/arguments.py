"""The arguments that several endpoints share, described once: names, order, defaults, types and meanings.

Gradio reads names and defaults from a signature, types from the annotations, and meanings from the docstring. An
operation names a group of arguments as one keyword argument; `spelled_out` puts the group's own in its place.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, cleandoc, signature
from typing import Any

from rankviz.core.cost.data import TrainingData
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
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
