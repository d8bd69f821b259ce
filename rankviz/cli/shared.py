"""What all commands share: how they print, how they fail, and the arguments that come up again."""

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.targets import targets_in
from rankviz.errors import InvalidSettingError, NotRentedError

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
    """On stderr, before something starts."""
    for note in notes:
        print(note, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def one_line(text: str) -> str:
    """With its line breaks spelled, and without what a terminal would take for commands."""
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
