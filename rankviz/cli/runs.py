"""`rankviz runs ...`."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.api.runs.stored import listed_run_json, run_json
from rankviz.cli.output import print_facts, print_sweep, runs_table, sweep_json, terminal_width, watch
from rankviz.cli.shared import Force, Json, one_line, options_as_typed, print_json, require_new
from rankviz.core.runs.metric import LOSS, Metric, measured_metrics
from rankviz.sinks import KINDS, Destination, Token

if TYPE_CHECKING:
    from rankviz.api.engines import Plan
    from rankviz.api.runs.stored import RunSummary
    from rankviz.core.runs.events import GreedyAnswer
    from rankviz.core.runs.record import RunRecord


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
    published = Api().sinks.publish(run_id, destination, token, use_login=not ask_token)
    print_json(asdict(published)) if as_json else print(published.in_words(destination))


runs = typer.Typer(no_args_is_help=True, help="List, show, add, export, import, publish, cancel and delete runs.")
runs.command("publish")(runs_publish)


@runs.command("list")
def runs_list(as_json: Json = False) -> None:
    """List all runs, newest first."""
    api = Api()
    sweeps = api.runs.sweeps()
    if as_json:
        records = [run for sweep in sweeps for run in sweep.runs]
        return print_json([*map(listed_run_json, api.runs.summaries(records))])
    runs_table(api, sweeps)
    for run_id, reason in api.runs.unreadable().items():
        print(f"Run {run_id} cannot be read. {reason}", file=sys.stderr)


@runs.command("show")
def runs_show(run_id: Annotated[str, typer.Argument(help="A run or a sweep.")], as_json: Json = False) -> None:
    """Show one run (settings, measurements, and the estimate beside them), or a sweep with its runs and verdict."""
    api = Api()
    if api.runs.is_sweep(run_id):
        return print_json(sweep_json(api, run_id)) if as_json else print_sweep(api, run_id)
    summary = api.runs.summary(run_id)
    record = summary.record
    waits = api.runs.why_waits(record)
    if as_json:
        return print_json(run_json(summary) | {"waits": waits or None})
    spent = api.spending.of_run(record)
    of_sweep = api.spending.of_sweep(api.runs.sweep(record.request.sweep_id))
    rent = of_sweep.in_words if of_sweep.rent else ""
    standing = {"Waits": waits, spent.called: spent.in_words, "Cost of its sweep so far": rent}
    place = api.locations.in_words(record)
    facts = list(_facts(summary, {"Place": place} | standing))
    print_facts(f"Run {run_id}", facts, terminal_width())
    for answer in summary.record.answers:
        print(f"\nPrompt      {one_line(answer.prompt)}\nReference   {one_line(answer.reference)}")
        for label, given in (("Base", answer.before), ("Trained", answer.after)):
            print(f"{label:12}{_answer(given)}")


def _answer(given: "GreedyAnswer | None") -> str:
    if given is None:
        return units.NOT_KNOWN
    return one_line(given.text) + ("" if given.ended else " … (cut off)")


def _facts(summary: "RunSummary", standing: Mapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """Settings, measurements, and the estimate beside them, in words. standing: of what is not empty."""
    run, estimate = summary.record, summary.estimate
    request, completed = run.request, run.completed
    yield "Sweep", run.request.sweep_id
    yield "State", str(run.state)
    yield from ((name, words) for name, words in (standing or {}).items() if words)
    if run.error:
        yield "Error", run.error
    yield "Base model", request.base
    yield "Data", request.data
    yield "Rank, alpha", f"{request.r}, {request.lora.lora_alpha:g}"
    yield "Learning rate, seed", f"{request.learning_rate:g}, {request.seed}"
    yield "Steps", f"{len(run.steps)} of {request.max_steps}"
    if run.loss_before:
        yield "Held-out loss before", f"{run.loss_before.loss:.4f}"
    if run.loss_after:
        yield "Held-out loss after", f"{run.loss_after.loss:.4f}"
    for metric in measured_metrics([run]):
        if metric is not LOSS:
            yield f"{metric.label} before, after", ", ".join(_before_and_after(run, metric))
    if run.trainable_parameters is not None:
        yield "Trainable parameters", f"{run.trainable_parameters:,}"
    if run.adapter_bytes is not None:
        yield "Adapter file", units.file_size(run.adapter_bytes)
    if completed:
        yield f"Peak memory ({completed.peak_memory_kind})", units.memory_size(completed.peak_memory_bytes)
        yield "Training time", units.duration(completed.train_seconds)
        if run.step_seconds is not None:
            yield (
                "First step, later steps",
                (f"{units.duration(run.first_step_seconds)}, {units.duration(run.step_seconds)} each"),
            )
    if estimate:
        yield "Estimated adapter", f"{estimate.adapter_parameters:,}, {units.file_size(estimate.adapter_bytes)}"
        yield f"Estimated memory ({estimate.memory_kind})", units.memory_span(estimate.memory_bytes)
        basis = f", {estimate.timed_in_words}" if estimate.timed_in_words else ""
        yield "Estimated time", units.time_span(estimate.seconds) + basis if estimate.seconds else "not known"
    if summary.folder:
        yield "Folder", str(summary.folder)
    if summary.adapter_folder:
        yield "Adapter", str(summary.adapter_folder)
    yield "Device", str(run.environment.get("device_name") or "not known")


def _before_and_after(run: "RunRecord", metric: Metric) -> Iterator[str]:
    for measured in (run.loss_before, run.loss_after):
        value = metric.of(measured)
        yield units.NOT_KNOWN if value is None else metric.text(value)


@runs.command("watch")
def runs_watch(run_id: Annotated[str, typer.Argument(help="A run or a sweep.")]) -> None:
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
    _announce(api.moves.check_added(sweep_id, r))
    print(api.moves.add(sweep_id, r))
    watch(api, sweep_id)


@runs.command("resume")
def runs_resume(
    sweep_id: Annotated[str, typer.Argument(help="A sweep.")],
    engine: Annotated[str, typer.Option(help="Where they run from now on; without it where they were to run.")] = "",
    flavor: Annotated[
        str, typer.Option(help="With --engine hf-jobs: the machine; without it the one that the sweep has.")
    ] = "",
    spend: Annotated[
        float | None,
        typer.Option(
            help="With --engine hf-jobs: US dollars that all jobs of the sweep may cost, earlier ones included; "
            "without it the limit that the sweep has.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the failed and cancelled runs of a sweep again, there or elsewhere; completed runs stay."""
    api = Api()
    with options_as_typed():
        _announce(api.moves.check(sweep_id, engine, flavor, spend))
    api.moves.resume(sweep_id, engine, flavor, spend)
    watch(api, sweep_id)


def _announce(plan: "Plan") -> None:
    """What it will take, and cost, before it is queued."""
    for sentence in plan.sentences:
        print(sentence, file=sys.stderr)


@runs.command("export")
def runs_export(
    run_id: Annotated[str, typer.Argument(help="A run or a sweep.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Path of the zip file.")] = Path("rankviz-runs.zip"),
    force: Force = False,
) -> None:
    """Write the journals of a run or a sweep into one zip file."""
    require_new(output, force=force)
    print(Api().runs.export([run_id], output))


@runs.command("import")
def runs_import(file: Path) -> None:
    """Import a zip file that `runs export` wrote."""
    for run_id in Api().runs.import_(file):
        print(run_id)


@runs.command("cancel")
def runs_cancel(run_id: Annotated[str, typer.Argument(help="A run or a sweep.")]) -> None:
    """Cancel a run or a sweep, and wait until its process has ended."""
    cancelled = Api().runs.cancel(run_id)
    print("\n".join(f"{each} cancelled" for each in cancelled) or "Nothing to cancel: it has ended.")


@runs.command("delete")
def runs_delete(run_id: Annotated[str, typer.Argument(help="A run, a probe or a sweep that has ended.")]) -> None:
    """Delete a run or a sweep with its adapters, logs and the copy of its data. It cannot be undone."""
    for deleted in Api().runs.delete(run_id):
        print(f"{deleted} deleted")
