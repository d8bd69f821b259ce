"""Shows runs on the terminal: while they run, as tables and sentences, or as JSON."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rankviz import units
from rankviz.api import Api
from rankviz.api.runs.runs import curve_points_json, run_json
from rankviz.cli.shared import fail, one_line, table
from rankviz.cli.studies import print_bent
from rankviz.core.runs.events import LOCAL, TRAINING
from rankviz.core.runs.metric import LOSS, METRICS, Metric
from rankviz.core.runs.run_time import device_time
from rankviz.core.runs.sweep_time import SweepProgress, stage_in_words, stage_seconds
from rankviz.core.runs.words import run_label, still_training, sweep_title, title

if TYPE_CHECKING:
    from rankviz.core.runs.events import HeldOut
    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.record import RunRecord, Sweep

STOPPED = "The runs go on. `rankviz runs watch {id}` shows them again, `rankviz runs cancel {id}` ends them."


def watch(api: Api, sweep_id: str) -> None:
    """Show a bar for the whole sweep and one for each run on stderr until all have ended. Ctrl-C ends the command with
    what to do next, and the runs go on."""
    try:
        _watch(api, sweep_id)
    except KeyboardInterrupt:
        fail(STOPPED.format(id=sweep_id), 130)


def _watch(api: Api, sweep_id: str) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(min(40, console.width // 4))
    bars = Progress(*columns, TextColumn("{task.fields[status]}", markup=False), console=console)
    whole, tasks = bars.add_task("all runs", total=None, status=""), {}
    with Live(bars, console=console) as display:
        for sweep in api.runs.follow(sweep_id):
            progress = api.runs.progress(sweep)
            total = None if progress.share is None else 1.0
            bars.update(whole, total=total, completed=progress.share or 0.0, status=time_left(progress))
            for run in sweep.runs:  # one may have been added meanwhile
                request = run.request
                if run.run_id not in tasks:
                    label = f"r {request.r}  lr {request.learning_rate:g}  seed {request.seed}"
                    tasks[run.run_id] = bars.add_task(label, total=request.max_steps, status="")
                words = f"{run.steps_done}/{request.max_steps}  {status(run, time.time(), api.locations.in_words(run))}"
                bars.update(tasks[run.run_id], completed=run.steps_done, status=words)
            display.update(Group(bars, *map(Text, standing(api, sweep))), refresh=True)


def standing(api: Api, sweep: "Sweep") -> Sequence[str]:
    """Return what a sweep has cost so far, whether its job outlives or cuts its runs, and why it waits, in
    sentences."""
    of_jobs = api.jobs.ends_early(sweep), api.jobs.still_costs(sweep)
    return list(filter(None, [api.spending.of_sweep(sweep).sentence(), *of_jobs, api.runs.why_sweep_waits(sweep)]))


def time_left(progress: SweepProgress) -> str:
    """Return the time left of the sweep, or else of its stage; empty while none of its runs is running."""
    if progress.number is None or progress.trouble:
        return ""
    if progress.seconds_left is not None:
        return f"about {units.duration(progress.seconds_left)} left"
    if progress.stage_seconds_left is not None:
        return f"about {units.duration(progress.stage_seconds_left)} left of this stage"
    return "time left not known yet"


def status(run: "RunRecord", now: float, place: str = "") -> str:
    """Return what a run is doing, with loss and pace of training, and its place where that is not this machine.
    now: unix seconds."""
    if run.state.ended:
        return str(run.state)
    if not run.stage:
        doing = [str(run.state)]
    elif run.stage == TRAINING and run.steps:
        last = run.steps[-1]
        pace = f"{run.tokens_per_second:,.0f} tokens/s" if run.tokens_per_second else ""
        doing = [f"loss {last.loss:.3f}", pace, units.memory_size(last.memory_bytes)]
    else:
        seconds = stage_seconds(run, now)
        doing = [stage_in_words(run), units.duration(seconds) if seconds is not None else ""]
    return "  ".join(filter(None, [*doing, "" if run.stage and place == title(LOCAL) else place]))


def sweep_json(api: Api, sweep_id: str) -> dict[str, Any]:
    """Return a sweep's runs, fast curves, forecast and decision, as `rankviz sweep --json` prints them: None while
    fewer than two ranks have finished runs; the better learning rate of one rank, and the rank by each score."""
    from rankviz.core.forecast.decision import decision_json
    from rankviz.core.forecast.quick_look import bent_json

    sweep = api.runs.sweep(sweep_id)
    waits, decision, rate = api.runs.why_each_waits(sweep), api.decisions.of(sweep_id), api.decisions.rate(sweep_id)
    scores = {metric.key: api.decisions.score(sweep_id, metric) for metric in api.verdicts.metrics(sweep_id)}
    return {
        "sweep_id": sweep_id,
        "runs": [run_json(each) | {"waits": waits.get(each.record.run_id)} for each in api.runs.summaries(sweep.runs)],
        "cuts": curve_points_json(api.runs.fast_curves(sweep_id)),
        "forecast": bent_json(decision.forecast) if decision else None,
        "decision": decision_json(decision) if decision else None,
        "rate": rate and {"r": rate.r, "best": rate.best, "differs": rate.differs, "sentences": list(rate.sentences)},
        "scores": {key: {"r": each.pick, "sentences": list(each.sentences)} for key, each in scores.items() if each},
        "cost": api.spending.of_sweep(sweep).as_json(),
        "waits": api.runs.why_sweep_waits(sweep) or None,
    }


def print_sweep(api: Api, sweep_id: str) -> None:
    """Print a sweep's runs, fast curves and forecast as tables; errors, cost, what to train and to ship, and its
    verdicts in sentences."""
    from rankviz.verdict import sentences

    sweep = api.runs.sweep(sweep_id)
    runs_table(api, sweep)
    for sentence in (*errors_in_words(sweep), *standing(api, sweep), *filter(None, [still_training(sweep)])):
        print(sentence)
    _print_curves(api.runs.fast_curves(sweep_id))
    if rate := api.decisions.rate(sweep_id):
        print(*rate.sentences, sep="\n")
    if decision := api.decisions.of(sweep_id):
        print_bent(decision.forecast)
        print(*decision.train_sentences, sep="\n")
        if decision.forecast.repeat_at and not sweep.recorded:
            print(f"Measure the noise: rankviz runs add {sweep_id} -r {decision.forecast.repeat_at}")
        print("", *decision.ship_sentences, "", sep="\n")
    for metric in api.verdicts.metrics(sweep_id):
        result = api.verdicts.of_sweep(sweep_id, metric=metric.key)
        if result and len(result.verdict.ranks) > 1:
            if metric is not LOSS:
                score = api.decisions.score(sweep_id, metric)
                print(f"\n{metric.label}, higher is better:", *(score.sentences if score else ()), sep="\n")
            print(*sentences(result.verdict), sep="\n")


def runs_table(api: Api, sweep: "Sweep") -> None:
    """Print a row for each run of a sweep, under its title."""
    rows = [_run_cells(api, run) for run in sweep.runs]
    table(f"{sweep.sweep_id}: {sweep_title(sweep)}", rows, texts=2)


def _run_cells(api: Api, run: "RunRecord") -> Mapping[str, str]:
    place, request, done = api.locations.in_words(run), run.request, run.completed
    return {
        "Run": run.run_id,
        "State": str(run.state),
        "Place": "" if place == title(LOCAL) else place,
        "r": str(request.r),
        "alpha": f"{request.lora.lora_alpha:g}",
        "lr": f"{request.learning_rate:g}",
        "seed": str(request.seed),
        "Loss before": f"{run.loss_before.loss:.4f}" if run.loss_before else "",
        "Loss after": f"{run.loss_after.loss:.4f}" if run.loss_after else "",
        **{each.label: _value(run.loss_after, each) for each in METRICS.values() if each is not LOSS},
        "Adapter file": "" if run.adapter_bytes is None else units.file_size(run.adapter_bytes),
        "Peak memory": units.memory_size(done.peak_memory_bytes) if done else "",
        "Training time": units.duration(done.train_seconds) if done else "",
        "Machine time": device_time([run], time.time()).in_words,
    }


def errors_in_words(sweep: "Sweep") -> Sequence[str]:
    """Return a line for each different error of its failed runs: "2 runs failed (r = 4; r = 8): No wheel."."""
    labels: dict[str, list[str]] = {}
    for run in sweep.runs:
        if run.state == "failed":
            labels.setdefault(run.error, []).append(run_label(run, sweep))
    return [
        f"{units.counted(len(names), 'run')} failed ({'; '.join(names)}): {one_line(' '.join(error.split()))}"
        for error, names in labels.items()
    ]


def _print_curves(curves: Sequence["FastCurve"]) -> None:
    rows = [
        {"Run": curve.run_id, "r": str(point.r)}
        | {metric.label: _value(point, metric) for metric in METRICS.values()}
        | {"Recovery steps": str(point.recovery_steps)}
        for curve in curves
        for point in curve.points
    ]
    if rows:
        table("Fast curve: the adapter of the highest rank, truncated", rows)


def _value(measured: "HeldOut | None", metric: Metric) -> str:
    """Empty where it is not known."""
    return "" if (value := metric.of(measured)) is None else metric.text(value)
