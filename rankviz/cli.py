"""The command line: `rankviz` or `python -m rankviz`.

Each command prints a table, or the same as JSON with --json. Exit code 2 and one line on stderr for a mistake that
the caller can mend, 1 for the rest. Everything heavy is imported inside the command that needs it.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.errors import RankVizError, UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What a LoRA rank costs, and what it buys.",
)
runs = typer.Typer(no_args_is_help=True, help="List, show, export, import and cancel runs.")
app.add_typer(runs, name="runs")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Model = Annotated[str, typer.Argument(help="A catalogue id, a Hub id, a folder, or a config.json.")]
Targets = Annotated[str, typer.Option(help="all-linear, attention, mlp, qv, unsloth, or NAME,NAME.")]


def main() -> None:
    try:
        app(standalone_mode=False)
    except typer.exceptions.TyperException as error:
        _fail(error.format_message(), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _fail("Stopped.", 130)
    except UserError as error:
        _fail(str(error), 2)
    except RankVizError as error:
        _fail(str(error), 1)


def _fail(message: str, code: int) -> None:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=1)
    print()


def _table(title: str, columns: list[str], rows: list[list[str]], *, notes: list[str] | None = None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # A pipe or a file has no width of its own: leave room for every column.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
    for note in notes or []:
        console.print(f"- {note}", markup=False, highlight=False)


@app.command()
def models(as_json: Json = False) -> None:
    """List the catalogue: base models with totals from their real layers."""
    rows = Api().models()
    if as_json:
        return _print_json([asdict(row) for row in rows])
    _table(
        f"{len(rows)} models",
        ["Model", "Parameters", "Tower", "Verified"],
        [[r.id, f"{r.total_parameters:,}", r.tower, "yes" if r.verified else "no"] for r in rows],
    )


@app.command()
def estimate(
    model: Model,
    r: Annotated[list[int] | None, typer.Option("-r", "--rank", help="Rank; give it again for more.")] = None,
    targets: Targets = "unsloth",
    alpha: Annotated[str, typer.Option(help="r, 2r or a number.")] = "r",
    rslora: Annotated[bool, typer.Option("--rslora", help="Scale by alpha / sqrt(r).")] = False,
    dora: Annotated[bool, typer.Option("--dora", help="Add DoRA's magnitude vectors.")] = False,
    modules_to_save: Annotated[str, typer.Option(help="lm_head,embed_tokens: trained and saved whole.")] = "",
    moe: Annotated[
        str, typer.Option(help="default, linear-only, peft-remap, unsloth or target-parameters.")
    ] = "default",
    precision: Annotated[str, typer.Option(help="bf16, fp16, fp32, nf4, nf4-dq or int8.")] = "nf4-dq",
    framework: Annotated[str, typer.Option(help="unsloth, trl or peft.")] = "unsloth",
    batch: Annotated[int, typer.Option(help="Rows a micro-step.")] = 2,
    accum: Annotated[int, typer.Option(help="Micro-steps an optimizer step.")] = 4,
    max_length: Annotated[int, typer.Option(help="Tokens a row, padding included.")] = 2048,
    optim: Annotated[str, typer.Option(help="adamw_8bit, adamw_torch, paged_adamw_8bit or sgd.")] = "adamw_8bit",
    checkpointing: Annotated[str, typer.Option(help="unsloth, hf or none.")] = "unsloth",
    loss_path: Annotated[str, typer.Option(help="fused, triton or full.")] = "fused",
    gpu: Annotated[str | None, typer.Option(help="A GPU of the table, by name.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens to train on, padding included.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps to train.")] = None,
    usd_per_hour: Annotated[float | None, typer.Option(help="Your own price instead of the table's.")] = None,
    as_json: Json = False,
) -> None:
    """Exact adapter numbers, and ranges for memory, time and money."""
    from rankviz.core.question import Question
    from rankviz.core.training import TrainingSetup

    answer = Api().estimate(
        Question(
            model_id=model,
            ranks=tuple(r or (16,)),
            targets=_targets(targets),
            alpha=alpha,
            use_rslora=rslora,
            use_dora=dora,
            modules_to_save=_names(modules_to_save),
            moe_scheme=moe,
            framework=framework,
            training=TrainingSetup(
                precision=precision,
                optim=optim,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accum,
                max_length=max_length,
                checkpointing=checkpointing,
                loss_path=loss_path,
                tokens=tokens,
                steps=steps,
            ),
            gpu=gpu,
            usd_per_hour=usd_per_hour,
        )
    )
    if as_json:
        return _print_json(answer)
    _table(
        f"{answer['model_id']}: {answer['total_parameters']:,} parameters"
        + (f", on {answer['gpu']}" if answer["gpu"] else ""),
        ["r", "alpha", "Trainable", "Share", "File", "Memory (nvidia-smi)", "Time", "Cost", "Fit"],
        [_estimate_row(row) for row in answer["ranks"]],
        notes=answer["notes"],
    )


def _estimate_row(row: dict) -> list[str]:
    memory, seconds, usd = row["memory_bytes"], row["seconds"], row["usd"]
    return [
        str(row["r"]),
        f"{row['lora_alpha']:g}",
        f"{row['adapter_parameters']:,}",
        f"{row['adapter_percent']:.3f} %",
        units.file_size(row["adapter_bytes"]),
        _span(memory, units.memory_size),
        _span(seconds, units.duration) if seconds else "not known",
        _span(usd, units.usd) if usd else "not known",
        (row["fit"] or "no GPU chosen").replace("_", " "),
    ]


def _span(values: dict, text: Callable[[float], str]) -> str:
    return f"{text(values['low'])} – {text(values['high'])}"


@app.command()
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
    seeds: Annotated[int, typer.Option(help="Seeds a rank and learning rate.")] = 1,
    batch: Annotated[int, typer.Option(help="Rows a micro-step.")] = 8,
    accum: Annotated[int, typer.Option(help="Micro-steps an optimizer step.")] = 1,
    max_length: Annotated[int, typer.Option(help="Tokens a row at most.")] = 256,
    held_out: Annotated[int, typer.Option(help="Held-out examples.")] = 64,
    precision: Annotated[str, typer.Option(help="auto, bf16, fp32, and on a GPU nf4-dq, int8 or fp16.")] = "auto",
    as_json: Json = False,
) -> None:
    """Train one adapter a rank on the same data and compare their held-out loss."""
    from rankviz.core.run import SweepRequest

    api = Api()
    sweep_id = api.start_sweep(
        SweepRequest(
            base=model,
            data=data,
            ranks=tuple(r or (4, 16, 64)),
            alpha=alpha,
            learning_rates=tuple(lr or (1e-3,)),
            seeds=tuple(range(seeds)),
            max_steps=steps,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accum,
            max_length=max_length,
            held_out_examples=held_out,
            target_modules=_targets(targets),
            use_rslora=rslora,
            use_dora=dora,
            precision=precision,
        )
    )
    print(f"Sweep {sweep_id}. Ctrl-C stops watching, not the runs.", file=sys.stderr)
    _watch(api, sweep_id)
    rows = [api.run_summary(record.run_id) for record in api.sweep(sweep_id).runs]
    if as_json:
        _print_json({"sweep_id": sweep_id, "runs": rows})
    else:
        _runs_table(rows)
    if any(row["state"] == "failed" for row in rows):
        _fail(next(row["error"] for row in rows if row["state"] == "failed"), 1)


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
        return _print_json(rows)
    _runs_table(rows)


def _runs_table(rows: list[dict]) -> None:
    def known(value, text) -> str:
        return "" if value is None else text(value)

    _table(
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
        return _print_json(row)
    _table(
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


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
) -> None:
    """Serve the page."""
    import os
    import runpy

    os.environ["GRADIO_SERVER_NAME"] = host
    os.environ["GRADIO_SERVER_PORT"] = str(port)
    runpy.run_path(str(Path(__file__).parents[1] / "app.py"), run_name="__main__")


def _targets(text: str) -> str | tuple[str, ...]:
    from rankviz.core.lora import PRESETS

    return text if text in PRESETS else _names(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
