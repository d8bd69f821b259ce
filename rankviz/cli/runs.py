"""`rankviz sweep` and `rankviz runs ...`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.api.json import curve_points_json, run_json
from rankviz.cli.decision import decision_keys, print_decision
from rankviz.cli.plot import Plot, check, plot_sweep
from rankviz.cli.shared import Flag, Json, Targets, UnslothClass, VisionFlag, fail, print_json, print_notes, table
from rankviz.core.lora.targets import targets_in
from rankviz.core.runs.metric import LOSS, METRICS, Metric, measured_metrics
from rankviz.core.runs.request import (
    FAST_RANKS,
    QUICK_RANKS,
    SHORT_TRAINING,
    SWEEP_RANKS,
    VERDICT_SEEDS,
    SweepRequest,
    fast_ranks,
    quick_look,
)
from rankviz.errors import InvalidSettingError

if TYPE_CHECKING:
    from rankviz.api.runs import RunSummary
    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.metric import Measured
    from rankviz.core.runs.record import RunRecord
    from rankviz.core.runs.request import RunRequest

runs = typer.Typer(no_args_is_help=True, help="List, show, add, export, import and cancel runs.")


def sweep(
    model: Annotated[str, typer.Argument(help='"embedded" (SmolLM2-135M-Instruct), a folder, or a Hub id.')],
    data: Annotated[str, typer.Option(help="phonemes, syllables, or a JSONL, CSV or Parquet file.")],
    r: Annotated[list[int] | None, typer.Option("-r", "--rank", help="Rank; repeatable.")] = None,
    targets: Targets = "unsloth",
    alpha: Annotated[str, typer.Option(help="A number for all ranks, r or 2r.")] = "32",
    rslora: Annotated[bool, typer.Option("--rslora", help="Scale by alpha / sqrt(r).")] = False,
    dora: Annotated[bool, typer.Option("--dora", help="Add DoRA's magnitude vectors.")] = False,
    unsloth_class: UnslothClass = "FastLanguageModel",
    finetune_vision_layers: VisionFlag = None,
    finetune_language_layers: Flag = None,
    finetune_attention_modules: Flag = None,
    finetune_mlp_modules: Flag = None,
    steps: Annotated[int, typer.Option(help="Optimizer steps per run.")] = 40,
    lr: Annotated[list[float] | None, typer.Option(help="Learning rate; repeatable.")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help=f"Seeds per rank and learning rate; {VERDICT_SEEDS}, or 1 with --fast or --quick.", show_default=False
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Quick look: train two ranks (4 and 64), and forecast the ranks between with a band."
        ),
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Fast curve: train the highest rank and truncate its adapter to the others.")
    ] = False,
    anchor: Annotated[
        list[int] | None, typer.Option(help="With --fast: a rank that is also trained independently; repeatable.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Batch size per micro-step.")] = 8,
    accum: Annotated[int, typer.Option(help="Micro-steps per optimizer step.")] = 1,
    max_length: Annotated[int, typer.Option(help="Maximum tokens per example.")] = 256,
    held_out: Annotated[int, typer.Option(help="Number of held-out examples.")] = 64,
    precision: Annotated[str, typer.Option(help="auto, bf16, fp32, and on a GPU nf4-dq, int8 or fp16.")] = "auto",
    exact_match: Annotated[
        int,
        typer.Option(
            "--exact-match",
            help="Answer so many held-out prompts greedily after each evaluation, and count exact answers.",
        ),
    ] = 0,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Train one adapter per rank on the same data and compare the held-out losses."""
    from rankviz.core.lora.config import LoraConfig

    check(plot)
    ranks, cut_ranks = tuple(r or (QUICK_RANKS if quick else FAST_RANKS if fast else SWEEP_RANKS)), ()
    if quick and fast:
        raise InvalidSettingError("--quick includes what --fast does: give one of them.")
    if quick and seeds not in (None, 1):
        raise InvalidSettingError(f"--quick takes one seed (got {seeds}). Leave it out for a sweep of several seeds.")
    if anchor and not fast:
        raise InvalidSettingError("--anchor needs --fast.")
    if fast:
        ranks, cut_ranks = fast_ranks(ranks, anchor or ())
    count = seeds if seeds is not None else 1 if fast or quick else VERDICT_SEEDS
    api = Api()
    request = SweepRequest(
        base=model,
        data=data,
        ranks=ranks,
        cut_ranks=cut_ranks,
        alpha=alpha,
        learning_rates=tuple(lr or (1e-3,)),
        seeds=tuple(range(count)),
        held_out_examples=held_out,
        exact_match_examples=exact_match,
        lora=LoraConfig(
            target_modules=targets_in(targets),
            use_rslora=rslora,
            use_dora=dora,
            unsloth_class=unsloth_class,
            finetune_vision_layers=finetune_vision_layers,
            finetune_language_layers=finetune_language_layers,
            finetune_attention_modules=finetune_attention_modules,
            finetune_mlp_modules=finetune_mlp_modules,
        ),
        training=replace(
            SHORT_TRAINING,
            max_steps=steps,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accum,
            max_length=max_length,
            precision=precision,
        ),
    )
    if quick:
        request = quick_look(request, ranks)
    print_notes(api.preflight.warnings(request.training, request.base))
    sweep_id = api.runs.start(request)
    for sentence in api.runs.expected(request).sentences:
        print(sentence, file=sys.stderr)
    print(f"Sweep {sweep_id}. Ctrl-C stops the display; the runs go on.", file=sys.stderr)
    _watch(api, sweep_id)
    runs = api.runs.sweep(sweep_id).runs
    if plot:
        result = api.verdicts.of_sweep(sweep_id)
        decision = api.decisions.of(sweep_id)
        plot_sweep(plot, api.runs.sweep(sweep_id), result.verdict if result else None, decision)
    if as_json:
        print_json(_sweep_json(api, sweep_id))
    else:
        print_sweep(api, sweep_id)
    if failed := next((run for run in runs if run.state == "failed"), None):
        fail(failed.error, 1)


def _sweep_json(api: Api, sweep_id: str) -> dict[str, Any]:
    rows = [run_json(api.runs.summary(run.run_id)) for run in api.runs.sweep(sweep_id).runs]
    cuts = curve_points_json(api.runs.fast_curves(sweep_id))
    return {"sweep_id": sweep_id, "runs": rows, "cuts": cuts, **decision_keys(api, sweep_id)}


def print_sweep(api: Api, sweep_id: str) -> None:
    """A sweep's runs, fast curves and forecast as tables; what to train and to ship, and its verdict, in sentences."""
    _runs_table(api.runs.sweep(sweep_id).runs)
    _curves_table(api.runs.fast_curves(sweep_id))
    print_decision(api, sweep_id)
    for metric in api.verdicts.metrics(sweep_id):
        _print_verdict(api, sweep_id, metric)


def _curves_table(curves: Sequence["FastCurve"]) -> None:
    if curves:
        shown = [m for m in METRICS.values() if any(m.of(p) is not None for curve in curves for p in curve.points)]
        table(
            "Fast curve: the adapter of the highest rank, truncated",
            ["Run", "r", *(metric.label for metric in shown), "Recovery steps"],
            [
                [curve.run_id, str(point.r), *_values(point, shown), str(point.recovery_steps)]
                for curve in curves
                for point in curve.points
            ],
        )


def _values(measured: "Measured | None", metrics: Sequence[Metric]) -> list[str]:
    """Empty cells for what is not known."""
    return ["" if (value := metric.of(measured)) is None else metric.text(value) for metric in metrics]


def _print_verdict(api: Api, sweep_id: str, metric: Metric) -> None:
    from rankviz.verdict import sentences

    result = api.verdicts.of_sweep(sweep_id, metric=metric.key)
    if result and len(result.verdict.ranks) > 1:
        if metric is not LOSS:
            print(f"\n{metric.label}, higher is better:")
        for sentence in sentences(result.verdict, result.borrowed):
            print(sentence)


def _watch(api: Api, sweep_id: str) -> None:
    """One progress bar a run on stderr, read from the journals, until all have ended."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks = {}
        for sweep in api.runs.follow(sweep_id):
            for run in sweep.runs:  # one may have been added meanwhile
                if run.run_id not in tasks:
                    tasks[run.run_id] = progress.add_task(_label(run.request), total=run.request.max_steps, status="")
                step = run.steps[-1].step if run.steps else 0
                progress.update(tasks[run.run_id], completed=step, status=_status(run))


def _label(request: "RunRequest") -> str:
    return f"r {request.r}  lr {request.learning_rate:g}  seed {request.seed}"


def _status(run: "RunRecord") -> str:
    if run.state.ended or not run.steps:
        return str(run.state) if run.state.ended or not run.stage else run.stage
    last = run.steps[-1]
    pace = f"{run.tokens_per_second:,.0f} tokens/s" if run.tokens_per_second else ""
    return f"loss {last.loss:.3f}  {pace}  {units.memory_size(last.memory_bytes)}"


@runs.command("list")
def runs_list(as_json: Json = False) -> None:
    """List all runs, newest first."""
    api = Api()
    records = [run for sweep in api.runs.sweeps() for run in sweep.runs]
    if as_json:
        return print_json([run_json(api.runs.summary(run.run_id)) for run in records])
    _runs_table(records)
    for run_id, reason in api.runs.unreadable().items():
        print(f"Run {run_id} cannot be read. {reason}", file=sys.stderr)


def _runs_table(records: Sequence["RunRecord"]) -> None:
    accuracies = [metric for metric in measured_metrics(records) if metric is not LOSS]
    table(
        units.counted(len(records), "run"),
        [
            "Run",
            "State",
            "r",
            "alpha",
            "lr",
            "seed",
            "Loss before",
            "Loss after",
            *(metric.label for metric in accuracies),
            "Adapter file",
            "Peak memory",
            "Time",
        ],
        [_run_row(record, accuracies) for record in records],
    )


def _run_row(record: "RunRecord", accuracies: Sequence[Metric]) -> list[str]:
    request, completed = record.request, record.completed
    return [
        record.run_id,
        str(record.state),
        str(request.r),
        f"{request.lora.lora_alpha:g}",
        f"{request.learning_rate:g}",
        str(request.seed),
        f"{record.loss_before.loss:.4f}" if record.loss_before else "",
        f"{record.loss_after.loss:.4f}" if record.loss_after else "",
        *_values(record.loss_after, accuracies),
        units.file_size(record.adapter_bytes) if record.adapter_bytes is not None else "",
        units.memory_size(completed.peak_memory_bytes) if completed else "",
        units.duration(completed.train_seconds) if completed else "",
    ]


@runs.command("show")
def runs_show(run_id: Annotated[str, typer.Argument(help="A run or a sweep.")], as_json: Json = False) -> None:
    """Show one run (settings, measurements, and the estimate beside them), or a sweep with its runs and verdict."""
    api = Api()
    if api.runs.is_sweep(run_id):
        return print_json(_sweep_json(api, run_id)) if as_json else print_sweep(api, run_id)
    summary = api.runs.summary(run_id)
    if as_json:
        return print_json(run_json(summary))
    table(f"Run {run_id}", ["", "Value"], [list(fact) for fact in _facts(summary)])


def _facts(summary: "RunSummary") -> Iterator[tuple[str, str]]:
    """Settings, measurements, and the estimate beside them, in words."""
    run, estimate = summary.record, summary.estimate
    request, completed = run.request, run.completed
    yield "Sweep", run.request.sweep_id
    yield "State", str(run.state)
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
    yield "Device", str(run.environment.get("device_name") or "not known")


def _before_and_after(run: "RunRecord", metric: Metric) -> Iterator[str]:
    for measured in (run.loss_before, run.loss_after):
        value = metric.of(measured)
        yield units.NOT_KNOWN if value is None else metric.text(value)


@runs.command("watch")
def runs_watch(run_id: Annotated[str, typer.Argument(help="A run or a sweep.")]) -> None:
    """Follow a sweep with progress bars until it has ended, wherever it was started."""
    api = Api()
    first, *_ = api.workspace.store.run_ids(run_id)
    _watch(api, api.runs.get(first).request.sweep_id)


@runs.command("add")
def runs_add(
    sweep_id: Annotated[str, typer.Argument(help="A sweep.")],
    r: Annotated[int, typer.Option("-r", "--rank", help="Rank of the new run.")],
) -> None:
    """Add one run at another rank to a sweep, with the same base, data and settings, and follow it."""
    api = Api()
    print(api.runs.add(sweep_id, r))
    _watch(api, sweep_id)


@runs.command("resume")
def runs_resume(sweep_id: Annotated[str, typer.Argument(help="A sweep.")]) -> None:
    """Run the failed and cancelled runs of a sweep again; completed runs stay."""
    api = Api()
    api.runs.resume(sweep_id)
    _watch(api, sweep_id)


@runs.command("export")
def runs_export(
    run_id: Annotated[str, typer.Argument(help="A run or a sweep.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Path of the zip file.")] = Path("rankviz-runs.zip"),
) -> None:
    """Write the journals of a run or a sweep into one zip file."""
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
