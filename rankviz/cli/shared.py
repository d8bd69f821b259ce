"""What commands share: options, how they print, fail and plot, and the question that options make."""

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from rankviz.core.cost.question import ASSUMED_EPOCHS, ASSUMED_RANK, ASSUMED_STEPS, Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.targets import names_in, targets_in
from rankviz.errors import InvalidSettingError, NotRentedError

if TYPE_CHECKING:
    from rankviz.core.cost.estimate import Estimate
    from rankviz.core.forecast.decision import Decision
    from rankviz.core.runs.record import Sweep
    from rankviz.core.spectrum import Spectrum
    from rankviz.verdict import Verdict


Json = Annotated[bool, Option("--json", help="Print JSON instead of a table.")]
Model = Annotated[str, Argument(help="A catalogue id, a Hub id, a folder or a config.json.")]
UnslothFlag = Annotated[bool | None, Option(help="Unsloth's flag.")]
Batch = Annotated[int, Option(help="Batch size per micro-step.")]
Accum = Annotated[int, Option(help="Micro-steps per optimizer step.")]

Force = Annotated[bool, Option("--force", help="Replace files that are there.")]


def options_of(make: Callable[..., Any], parameter: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of `make` in place of a parameter, which then takes what `make` returns."""
    options = inspect.signature(make).parameters

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def call(**values: Any) -> Any:
            made = make(**{name: values.pop(name) for name in options})
            return command(**{parameter: made}, **values)

        signature = inspect.signature(command)
        merged = [
            option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for each in signature.parameters.values()
            for option in (options.values() if each.name == parameter else [each])
        ]
        call.__signature__ = signature.replace(parameters=merged)
        return call

    return decorate


def adapter(
    targets: Annotated[
        str, Option(help="all-linear, attention, mlp, qv, unsloth, or module names: NAME,NAME.")
    ] = "unsloth",
    rslora: Annotated[bool, Option("--rslora", help="Scale by alpha / sqrt(r).")] = False,
    dora: Annotated[bool, Option("--dora", help="Add DoRA's magnitude vectors.")] = False,
    expert_rank: Annotated[
        str,
        Option(help="Rank of each expert: r, r/active (r / experts per token), r/all (r / all experts) or a number."),
    ] = "r",
    unsloth_class: Annotated[str, Option(help="Under Unsloth: FastLanguageModel or FastModel.")] = "FastLanguageModel",
    text_only: Annotated[
        bool, Option("--text-only", help="Under Unsloth: load the text model of a multimodal checkpoint alone.")
    ] = False,
    finetune_vision_layers: Annotated[bool | None, Option(help="Unsloth's flag for whole multimodal models.")] = None,
    finetune_language_layers: UnslothFlag = None,
    finetune_attention_modules: UnslothFlag = None,
    finetune_mlp_modules: UnslothFlag = None,
) -> LoraConfig:
    """The adapter of these options, but for its rank and alpha."""
    return LoraConfig(
        target_modules=targets_in(targets),
        use_rslora=rslora,
        use_dora=dora,
        expert_rank=expert_rank,
        unsloth_class=unsloth_class,
        text_only=text_only,
        finetune_vision_layers=finetune_vision_layers,
        finetune_language_layers=finetune_language_layers,
        finetune_attention_modules=finetune_attention_modules,
        finetune_mlp_modules=finetune_mlp_modules,
    )


def fail(message: str, code: int) -> None:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def require_new(path: Path, *, force: bool, text: str | None = None) -> None:
    """InvalidSettingError where no file can be written, or another file is there. text: what is to be written, which
    may be there already."""
    if path.is_dir():
        raise InvalidSettingError(f"{path} is a folder: give the name of a file in it.")
    if not path.parent.is_dir():
        raise InvalidSettingError(f"The folder {path.parent} does not exist. Create it first.")
    if path.exists() and not force and (text is None or path.read_text(encoding="utf-8", errors="replace") != text):
        raise InvalidSettingError(
            f"{path} is there already{'' if text is None else ', with another content'}. Choose another name or "
            "folder, or add --force to replace it."
        )


@contextmanager
def options_as_typed() -> Iterator[None]:
    """Names options in errors as they are typed, not as operations call them."""
    try:
        yield
    except NotRentedError as error:
        raise NotRentedError("--flavor and --spend need --engine hf-jobs.") from error


def print_notes(notes: Iterable[str]) -> None:
    """Print notes on stderr, before something starts."""
    for note in notes:
        print(note, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def one_line(text: str) -> str:
    """Return the text with its line breaks spelled, and without what a terminal would take for commands."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def table(title: str, columns: list[str], rows: list[list[str]], *, notes: list[str] | None = None) -> None:
    """Print a table, the first column on the left, and notes below it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*map(one_line, row))
    # A pipe or a file has no width of its own: leave room for every column.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
    console.print(table, *(f"- {note}" for note in notes or []), sep="\n")


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


Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Also write a figure: FILE.html, FILE.png or FILE.svg."),
]


def check(plot: Path | None, *, force: bool) -> None:
    """Refuse a file that cannot be written or is there already, before the command does its work."""
    if plot:
        from rankviz.figures import plot_file

        require_new(plot_file(plot), force=force)


def plot_estimate(plot: Path, estimate: "Estimate", basis: str) -> None:
    """Memory by component over rank. basis: what the estimate rests on, in a sentence."""
    from rankviz.figures import memory_figure, memory_info, write_figure

    info = memory_info(estimate)
    title = f"Memory by component and rank: {estimate.model.id}"
    _written(write_figure(memory_figure(info), plot, title=title, source=f"{info.source} {basis}"))


def plot_sweep(plot: Path, sweep: "Sweep", verdict: "Verdict | None", decision: "Decision | None" = None) -> None:
    """Quality against adapter size; of a fast curve or a quick look the loss by rank, with the forecast of decision."""
    from rankviz import figures
    from rankviz.core.runs.words import sweep_title

    title = sweep_title(sweep)
    if any(run.cuts for run in sweep.runs):
        info = figures.rank_curve_info(sweep, verdict, forecast=decision.forecast if decision else None)
        figure, source = figures.rank_curve_figure(info), info.source
    else:
        info = figures.tradeoff_info([sweep])
        figure, source = figures.tradeoff_figure(info), " ".join(info.notes)
    _written(figures.write_figure(figure, plot, title=title, source=source))


def plot_spectrum(plot: Path, spectrum: "Spectrum") -> None:
    """Singular values of the module that needs the highest rank, and of the same module in other blocks."""
    from rankviz.figures import spectrum_figure, spectrum_info, write_figure

    info = spectrum_info(spectrum)
    _written(write_figure(spectrum_figure(info), plot, title=f"Singular values: {spectrum.name}", source=info.source))


def _written(path: Path) -> None:
    print(f"Plot: {path}", file=sys.stderr)
