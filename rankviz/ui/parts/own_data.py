"""Builds the part "Your data" of the question: examples, their lengths and epochs, typed or measured from a file."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.bounds import one_of
from rankviz.core.cost.data import LENGTH_SHARES, Form, TrainingData, Trait, is_file_name
from rankviz.core.cost.notes import truncation
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.dataset import SUFFIXES
from rankviz.errors import InvalidSettingError
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain, remembered, slot
from rankviz.ui.wiring import notice_html

NAMES = ("examples", "example_tokens", "longest_tokens", "epochs")
"""Widgets of the question."""


class Measured(NamedTuple):
    """What a file sets. The length is then in epochs."""

    examples: int
    example_tokens: int
    longest_tokens: int
    epochs: float
    length: None
    measured_file: str
    file_note: str


class MeasuredFile(NamedTuple):
    """What the page keeps of a measured file beside its numbers: what an export needs to read it."""

    form: Form
    longest_tokens: int
    """The upper estimate. Another number in the box was typed."""
    name: str
    lengths: tuple[int, ...] = ()
    """As TrainingData has them; empty in addresses of before."""
    traits: tuple[Trait, ...] = ()
    """As TrainingData has them."""


def data_widgets(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The widgets by NAMES, the button `data_file`, and `file_note`, which says what it measured."""
    w: dict[str, Any] = {"measured_file": remembered(defaults["measured_file"])}
    plain('<h2 class="rv-hint">Your data</h2>')
    with gr.Row(elem_classes="rv-pair"):
        w["examples"] = box("Examples", defaults["examples"], placeholder="e.g. 5,000")
        w["epochs"] = gr.Number(
            defaults["epochs"], label="Epochs", step=1, min_width=120, placeholder="1 if empty", interactive=True
        )
    with gr.Row(elem_classes="rv-pair"):
        w["example_tokens"] = box("Tokens per example", defaults["example_tokens"], placeholder="e.g. 400")
        w["longest_tokens"] = box("Longest example", defaults["longest_tokens"], placeholder="e.g. 1,600")
    w["data_file"] = gr.UploadButton("Measure a file (JSONL, CSV, Parquet)", file_types=list(SUFFIXES), size="sm")
    w["file_note"] = plain(elem_id="file-note")
    slot("length-note")
    return w


def box(label: str, value: int | None, placeholder: str | None = None) -> gr.Number:
    """A box for a whole number. Without a minimum: Gradio would refuse the event without a word where the core says
    what to change."""
    return gr.Number(value, label=label, precision=0, step=1, min_width=120, placeholder=placeholder, interactive=True)


def measured(api: Api, *, file: str, epochs: float | None = None) -> Measured:
    """What an uploaded file says of the data."""
    held = api.data.measure(file)
    data = held.training_data()
    return Measured(
        examples=data.examples,
        example_tokens=data.mean_tokens,
        longest_tokens=data.longest_tokens,
        epochs=epochs or 1,
        length=None,
        measured_file=file_text(
            MeasuredFile(data.form, data.longest_tokens, data.file_name, data.lengths, data.traits)
        ),
        file_note=html.paragraphs(held.in_words),
    )


def file_text(file: MeasuredFile) -> str:
    """As `file_in` reads it: "messages.role.user:1600:chats.jsonl:12.300.1550", with more lengths."""
    return ":".join(
        (".".join((file.form, *file.traits)), str(file.longest_tokens), file.name, ".".join(map(str, file.lengths)))
    )


def file_in(text: str) -> MeasuredFile:
    """InvalidSettingError for another text."""
    form, _, rest = text.partition(":")
    longest, _, rest = rest.partition(":")
    name, _, lengths = rest.partition(":")
    form, *traits = form.split(".")
    one_of(form, "Form of the data", get_args(Form))
    for trait in traits:
        one_of(trait, "Trait of the data", get_args(Trait))
    readable = is_file_name(name) and name.lower().endswith(SUFFIXES)
    numbers = [longest, *(lengths.split(".") if lengths else ())]
    whole = all(each.isascii() and each.isdigit() and len(each) < 10 for each in numbers)
    if not (whole and readable and len(numbers) in (1, 1 + len(LENGTH_SHARES))):
        raise InvalidSettingError("The measured file must be form:longest:name, such as messages:1600:chats.jsonl.")
    return MeasuredFile(form, int(longest), name, tuple(map(int, numbers[1:])), tuple(traits))


def data_of(values: Mapping[str, Any]) -> TrainingData | None:
    """The data of the widgets; None where all are empty. Steps or tokens come before epochs. A measured file counts as
    long as there is a number of examples."""
    with_file = values["measured_file"] and values["examples"] is not None
    file = file_in(values["measured_file"]) if with_file else None
    is_as_measured = file is not None and file.longest_tokens == values["longest_tokens"]
    data = TrainingData(
        examples=values["examples"],
        mean_tokens=values["example_tokens"],
        longest_tokens=values["longest_tokens"],
        epochs=values["epochs"] if values["length"] is None else None,
        form=file.form if file else None,
        traits=file.traits if file else (),
        file_name=file.name if file else None,
        longest_is_upper=is_as_measured,
        lengths=file.lengths if is_as_measured else (),
    )
    return None if data == TrainingData() else data


def length_note(question: Question) -> str:
    """What length of training time and cost are for, as a paragraph. question: with a length."""
    training, data = question.training, question.training.data
    steps = f"{units.counted(training.total_steps, 'step')} of {training.rows_per_step} examples"
    if data is None:
        text = f"No data given: time and cost assume {steps} with {training.max_length:,} tokens each."
    elif training.data_steps is None:
        text = f"Time and cost are for {steps}."
    else:
        text = (
            f"Time and cost are for {units.counted(data.examples, 'example')} × "
            f"{units.counted(data.epochs, 'epoch')}: {steps}."
        )
    cut = truncation(training)
    return (notice_html(cut) if cut else "") + html.paragraphs(text, *_lengths(training, data))


def _lengths(training: TrainingSetup, data: TrainingData | None) -> Iterator[str]:
    """What is assumed or estimated about the lengths of given examples, and that a measured file is remembered."""
    if data is None:
        return
    if data.mean_tokens is None:
        longest = min(training.max_length, data.longest_tokens or training.max_length)
        yield f"Each example counts as {longest:,} tokens, because tokens per example are not given."
    if data.longest_is_upper:
        yield f"Longest example: {data.longest_tokens:,} tokens is the upper estimate."
    if data.file_name:
        yield f"The exported script reads {data.file_name} ({data.form})."
