"""How commands show a sweep while it runs: the stage and step of each run, and the time left of all."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import fail
from rankviz.core.runs.events import LOCAL, TRAINING
from rankviz.core.runs.sweep_time import SweepProgress, stage_in_words, stage_seconds
from rankviz.core.runs.words import title

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

    from rankviz.core.runs.record import RunRecord, Sweep
    from rankviz.core.runs.request import RunRequest

STOPPED = "The runs go on. `rankviz runs watch {id}` shows them again, `rankviz runs cancel {id}` ends them."
LEAST_BAR, MOST_BAR = 10, 40
"""Characters."""


def watch(api: Api, sweep_id: str) -> None:
    """A bar for the whole sweep and one for each run on stderr, read from the journals, until all have ended. Ctrl-C
    ends the command with what to do next, and the runs go on."""
    try:
        _watch(api, sweep_id)
    except KeyboardInterrupt:
        fail(STOPPED.format(id=sweep_id), 130)


def _watch(api: Api, sweep_id: str) -> None:
    from rich.console import Console

    with bars(Console(stderr=True)) as display:
        whole, tasks = display.add_task("all runs", total=None, count="", status=""), {}
        for sweep in api.runs.follow(sweep_id):
            progress = api.runs.progress(sweep)
            total = None if progress.share is None else 1.0
            display.below = standing(api, sweep)
            display.update(whole, total=total, completed=progress.share or 0.0, status=time_left(progress))
            for run in sweep.runs:  # one may have been added meanwhile
                if run.run_id not in tasks:
                    steps = run.request.max_steps
                    tasks[run.run_id] = display.add_task(_label(run.request), total=steps, count="", status="")
                count = f"{run.steps_done}/{run.request.max_steps}"
                place = api.whereabouts.in_words(run)
                shown = {"count": count, "status": status(run, time.time(), place)}
                display.update(tasks[run.run_id], completed=run.steps_done, **shown)


def bars(console: "Console") -> "Progress":
    """Bars that keep their width, with sentences (`below`) under them that may be long."""
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Bars(Progress):
        below: Sequence[str] = ()

        def get_renderables(self) -> "Iterable[RenderableType]":
            yield self.make_tasks_table(self.tasks)
            yield from map(Text, self.below)

    width = max(LEAST_BAR, min(MOST_BAR, console.width // 4))
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(width, table_column=Column(width=width, no_wrap=True)),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[status]}", markup=False, table_column=Column()),  # which alone takes several lines
        console=console,
    )


def standing(api: Api, sweep: "Sweep") -> Sequence[str]:
    """What a sweep has cost so far, that its job ends before its runs do or after them, and why it waits, as
    sentences."""
    cost = api.spending.of_sweep(sweep).sentence()
    return list(
        filter(None, [cost, api.jobs.ends_early(sweep), api.jobs.still_costs(sweep), api.runs.why_sweep_waits(sweep)])
    )


def time_left(progress: SweepProgress) -> str:
    """Of the whole sweep, or else of its stage; empty while no run of it is running, and with a trouble."""
    if progress.number is None or progress.trouble:
        return ""
    if progress.seconds_left is not None:
        return f"about {units.duration(progress.seconds_left)} left"
    if progress.stage_seconds_left is not None:
        return f"about {units.duration(progress.stage_seconds_left)} left of this stage"
    return "time left not known yet"


def status(run: "RunRecord", now: float, place: str = "") -> str:
    """What a run is doing; of training its loss and pace; and where it is or is to be (place), of one that runs without
    this machine, which goes without saying. now: unix seconds."""
    if run.state.ended:
        return str(run.state)
    return "  ".join(filter(None, [*_doing(run, now), "" if run.stage and place == title(LOCAL) else place]))


def _doing(run: "RunRecord", now: float) -> Sequence[str]:
    if not run.stage:
        return [str(run.state)]
    if run.stage == TRAINING and run.steps:
        last = run.steps[-1]
        pace = f"{run.tokens_per_second:,.0f} tokens/s" if run.tokens_per_second else ""
        return [f"loss {last.loss:.3f}", pace, units.memory_size(last.memory_bytes)]
    so_far = stage_seconds(run, now)
    return [stage_in_words(run), units.duration(so_far) if so_far is not None else ""]


def _label(request: "RunRequest") -> str:
    return f"r {request.r}  lr {request.learning_rate:g}  seed {request.seed}"
