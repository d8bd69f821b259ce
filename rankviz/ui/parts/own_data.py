"""Builds the part "Your data" of the question: examples, their lengths and epochs, typed or measured from a file."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.cost.data import TrainingData
from rankviz.core.cost.question import Question
from rankviz.dataset import SUFFIXES
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain, slot

NAMES = ("examples", "example_tokens", "longest_tokens", "epochs")
"""Widgets of the question."""


class Measured(NamedTuple):
    """What a file sets. The length is then in epochs."""

    examples: int
    example_tokens: int
    longest_tokens: int
    epochs: float
    length: None
    file_note: str


def data_widgets(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The widgets by NAMES, the button `data_file`, and `file_note`, which says what it measured."""
    w: dict[str, Any] = {}
    plain('<h2 class="rv-hint">Your data</h2>')
    with gr.Row(elem_classes="rv-pair"):
        w["examples"] = box("Examples", defaults["examples"], placeholder="5,000")
        w["epochs"] = gr.Number(
            defaults["epochs"], label="Epochs", step=1, min_width=120, placeholder="1", interactive=True
        )
    with gr.Row(elem_classes="rv-pair"):
        w["example_tokens"] = box("Tokens per example", defaults["example_tokens"], placeholder="400")
        w["longest_tokens"] = box("Longest example", defaults["longest_tokens"], placeholder="1,600")
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
        file_note=html.paragraphs(held.in_words),
    )


def data_of(values: Mapping[str, Any]) -> TrainingData | None:
    """The data of the widgets; None where all are empty. Steps or tokens come before epochs."""
    data = TrainingData(
        examples=values["examples"],
        mean_tokens=values["example_tokens"],
        longest_tokens=values["longest_tokens"],
        epochs=values["epochs"] if values["length"] is None else None,
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
    return html.paragraphs(text)
