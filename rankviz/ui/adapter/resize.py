"""Shows what an adapter can be truncated to: choices with their exact sizes, and the result of the selected one."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.core.spectrum import FEW_STEPS, Spectrum
from rankviz.figures.adapter import share_text
from rankviz.ui.parts import html
from rankviz.ui.parts.html import Cell, Row
from rankviz.units import rounded_percent as percent

if TYPE_CHECKING:
    from rankviz.core.spectrum import Truncation
    from rankviz.trained.resize import ResizePlan

BY_RANK, BY_ENERGY = "rank", "energy"
AS_IT_IS = "unchanged"
MAX_DIGITS = 10
"""Of a number in what a click reports."""


class Resize(NamedTuple):
    """What the adapter is to be truncated to: one rank, or a share of each module's energy."""

    r: int | None
    energy: float | None
    dtype: str | None


def resize_of(mode: str, r: float, energy: float, dtype: str) -> Resize:
    """The widgets' values. energy: in percent."""
    return Resize(
        r=int(r) if mode == BY_RANK else None,
        energy=(energy or 0) / 100 if mode == BY_ENERGY else None,
        dtype=None if dtype == AS_IT_IS else dtype,
    )


def refused_energy(resize: Resize) -> str:
    """Why this share of energy cannot be kept, in percent as the page has it; "" where it can."""
    if resize.energy is None or 0 < resize.energy <= 1:
        return ""
    return f"The energy to keep must be above 0 % and at most 100 % (got {100 * resize.energy:g} %)."


def choice_id(resize: "Resize | Truncation") -> str:
    """What a click on a choice reports: "r8", "e99"."""
    return f"e{100 * resize.energy:g}" if resize.r is None else f"r{resize.r}"


def chosen_of(choice: str) -> tuple[str, float] | None:
    """The mode and its value (a rank, or percent) of a click; None for anything else."""
    kind, number = choice[:1], choice[1:]
    if len(number) > MAX_DIGITS:
        return None
    if kind == "r" and number.isdecimal():
        return BY_RANK, int(number)
    if kind == "e" and number.replace(".", "", 1).isdecimal():
        return BY_ENERGY, float(number)
    return None


def choices_html(
    spectrum: Spectrum,
    choices: "Sequence[tuple[Truncation, ResizePlan]]",
    resize: Resize,
    selected: "ResizePlan | None",
    losses: Mapping[int, float],
) -> str:
    """A row for each choice with its exact size; a click selects it.

    Args:
        spectrum: The adapter as it is.
        choices: Truncations with their results.
        resize: The selected one, which gets a row of its own where it is none of the choices.
        selected: Its result; None where it cannot be.
        losses: Held-out loss by rank, where it was measured.
    """
    if selected and choices and choice_id(resize) not in {choice_id(each) for each, _ in choices}:
        choices = [*choices, (resize, selected)]
    rows = [
        Row(
            cells=[
                Cell(_label(plan, each), kind="left", sub=_loss(losses, each.r) if each.r else "each module its own"),
                _file(plan.file_bytes, _smaller(plan)),
                _energy(spectrum, plan, each),
            ],
            pick=choice_id(each),
            chosen=choice_id(each) == choice_id(resize),
        )
        for each, plan in choices
    ]
    now = Cell(f"r = {spectrum.r} (now)", kind="left", sub=_loss(losses, spectrum.r))
    rows_and_now = [*rows, Row(cells=[now, _file(spectrum.file_bytes), "100.00 %"])]
    return html.table(["Rank", "File", "Energy kept"], rows_and_now, label="Choices of a lower rank") if rows else ""


def _loss(losses: Mapping[int, float], r: int | None) -> Cell | str:
    return html.rounded("held-out loss {:.3f}".format, losses[r], html.PER_TOKEN) if r in losses else ""


def _label(plan: "ResizePlan", each: "Truncation | Resize") -> str:
    return f"r = {each.r}" if each.r else _ranks(plan)


def _ranks(plan: "ResizePlan") -> str:
    ranks = plan.by_module.values()
    low, high = min(ranks), max(ranks)
    return f"r = {low}" if low == high else f"r = {low} – {high}"


def _energy(spectrum: Spectrum, plan: "ResizePlan", each: "Truncation | Resize") -> Cell | str:
    """What is kept of all updates, and of the module that keeps least."""
    if plan.energy_kept is None:
        return "–"
    least = f"≥ {percent(each.energy, 0)}" if each.r is None else share_text(spectrum.weakest(each.r) or 0)
    return Cell(share_text(plan.energy_kept), sub=f"weakest module {least}")


def _file(size: int, smaller: str = "") -> Cell:
    return html.rounded(units.file_size, size, "bytes", sub=smaller)


def _smaller(plan: "ResizePlan") -> str:
    share = plan.smaller_by
    return f"{percent(abs(share))} {'smaller' if share >= 0 else 'larger'}"


def sizes_html(plan: "ResizePlan") -> str:
    """The selected truncation, exactly."""
    kept = share_text(plan.energy_kept) if plan.energy_kept is not None else "no update"
    return html.stats(
        [
            ("Ranks", _ranks(plan)),
            ("Energy kept", kept),
            ("Parameters", f"{plan.parameters:,}"),
            ("File", f"{plan.file_bytes:,} bytes"),
            ("Before", f"{plan.file_bytes_before:,} bytes"),
            ("Change", _smaller(plan)),
        ]
    )


def few_steps_note(spectrum: Spectrum) -> str:
    """That no rank is recommended after few steps; "" otherwise."""
    if not spectrum.after_few_steps:
        return ""
    return (
        f"After {units.counted(spectrum.training_steps, 'step')}, the spectrum is mostly noise, so no rank is "
        f"recommended: half the trained rank is offered. Train for {FEW_STEPS} steps or more, then look again."
    )


def button(spectrum: Spectrum, plan: "ResizePlan | None") -> gr.Button:
    """Resizes to the selected ranks. It stands out only where a rank can be recommended."""
    return gr.Button(
        button_text(plan) if plan else "Resize",
        variant="secondary" if spectrum.after_few_steps else "primary",
        interactive=plan is not None,
    )


def button_text(plan: "ResizePlan") -> str:
    return f"Resize to {_ranks(plan)} and download ({units.file_size(plan.file_bytes)})"


def resized_text(name: str, plan: "ResizePlan") -> str:
    """What was made, and what to do with it."""
    return (
        f"{name} has {_ranks(plan)} and {plan.file_bytes:,} bytes of weights. Unpack it and load it with "
        "PeftModel.from_pretrained(base, folder), then compare its answers with those of the original."
    )


def by_module(spectrum: Spectrum, plan: "ResizePlan | None") -> Mapping[str, int]:
    """The rank of each layer after the resize; empty without a plan."""
    return {layer.name: plan.by_module[layer.module] for layer in spectrum.layers} if plan else {}
