"""How commands show runs: while they run, as tables and sentences, or as JSON."""

import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz import units
from rankviz.api import Api
from rankviz.api.runs.stored import curve_points_json, run_json
from rankviz.cli.shared import fail, one_line
from rankviz.cli.studies import print_bent
from rankviz.core.runs.events import LOCAL, TRAINING
from rankviz.core.runs.metric import LOSS, METRICS, Metric, measured_metrics
from rankviz.core.runs.run_time import device_time
from rankviz.core.runs.sweep_time import SweepProgress, stage_in_words, stage_seconds
from rankviz.core.runs.words import run_label, still_training, sweep_title, title

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.metric import Measured
    from rankviz.core.runs.record import RunRecord, Sweep
    from rankviz.core.runs.request import RunRequest


def decision_keys(api: Api, sweep_id: str) -> dict[str, Any]:
    """Forecast and decision for the JSON of a sweep, None as long as fewer than two ranks have finished runs; the
    better learning rate of one rank, and the rank by each score."""
    from rankviz.core.forecast.decision import decision_json
    from rankviz.core.forecast.quick_look import bent_json

    decision, rate = api.decisions.of(sweep_id), api.decisions.rate(sweep_id)
    return {
        "forecast": bent_json(decision.forecast) if decision else None,
        "decision": decision_json(decision) if decision else None,
        "rate": {"r": rate.r, "best": rate.best, "differs": rate.differs, "sentences": list(rate.sentences)}
        if rate
        else None,
        "scores": {
            metric.key: {"r": score.pick, "sentences": list(score.sentences)}
            for metric in api.verdicts.metrics(sweep_id)
            if (score := api.decisions.score(sweep_id, metric))
        },
    }


def print_decision(api: Api, sweep_id: str) -> None:
    """The forecast as a table, then both answers; of one rank the better learning rate."""
    decision = api.decisions.of(sweep_id)
    if rate := api.decisions.rate(sweep_id):
        print(*rate.sentences, sep="\n")
    if decision is None:
        return
    print_bent(decision.forecast)
    print(*decision.train_sentences, sep="\n")
    if decision.forecast.repeat_at and not api.runs.sweep(sweep_id).recorded:
        print(f"Measure the noise: rankviz runs add {sweep_id} -r {decision.forecast.repeat_at}")
    print()
    print(*decision.ship_sentences, sep="\n")
    print()


GAP = "  "
LEAST_VALUE = 24
"""Characters of a value beside its name, however narrow the terminal is."""


class Column(NamedTuple):
    """A column of a table."""

    title: str
    cells: Sequence[str]
    order: int = 0
    """Where there is no room for all, those with the lowest come first; 0 is always there."""
    is_text: bool = False
    """Text stands at the left, numbers at the right."""

    @property
    def width(self) -> int:
        """A title may take several lines, a cell one."""
        return max(map(len, [*self.title.split(), *self.cells]), default=0)


def terminal_width() -> int | None:
    """Width in characters; None for a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_rows(
    title: str, columns: Sequence[Column], width: int | None, above: Mapping[int, str] = MappingProxyType({})
) -> None:
    """A table within so many characters; columns that have no room are named below it, empty ones left out. above:
    lines that stand above rows, by the row's place."""
    columns = [
        column._replace(cells=[one_line(cell) for cell in column.cells])
        for column in columns
        if not column.order or any(column.cells)
    ]
    shown = _fitting(columns, width)
    heads = [textwrap.wrap(column.title, column.width or 1) or [""] for column in shown]
    height = max(map(len, heads))
    print(f"{title}\n")
    _print_lines(shown, [[""] * (height - len(head)) + head for head in heads])
    print(GAP + GAP.join("-" * column.width for column in shown))
    _print_lines(
        shown, [column.cells for column in shown], {at: _wrapped(one_line(x), width) for at, x in above.items()}
    )
    if left_out := [column.title for column in columns if column not in shown]:
        print(_wrapped(f"No room here for: {', '.join(left_out)}. A wider terminal and --json have all.", width))
    print()


def print_facts(title: str, facts: Sequence[tuple[str, str]], width: int | None) -> None:
    """A name and a value on each line; in a terminal a long value goes on below its beginning."""
    name_width = max(len(name) for name, _ in facts)
    print(f"{title}\n")
    for name, value in facts:
        before = f"{GAP}{name.ljust(name_width)}{GAP}"
        room = None if width is None else max(LEAST_VALUE, width - len(before))
        print(before + _wrapped(one_line(" ".join(value.split())), room).replace("\n", "\n" + " " * len(before)))
    print()


def _fitting(columns: Sequence[Column], width: int | None) -> Sequence[Column]:
    kept, used = [], 0
    for column in sorted(columns, key=lambda column: column.order):
        takes = len(GAP) + column.width
        if not column.order or width is None or used + takes <= width:
            kept.append(column)
            used += takes
    return [column for column in columns if column in kept]


def _print_lines(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], above: Mapping[int, str] = MappingProxyType({})
) -> None:
    widths = [column.width for column in columns]
    for at, row in enumerate(zip(*cells, strict=True)):
        if at in above:
            print(above[at])
        texts = [
            f"{text:{'<' if column.is_text else '>'}{width}}"
            for column, width, text in zip(columns, widths, row, strict=True)
        ]
        print((GAP + GAP.join(texts)).rstrip())


def _wrapped(text: str, width: int | None) -> str:
    """Breaks at spaces alone: what is copied from a terminal, such as an id, stays whole."""
    if width is None:
        return text
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


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
                place = api.locations.in_words(run)
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
    """Time left of the sweep, or else of its stage; empty while no run of it is running, and with a trouble."""
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


MOST_NAMED = 4
"""Runs that failed alike."""


def sweep_json(api: Api, sweep_id: str) -> dict[str, Any]:
    """A sweep's runs, fast curves and forecast, as `rankviz sweep --json` prints them."""
    sweep = api.runs.sweep(sweep_id)
    waits = api.runs.why_each_waits(sweep)
    rows = [
        run_json(summary) | {"waits": waits.get(summary.record.run_id)} for summary in api.runs.summaries(sweep.runs)
    ]
    cuts = curve_points_json(api.runs.fast_curves(sweep_id))
    standing = {"cost": api.spending.of_sweep(sweep).as_json(), "waits": api.runs.why_sweep_waits(sweep) or None}
    return {"sweep_id": sweep_id, "runs": rows, "cuts": cuts, **decision_keys(api, sweep_id), **standing}


def print_sweep(api: Api, sweep_id: str) -> None:
    """A sweep's runs, fast curves and forecast as tables; why runs failed, what it has cost and why it waits, what to
    train and to ship, and its verdict, in sentences."""
    sweep = api.runs.sweep(sweep_id)
    runs_table(api, [sweep])
    for line in errors_in_words(sweep):
        print(line)
    for sentence in (*standing(api, sweep), *filter(None, [still_training(sweep)])):
        print(sentence)
    _curves_table(api.runs.fast_curves(sweep_id))
    print_decision(api, sweep_id)
    for metric in api.verdicts.metrics(sweep_id):
        _print_verdict(api, sweep_id, metric)


def runs_table(api: Api, sweeps: Sequence["Sweep"]) -> None:
    """A row for each run under the title of its sweep, with an accuracy's column where some run measured it, and where
    it is where that tells something."""
    records = [run for sweep in sweeps for run in sweep.runs]
    firsts = accumulate((len(sweep.runs) for sweep in sweeps), initial=0)
    places = [api.locations.in_words(record) for record in records]
    placed = any(place not in ("", title(LOCAL)) for place in places)
    accuracies = [metric for metric in measured_metrics(records) if metric is not LOSS]

    def column(name: str, order: int, cell: Callable[["RunRecord"], str], is_text: bool = False) -> Column:
        return Column(name, [cell(record) for record in records], order, is_text)

    columns = [
        column("Run", 0, lambda run: run.run_id, True),
        column("State", 0, lambda run: str(run.state), True),
        *([Column("Place", places, 3, True)] if placed else []),
        column("r", 1, lambda run: str(run.request.r)),
        column("alpha", 9, lambda run: f"{run.request.lora.lora_alpha:g}"),
        column("lr", 4, lambda run: f"{run.request.learning_rate:g}"),
        column("seed", 5, lambda run: str(run.request.seed)),
        column("Loss before", 10, lambda run: f"{run.loss_before.loss:.4f}" if run.loss_before else ""),
        column("Loss after", 2, lambda run: f"{run.loss_after.loss:.4f}" if run.loss_after else ""),
        *(column(each.label, 8, lambda run, each=each: _value(run.loss_after, each)) for each in accuracies),
        column("Adapter file", 11, lambda run: "" if run.adapter_bytes is None else units.file_size(run.adapter_bytes)),
        column(
            "Peak memory", 12, lambda run: units.memory_size(run.completed.peak_memory_bytes) if run.completed else ""
        ),
        column("Training time", 6, lambda run: units.duration(run.completed.train_seconds) if run.completed else ""),
        column("Machine time", 7, lambda run: device_time([run], time.time()).in_words),
    ]
    titles = dict(zip(firsts, map(sweep_title, sweeps), strict=False))
    print_rows(units.counted(len(records), "run"), columns, terminal_width(), titles)


def errors_in_words(sweep: "Sweep") -> Sequence[str]:
    """A line for each error of its failed runs, the same one once."""
    labels: dict[str, list[str]] = {}
    for run in sweep.runs:
        if run.state == "failed":
            labels.setdefault(run.error, []).append(run_label(run, sweep))
    return [f"{_failed(runs, len(sweep.runs))}: {one_line(' '.join(error.split()))}" for error, runs in labels.items()]


def _failed(labels: Sequence[str], runs: int) -> str:
    """ "2 runs failed (r = 4, seed 0; r = 4, seed 1)"; without their names where these are all, or many."""
    named = f" ({'; '.join(labels)})" if len(labels) < runs and len(labels) <= MOST_NAMED else ""
    return f"{units.counted(len(labels), 'run')} failed{named}"


def _curves_table(curves: Sequence["FastCurve"]) -> None:
    if not curves:
        return
    shown = [m for m in METRICS.values() if any(m.of(p) is not None for curve in curves for p in curve.points)]
    points = [(curve.run_id, point) for curve in curves for point in curve.points]
    columns = [
        Column("Run", [run_id for run_id, _ in points], 0, True),
        Column("r", [str(point.r) for _, point in points]),
        *(
            Column(metric.label, [_value(point, metric) for _, point in points], at)
            for at, metric in enumerate(shown, 1)
        ),
        Column("Recovery steps", [str(point.recovery_steps) for _, point in points], len(METRICS) + 1),
    ]
    print_rows("Fast curve: the adapter of the highest rank, truncated", columns, terminal_width())


def _value(measured: "Measured | None", metric: Metric) -> str:
    """Empty where it is not known."""
    return "" if (value := metric.of(measured)) is None else metric.text(value)


def _print_verdict(api: Api, sweep_id: str, metric: Metric) -> None:
    from rankviz.verdict import sentences

    result = api.verdicts.of_sweep(sweep_id, metric=metric.key)
    if result and len(result.verdict.ranks) > 1:
        if metric is not LOSS:
            print(f"\n{metric.label}, higher is better:")
            if score := api.decisions.score(sweep_id, metric):
                print(*score.sentences, sep="\n")
        for sentence in sentences(result.verdict):
            print(sentence)
