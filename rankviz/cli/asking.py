"""The options that make a question, written once: `asking` adds them to a command and gives it the Question."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Option

from rankviz.cli.shared import Accum, Batch, Model, adapter, options_of, print_notes
from rankviz.core.cost.data import TrainingData
from rankviz.core.cost.question import ASSUMED_EPOCHS, ASSUMED_RANK, ASSUMED_STEPS, Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.targets import names_in


@options_of(adapter, "lora")
def question(
    *,
    model: Model,
    r: Annotated[
        list[int] | None, Option("-r", "--rank", help=f"Rank; repeatable. Without it: {ASSUMED_RANK}.")
    ] = None,
    alpha: Annotated[str, Option(help="r, 2r or a number.")] = "r",
    lora: LoraConfig,
    modules_to_save: Annotated[str, Option(help="Modules to train and save in full: lm_head,embed_tokens.")] = "",
    moe: Annotated[
        str, Option(help="Experts: default, linear-only, peft-remap, unsloth or target-parameters.")
    ] = "default",
    precision: Annotated[str, Option(help="bf16, fp16, fp32, nf4, nf4-dq or int8.")] = "nf4-dq",
    framework: Annotated[str, Option(help="unsloth, trl or peft.")] = "unsloth",
    batch: Batch = 2,
    accum: Accum = 4,
    max_length: Annotated[int, Option(help="Tokens per example, padding included.")] = 2048,
    optim: Annotated[str, Option(help="adamw_8bit, adamw_torch, paged_adamw_8bit or sgd.")] = "adamw_8bit",
    checkpointing: Annotated[str, Option(help="unsloth, hf, none, or auto: the framework's own.")] = "auto",
    loss_path: Annotated[str, Option(help="fused, fused-func (Unsloth's of before), triton or full.")] = "fused",
    gpu: Annotated[str | None, Option(help="GPU, by its name in the table.")] = None,
    tokens: Annotated[
        int | None, Option(help="Tokens to train on; padding is included where no data are given.")
    ] = None,
    steps: Annotated[
        int | None,
        Option(help=f"Optimizer steps; estimate and fit assume {ASSUMED_STEPS:,} where no length is given."),
    ] = None,
    examples: Annotated[int | None, Option(help="Number of different training examples.")] = None,
    example_tokens: Annotated[int | None, Option(help="Mean tokens per example, chat template included.")] = None,
    longest_tokens: Annotated[int | None, Option(help="Tokens of the longest example.")] = None,
    epochs: Annotated[
        float | None,
        Option(help=f"Passes over the examples; estimate and fit assume {ASSUMED_EPOCHS} with --examples alone."),
    ] = None,
    data: Annotated[
        Path | None,
        Option(help="A JSONL, JSON, CSV or Parquet file: measures examples and tokens, which then need no option."),
    ] = None,
    usd_per_hour: Annotated[float | None, Option(help="Your own price instead of the table's.")] = None,
) -> Question:
    """The question of these options; the core checks it."""
    return Question(
        model_id=model,
        ranks=tuple(r or (ASSUMED_RANK,)),
        alpha=alpha,
        lora=replace(lora, modules_to_save=names_in(modules_to_save), moe_scheme=moe),
        training=TrainingSetup(
            framework=framework,
            precision=precision,
            optim=optim,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accum,
            max_length=max_length,
            gradient_checkpointing=checkpointing,
            loss_path=loss_path,
            tokens=tokens,
            max_steps=steps,
            data=_data(data, examples, example_tokens, longest_tokens, epochs),
        ),
        gpu=gpu,
        usd_per_hour=usd_per_hour,
    )


def _data(
    file: Path | None, examples: int | None, mean: int | None, longest: int | None, epochs: float | None
) -> TrainingData | None:
    """The data of these options, which come before what a file measures; None without any."""
    measured = TrainingData()
    if file is not None:
        from rankviz.api import Api

        held = Api().data.measure(str(file))
        print_notes([held.in_words])
        measured = held.training_data()
    data = TrainingData(
        examples=measured.examples if examples is None else examples,
        mean_tokens=measured.mean_tokens if mean is None else mean,
        longest_tokens=measured.longest_tokens if longest is None else longest,
        epochs=epochs,
        form=measured.form,
        traits=measured.traits,
        file_name=measured.file_name,
        longest_is_upper=measured.longest_is_upper and longest is None,
        lengths=measured.lengths if mean is None and longest is None else (),
    )
    return None if data == TrainingData() else data


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that make its Question. One that takes `parameters` needs no model."""
    call = options_of(question, "question")(command)
    signature = inspect.signature(call)
    if "parameters" in signature.parameters:
        options = [each.replace(default="") if each.name == "model" else each for each in signature.parameters.values()]
        call.__signature__ = signature.replace(parameters=options)
    return call
