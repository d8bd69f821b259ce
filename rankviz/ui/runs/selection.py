"""Which sweep and run the Runs tab shows, as clicks change them, and the selected runs on one chart."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from rankviz.errors import UserError
from rankviz.ui.parts import live, points
from rankviz.units import counted


class Choice(NamedTuple):
    """What is shown, by ids; an empty text where there is none."""

    sweep_id: str
    run_id: str = ""
    """A run of it."""
    open_id: str = ""
    """The sweep whose runs are in the list."""


NOTHING = Choice("")


def choice_of(api: Api, clicked: str, now: Choice) -> Choice:
    """After a click on a sweep or a run, by its id. A second click on it closes it."""
    if api.runs.is_sweep(clicked):
        return Choice(clicked, open_id="" if clicked == now.open_id else clicked)
    sweep_id = api.runs.get(clicked).request.sweep_id
    return Choice(sweep_id, "" if clicked == now.run_id else clicked, sweep_id)


class Overlay(NamedTuple):
    """The selected runs on one chart each."""

    heading: str
    curve: str
    loss: str
    caption: str
    qualities: list[tuple[str, str]]
    y: str


def overlay(api: Api, sweeps: Sequence[Sweep], selected: Collection[str], *, x: str, y: str, height: int) -> Overlay:
    """x, y: axes of the chart of quality and cost; a quality that these runs lack becomes the loss."""
    selected = frozenset(selected)  # each run of the folder is looked up in it
    drawn = [sweep for sweep in sweeps if any(run.run_id in selected for run in sweep.runs)]
    runs = [run for sweep in drawn for run in sweep.runs if run.run_id in selected]
    qualities = points.quality_choices(runs)
    y = y if y in dict(qualities).values() else "loss"
    with api.verdicts.comparing(runs):
        tradeoff = points.tradeoff_chart(drawn, x=x, y=y, run_ids=selected, height=height)
    return Overlay(
        heading=f"{counted(len(runs), 'selected run')} of {counted(len(drawn), 'sweep')}",
        curve=tradeoff.chart,
        loss=live.loss_chart(drawn, selected),
        caption=tradeoff.caption,
        qualities=qualities,
        y=y,
    )


def zip_of(api: Api, ids: Sequence[str]) -> str:
    """Runs or sweeps as another RankViz imports them. In a folder of its own: two visitors never share a file."""
    if not ids:
        raise UserError("Select at least one run: tick its box in the table.")
    return str(api.runs.zip_of(ids))


def imported(api: Api, file: str | None) -> Choice:
    """The sweep of the first run of the zip, opened."""
    if not file:
        raise UserError("Choose a zip of runs.")
    run_ids = list(api.runs.import_(Path(file)))
    gr.Info(f"{counted(len(run_ids), 'run')} imported.")
    sweep_id = api.runs.get(run_ids[0]).request.sweep_id
    return Choice(sweep_id, open_id=sweep_id)
