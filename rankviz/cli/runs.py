"""The commands `sweep` and `runs …`, and how they show runs: progress bars, tables and sentences, or JSON."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import (
    Force,
    Ids,
    Json,
    Plot,
    as_flag,
    check_plot,
    fail,
    grid,
    one_line,
    print_json,
    print_notes,
    require_new,
    table,
    write_plot,
)
from rankviz.core.from_json import as_answer
from rankviz.core.runs.events import LOCAL, TRAINING, HeldOut
from rankviz.core.runs.fast_curve import fast_curves
from rankviz.core.runs.metric import LOSS, METRICS, Metric, measured_metrics
from rankviz.core.runs.record import RunRecord, Sweep, run_labels, still_training, sweep_title, title
from rankviz.core.runs.request import MODE_RANKS
from rankviz.core.runs.run_time import device_time
from rankviz.errors import InvalidSettingError
from rankviz.options import ADAPTER, TRAIN_OPTIONS, takes
from rankviz.options import sweep_of as make_sweep
from rankviz.publish import KINDS, Destination, Token

if TYPE_CHECKING:
    from rankviz.api.runs import RunJSON

STOPPED = "The runs go on. `rankviz runs watch {id}` shows them again, `rankviz runs cancel {id}` ends them."


def watch(api: Api, sweep_id: str) -> None:
    """Show a progress bar for the sweep and for each run on stderr until all runs have ended. Ctrl-C ends only the
    display: the runs continue, and a message says what to do next."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TaskProgressColumn
    from rich.text import Text

    console = Console(stderr=True)
    bar = Progress(BarColumn(min(40, console.width // 2)), TaskProgressColumn(), console=console)
    task = bar.add_task("all runs", total=None)
    try:
        with Live(bar, console=console) as display:
            for sweep in api.runs.follow(sweep_id):
                progress = api.runs.progress(sweep)
                bar.update(task, total=None if progress.share is None else 1.0, completed=progress.share or 0.0)
                lines = [progress.sentence, *map(training, sweep.runs), *standing(api, sweep)]
                display.update(Group(bar, *map(Text, filter(None, lines))), refresh=True)
    except KeyboardInterrupt:
        fail(STOPPED.format(id=sweep_id), 130)


def standing(api: Api, sweep: Sweep) -> Sequence[str]:
    """Return sentences on a sweep: its cost so far, a cancelled job that still costs money, and why the sweep waits."""
    words = api.engines.spent(sweep).sentence, api.engines.still_costs(sweep), api.runs.why_sweep_waits(sweep)
    return [*filter(None, words)]


def training(run: RunRecord) -> str:
    """Return step, loss, pace and memory of a run that trains; empty for other runs."""
    if run.state != "running" or run.stage != TRAINING or not run.steps:
        return ""
    last, pace = run.steps[-1], f", {run.tokens_per_second:,.0f} tokens/s" if run.tokens_per_second else ""
    step = f"r = {run.request.r}, seed {run.request.seed}: step {last.step} of {run.request.max_steps}"
    return f"{step}, loss {last.loss:.3f}{pace}, {units.memory_size(last.memory_bytes)}"


def sweep_json(api: Api, sweep_id: str) -> dict[str, Any]:
    """Return the JSON of `rankviz sweep --json`: runs, fast curves, forecast and decision (None while fewer than two
    ranks have finished), the better of two learning rates of a rank, the decision by each score, and cost."""
    from rankviz.api.engines import CostJSON
    from rankviz.core.forecast.decision import decision_json
    from rankviz.core.forecast.quick_look import bent_json

    sweep = api.runs.sweep(sweep_id)
    waits, decision = api.runs.why_each_waits(sweep), api.verdicts.decide(sweep_id)
    rate = api.verdicts.rate_look(sweep_id)
    scores = {metric.key: api.verdicts.score_look(sweep_id, metric) for metric in measured_metrics(sweep.runs)}
    return {
        "sweep_id": sweep_id,
        "runs": [row | {"waits": waits.get(row["run_id"])} for row in api.runs.rows(sweep.runs, answers=True)],
        "cuts": [
            {"run_id": curve.run_id, **point._asdict()} for curve in fast_curves(sweep.runs) for point in curve.points
        ],
        "forecast": bent_json(decision.forecast) if decision else None,
        "decision": decision_json(decision) if decision else None,
        "rate": rate and {"r": rate.r, "best": rate.best, "differs": rate.differs, "sentences": list(rate.sentences)},
        "scores": {key: {"r": each.pick, "sentences": list(each.sentences)} for key, each in scores.items() if each},
        "cost": as_answer(CostJSON, api.engines.spent(sweep)),
        "waits": api.runs.why_sweep_waits(sweep) or None,
    }


def print_sweep(api: Api, sweep_id: str) -> None:
    """Print a sweep's runs, fast curves and forecast as tables, and errors, cost, decisions and verdicts as text."""
    from rankviz.cli.studies import print_bent
    from rankviz.verdict import sentences

    sweep = api.runs.sweep(sweep_id)
    runs_table(api, sweep)
    failed: dict[str, list[str]] = {}
    labels = run_labels(sweep)
    for run in sweep.runs:
        if run.state == "failed":
            failed.setdefault(run.error, []).append(labels[run.run_id])
    for error, names in failed.items():
        print(f"{units.counted(len(names), 'run')} failed ({'; '.join(names)}): {one_line(' '.join(error.split()))}")
    for sentence in filter(None, (*standing(api, sweep), still_training(sweep))):
        print(sentence)
    if curves := [(curve.run_id, point) for curve in fast_curves(sweep.runs) for point in curve.points]:
        rows = [
            {"Run": run_id, "r": str(point.r)}
            | {metric.label: _value(point, metric) for metric in METRICS.values()}
            | {"Recovery steps": str(point.recovery_steps)}
            for run_id, point in curves
        ]
        table("Fast curve: the adapter of the highest rank, truncated", rows)
    if rate := api.verdicts.rate_look(sweep_id):
        print(*rate.sentences, sep="\n")
    if decision := api.verdicts.decide(sweep_id):
        print_bent(decision.forecast)
        print(*decision.train_sentences, sep="\n")
        if decision.forecast.repeat_at and not sweep.recorded:
            print(f"Add a repeat: rankviz runs add {sweep_id} -r {decision.forecast.repeat_at}")
        print("", *decision.ship_sentences, "", sep="\n")
    for metric in measured_metrics(sweep.runs):
        result = api.verdicts.of_sweep(sweep_id, metric=metric.key)
        if result and len(result.ranks) > 1:
            if metric is not LOSS:
                score = api.verdicts.score_look(sweep_id, metric)
                print(f"\n{metric.label}, higher is better:", *(score.sentences if score else ()), sep="\n")
            print(*sentences(result), sep="\n")


def runs_table(api: Api, sweep: Sweep) -> None:
    """Print a table with a row for each run of a sweep."""

    def cells(run: RunRecord) -> Mapping[str, str]:
        place, request, done = api.engines.place_in_words(run), run.request, run.completed
        return {
            "Run": run.run_id,
            "State": str(run.state),
            "Place": "" if place == title(LOCAL) else place,
            "r": str(request.r),
            "alpha": f"{request.lora.lora_alpha:g}",
            "lr": f"{request.learning_rate:g}",
            "seed": str(request.seed),
            "Loss before": _value(run.loss_before, LOSS),
            "Loss after": _value(run.loss_after, LOSS),
            **{each.label: _value(run.loss_after, each) for each in METRICS.values() if each is not LOSS},
            "Adapter file": "" if run.adapter_bytes is None else units.file_size(run.adapter_bytes),
            "Peak memory": units.memory_size(done.peak_memory_bytes) if done else "",
            "Training time": units.duration(done.train_seconds) if done else "",
            "Machine time": device_time([run], time.time()).in_words,
        }

    table(f"{sweep.sweep_id}: {sweep_title(sweep)}", map(cells, sweep.runs), texts=2)


def _value(measured: HeldOut | None, metric: Metric) -> str:
    return "" if (value := metric.of(measured)) is None else metric.text(value)


RANKS_HELP = (
    "Rank; repeatable. Without it: {sweep}; with --quick {quick}; with --fast {fast}; with --rate-first {rate}."
).format(**{mode: ", ".join(map(str, ranks)) for mode, ranks in MODE_RANKS.items()})
QUICK_HELP = "Quick look: train two ranks (4 and 64), the lower one twice, and forecast the ranks between with a band."
RATE_HELP = "Rate first: train r = 16 at two learning rates, --lr and three times as much."
FAST_HELP = "Fast curve: train the highest rank and truncate its adapter to the others."
OPTIONS = TRAIN_OPTIONS | {
    "ranks": replace(TRAIN_OPTIONS["ranks"], help=RANKS_HELP),
    "independent": replace(TRAIN_OPTIONS["independent"], flags=("--anchor",)),
}
TRAINED = ("model", "data", "columns", "ranks", "alpha", *ADAPTER, "steps", "learning_rates", "seeds")
SETUP = ("independent", "batch", "accumulation", "max_length", "held_out", "precision", "exact_match", "answers")


@takes(
    *(*TRAINED, "quick", "no_repeat", "rate", "fast", *SETUP, "engine", "flavor", "spend"), table=OPTIONS, make=as_flag
)
def sweep(
    *,
    data: Annotated[str, typer.Option(help=OPTIONS["data"].help)],
    quick: Annotated[bool, typer.Option("--quick", help=QUICK_HELP)] = False,
    no_repeat: Annotated[
        bool, typer.Option("--no-repeat", help="With --quick: two runs only. The noise of a run then stays unknown.")
    ] = False,
    rate: Annotated[bool, typer.Option("--rate-first", help=RATE_HELP)] = False,
    fast: Annotated[bool, typer.Option("--fast", help=FAST_HELP)] = False,
    plot: Plot = None,
    force: Force = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Train one adapter per rank on the same data and compare the held-out losses."""
    check_plot(plot, force=force)
    if quick + fast + rate > 1:
        raise InvalidSettingError("--quick, --fast and --rate-first exclude one another: give one of them.")
    if no_repeat and not quick:
        raise InvalidSettingError("--no-repeat needs --quick.")
    api, mode = Api(), "quick" if quick else "fast" if fast else "rate" if rate else "sweep"
    there = api.engines.destination(options["engine"], options["flavor"], options["spend"])
    request = make_sweep({**options, "data": data, "mode": mode, "repeat": not no_repeat})
    print_notes(api.runs.plan(request, there).sentences)
    sweep_id = api.runs.start(request, there)
    print(f"Sweep {sweep_id}. Ctrl-C stops the display; the runs go on.", file=sys.stderr)
    watch(api, sweep_id)
    trained = api.runs.sweep(sweep_id)
    if plot:
        plot_sweep(api, trained, plot)
    if as_json:
        print_json(sweep_json(api, sweep_id))
    else:
        print_sweep(api, sweep_id)
    if failed := next((run for run in trained.runs if run.state == "failed"), None):
        fail(failed.error, 1)


def plot_sweep(api: Api, sweep: Sweep, plot: Path) -> None:
    """Write a figure of loss by rank, with the forecast of a fast curve or quick look."""
    from rankviz import figures

    result, decision = api.verdicts.of_sweep(sweep.sweep_id), api.verdicts.decide(sweep.sweep_id)
    judged = [(sweep, result)]
    info = figures.sweep_info(judged, forecast=decision.forecast if decision else None)
    write_plot(plot, figures.sweep_figure(info), sweep_title(sweep))


runs = typer.Typer(no_args_is_help=True, help="List, show, add, export, import, publish, cancel and delete runs.")


@runs.command("publish")
def runs_publish(
    run_id: Annotated[str, typer.Argument(help="A run or a sweep that has finished.")],
    to: Annotated[str, typer.Option(help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}.")],
    name: Annotated[str, typer.Option(help="The repository, owner/name; of Trackio the project.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it; private by default.")] = False,
    space: Annotated[
        str, typer.Option(help="A Space for Trackio, owner/name; by default Trackio on this machine.")
    ] = "",
    base_model: Annotated[str, typer.Option(help="Hub id of the base, where it was trained from a folder.")] = "",
    ask_token: Annotated[
        bool, typer.Option("--ask-token", help="Ask for a token instead of using HF_TOKEN or the login of hf.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish a finished run or sweep: to the Hub as a dataset or an adapter, or to Trackio."""
    destination = Destination(to=to, name=name, public=public, space=space, base_model=base_model)
    token = Token(typer.prompt("Hugging Face token", hide_input=True, err=True)) if ask_token else None
    published = Api().runs.publish(run_id, destination, token, use_login=not ask_token)
    print_json(asdict(published)) if as_json else print(published.in_words(destination))


@runs.command("list")
def runs_list(as_json: Json = False) -> None:
    """List all runs, newest first."""
    api = Api()
    sweeps = api.runs.sweeps()
    if as_json:
        return print_json([*api.runs.rows([run for each in sweeps for run in each.runs])])
    for each in sweeps:
        runs_table(api, each)
    print(units.counted(sum(len(each.runs) for each in sweeps), "run"))
    print_notes(f"Run {run_id} cannot be read. {reason}" for run_id, reason in api.runs.unreadable().items())


@runs.command("show")
def runs_show(run_id: Ids, as_json: Json = False) -> None:
    """Show one run (settings, measurements, and the estimate beside them), or a sweep with its runs and verdict."""
    api = Api()
    if api.runs.is_sweep(run_id):
        return print_json(sweep_json(api, run_id)) if as_json else print_sweep(api, run_id)
    run, row = api.runs.get(run_id), api.runs.row(run_id)
    if as_json:
        return print_json(row | {"waits": api.runs.why_waits(run) or None})
    print(f"Run {run_id}\n")
    grid([name, value] for name, value in facts(api, run, row).items() if value)
    for answer in run.answers:
        print()
        texts = {"Prompt": answer.prompt, "Reference": answer.reference}
        for name, each in (("Base", answer.before), ("Trained", answer.after)):
            texts[name] = units.NOT_KNOWN if each is None else each.text + ("" if each.ended else " … (cut off)")
        grid([name, one_line(text)] for name, text in texts.items())


def facts(api: Api, run: RunRecord, row: "RunJSON") -> Mapping[str, str]:
    """Return a run's place, cost, settings, measurements and estimate by name; empty text where unknown."""
    estimate, done, request = api.runs.expected_run(run), run.completed, run.request

    def both(metric: Metric) -> str:
        return ", ".join(_value(each, metric) or units.NOT_KNOWN for each in (run.loss_before, run.loss_after))

    estimated = {}
    if estimate:
        basis = f", {estimate.timed_in_words}" if estimate.timed_in_words else ""
        estimated = {
            "Estimated adapter": f"{estimate.adapter_parameters:,}, {units.file_size(estimate.adapter_bytes)}",
            "Estimated memory": f"{units.memory_span(estimate.memory_bytes)} ({estimate.memory_kind})",
            "Estimated time": units.time_span(estimate.seconds) + basis if estimate.seconds else units.NOT_KNOWN,
        }
    return {
        "Sweep": request.sweep_id,
        "State": str(run.state),
        "Place": api.engines.place_in_words(run),
        "Waits": api.runs.why_waits(run),
        "Machine time so far": device_time([run], time.time()).in_words,
        "Error": run.error,
        "Base model": request.base,
        "Data": request.data,
        "Rank, alpha": f"{request.r}, {request.lora.lora_alpha:g}",
        "Learning rate, seed": f"{request.learning_rate:g}, {request.seed}",
        "Steps": f"{len(run.steps)} of {request.max_steps}",
        **{f"{metric.label} before, after": both(metric) for metric in measured_metrics([run])},
        "Trainable parameters": "" if run.trainable_parameters is None else f"{run.trainable_parameters:,}",
        "Adapter file": "" if run.adapter_bytes is None else units.file_size(run.adapter_bytes),
        "Peak memory": f"{units.memory_size(done.peak_memory_bytes)} ({done.peak_memory_kind})" if done else "",
        "Training time": units.duration(done.train_seconds) if done else "",
        **estimated,
        "Folder": row["folder"] or "",
        "Adapter": row["adapter_folder"] or "",
        "Device": str(run.environment.get("device_name") or units.NOT_KNOWN),
    }


@runs.command("watch")
def runs_watch(run_id: Ids) -> None:
    """Follow a sweep with progress bars until it has ended, wherever it was started."""
    api = Api()
    watch(api, run_id if api.runs.is_sweep(run_id) else api.runs.get(run_id).request.sweep_id)


@runs.command("add")
def runs_add(
    sweep_id: Annotated[str, typer.Argument(help="A sweep.")],
    r: Annotated[int, typer.Option("-r", "--rank", help="Rank of the new run.")],
) -> None:
    """Add one run at another rank to a sweep, or a repeat of a rank, with the same base, data and settings."""
    api = Api()
    print_notes(api.runs.plan_added(sweep_id, r).sentences)
    print(api.runs.add(sweep_id, r))
    watch(api, sweep_id)


@runs.command("resume")
@takes("sweep_id", "engine", "flavor", "spend", table=TRAIN_OPTIONS, make=as_flag)
def runs_resume(sweep_id: Annotated[str, typer.Argument(help="A sweep.")], **options: Any) -> None:
    """Run the failed and cancelled runs of a sweep again, on its engine or another; completed runs stay."""
    api = Api()
    print_notes(api.runs.plan_resume(sweep_id, **options).sentences)
    api.runs.resume(sweep_id, **options)
    watch(api, sweep_id)


@runs.command("export")
def runs_export(
    run_id: Ids,
    output: Annotated[Path, typer.Option("-o", "--output", help="Path of the zip file.")] = Path("rankviz-runs.zip"),
    force: Force = False,
) -> None:
    """Write the journals of a run or a sweep into one zip file."""
    require_new(output, force=force)
    print(Api().runs.export([run_id], output))


@runs.command("import")
def runs_import(file: Path) -> None:
    """Import a zip file that `runs export` wrote."""
    print(*Api().runs.import_(file), sep="\n")


@runs.command("cancel")
def runs_cancel(run_id: Ids) -> None:
    """Cancel a run or a sweep, and wait until its process has ended."""
    cancelled = Api().runs.cancel(run_id)
    print("\n".join(f"{each} cancelled" for each in cancelled) or "Nothing to cancel: it has ended.")


@runs.command("delete")
def runs_delete(run_id: Annotated[str, typer.Argument(help="A run, a probe or a sweep that has ended.")]) -> None:
    """Delete a run or a sweep with its adapters, logs and the copy of its data. It cannot be undone."""
    for deleted in Api().runs.delete(run_id):
        print(f"{deleted} deleted")
