"""`rankviz sweep` and `rankviz runs ...`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import Json, Targets, fail, print_json, table, targets_of
from rankviz.errors import InvalidSettingError

runs = typer.Typer(no_args_is_help=True, help="List, show, export, import and cancel runs.")


def sweep(
    model: Annotated[str, typer.Argument(help='"embedded" (SmolLM2-135M-Instruct), a folder, or a Hub id.')],
    data: Annotated[str, typer.Option(help="phonemes, syllables, or a JSONL, CSV or Parquet file.")],
    r: Annotated[list[int] | None, typer.Option("-r", "--rank", help="Rank; give it again for more.")] = None,
    targets: Targets = "unsloth",
    alpha: Annotated[str, typer.Option(help="A number held fixed over the ranks, r or 2r.")] = "32",
    rslora: Annotated[bool, typer.Option("--rslora")] = False,
    dora: Annotated[bool, typer.Option("--dora")] = False,
    steps: Annotated[int, typer.Option(help="Optimizer steps a run.")] = 40,
    lr: Annotated[list[float] | None, typer.Option(help="Learning rate; give it again for more.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds a rank and learning rate; 3, or 1 of a fast curve.", show_default=False)
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="A fast curve: train the highest rank, cut it to the others.")
    ] = False,
    anchor: Annotated[
        list[int] | None, typer.Option(help="With --fast, a rank that runs by itself too; give it again for more.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Rows a micro-step.")] = 8,
    accum: Annotated[int, typer.Option(help="Micro-steps an optimizer step.")] = 1,
    max_length: Annotated[int, typer.Option(help="Tokens a row at most.")] = 256,
    held_out: Annotated[int, typer.Option(help="Held-out examples.")] = 64,
    precision: Annotated[str, typer.Option(help="auto, bf16, fp32, and on a GPU nf4-dq, int8 or fp16.")] = "auto",
    as_json: Json = False,
) -> None:
    """Train one adapter a rank on the same data and compare their held-out loss."""
    from rankviz.core.lora.config import LoraConfig
    from rankviz.core.runs.request import SHORT_TRAINING, VERDICT_SEEDS, SweepRequest, fast_ranks

    ranks, cut_ranks = tuple(r or (4, 16, 64)), ()
    if fast:
        ranks, cut_ranks = fast_ranks(ranks, anchor or ())
    elif anchor:
        raise InvalidSettingError("--anchor belongs to a fast curve: add --fast.")
    count = seeds if seeds is not None else 1 if fast else VERDICT_SEEDS
    api = Api()
    sweep_id = api.start_sweep(
        SweepRequest(
            base=model,
            data=data,
            ranks=ranks,
            cut_ranks=cut_ranks,
            alpha=alpha,
            learning_rates=tuple(lr or (1e-3,)),
            seeds=tuple(range(count)),
            held_out_examples=held_out,
            lora=LoraConfig(target_modules=targets_of(targets), use_rslora=rslora, use_dora=dora),
            training=replace(
                SHORT_TRAINING,
                max_steps=steps,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accum,
                max_length=max_length,
                precision=precision,
            ),
        )
    )
    print(f"Sweep {sweep_id}. Ctrl-C stops watching, not the runs.", file=sys.stderr)
    _watch(api, sweep_id)
    rows = [api.run_summary(record.run_id) for record in api.sweep(sweep_id).runs]
    if as_json:
        print_json({"sweep_id": sweep_id, "runs": rows, "cuts": api.cuts(sweep_id)})
    else:
        _runs_table(rows)
        _say(api, sweep_id)
    if any(row["state"] == "failed" for row in rows):
        fail(next(row["error"] for row in rows if row["state"] == "failed"), 1)


def _say(api: Api, sweep_id: str) -> None:
    """Cuts of a fast curve, and the verdict."""
    if cuts := api.cuts(sweep_id):
        table(
            "Fast curve: the highest rank's adapter, cut",
            ["Run", "r", "Held-out loss", "Steps more"],
            [[cut["run_id"], str(cut["r"]), f"{cut['loss']:.4f}", str(cut["recovery_steps"])] for cut in cuts],
        )
    said = api.verdict_of_sweep(sweep_id)
    for sentence in said["sentences"] if said and len(said["ranks"]) > 1 else ():
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
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks = {
            run.run_id: progress.add_task(_label(run.request), total=run.request.max_steps, said="queued")
            for run in api.sweep(sweep_id).runs
        }
        for sweep in api.follow(sweep_id):
            for run in sweep.runs:
                progress.update(tasks[run.run_id], completed=run.steps[-1].step if run.steps else 0, said=_said(run))


def _label(request) -> str:
    return f"r {request.r}  lr {request.learning_rate:g}  seed {request.seed}"


def _said(run) -> str:
    if run.state.ended or not run.steps:
        return str(run.state) if run.state.ended or not run.stage else run.stage
    last = run.steps[-1]
    pace = f"{run.tokens_per_second:,.0f} tokens/s" if run.tokens_per_second else ""
    return f"loss {last.loss:.3f}  {pace}  {units.memory_size(last.memory_bytes)}"


@runs.command("list")
def runs_list(as_json: Json = False) -> None:
    """All runs, newest first."""
    api = Api()
    rows = [api.run_summary(run.run_id) for sweep in api.sweeps() for run in sweep.runs]
    if as_json:
        return print_json(rows)
    _runs_table(rows)


def _runs_table(rows: list[dict]) -> None:
    def known(value, text) -> str:
        return "" if value is None else text(value)

    table(
        f"{len(rows)} runs",
        [
            "Run",
            "State",
            "r",
            "alpha",
            "lr",
            "seed",
            "Loss before",
            "Loss after",
            "Adapter file",
            "Peak memory",
            "Time",
        ],
        [
            [
                row["run_id"],
                row["state"],
                str(row["r"]),
                f"{row['lora_alpha']:g}",
                f"{row['learning_rate']:g}",
                str(row["seed"]),
                known(row["loss_before"], "{:.4f}".format),
                known(row["loss_after"], "{:.4f}".format),
                known(row["adapter_bytes"], units.file_size),
                known(row["peak_memory_bytes"], units.memory_size),
                known(row["train_seconds"], units.duration),
            ]
            for row in rows
        ],
    )


@runs.command("show")
def runs_show(run_id: str, as_json: Json = False) -> None:
    """One run: what was asked, what was measured, and its estimate beside it."""
    row = Api().run_summary(run_id)
    if as_json:
        return print_json(row)
    table(
        f"Run {run_id}",
        ["", "Value"],
        [[key.replace("_", " "), "not known" if value is None else str(value)] for key, value in row.items()],
    )


@runs.command("watch")
def runs_watch(run_id: Annotated[str, typer.Argument(help="A run or a sweep.")]) -> None:
    """Follow a sweep as progress bars until it has ended, wherever it was started."""
    api = Api()
    first, *_ = api.store.run_ids(run_id)
    _watch(api, api.run(first).request.sweep_id)


@runs.command("resume")
def runs_resume(sweep_id: Annotated[str, typer.Argument(help="A sweep.")]) -> None:
    """Run what failed or was cancelled in a sweep again; what is done stays."""
    api = Api()
    api.resume(sweep_id)
    _watch(api, sweep_id)


@runs.command("export")
def runs_export(
    run_id: Annotated[str, typer.Argument(help="A run or a sweep.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the zip goes.")] = Path("rankviz-runs.zip"),
) -> None:
    """Write the journals of a run or a sweep into one zip file."""
    print(Api().export_runs([run_id], output))


@runs.command("import")
def runs_import(file: Path) -> None:
    """Read a zip file that `runs export` wrote."""
    for run_id in Api().import_runs(file):
        print(run_id)


@runs.command("cancel")
def runs_cancel(run_id: Annotated[str, typer.Argument(help="A run or a sweep.")]) -> None:
    """Stop a run or a sweep; returns when its process has gone."""
    for cancelled in Api().cancel(run_id):
        print(f"{cancelled} cancelled")
