"""The commands `validate`, `verdict`, `spectrum`, `resize`, `doctor` and `probe`."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import (
    MODEL_HELP,
    Force,
    Json,
    Plot,
    as_flag,
    check_plot,
    fail,
    grid,
    print_json,
    print_notes,
    require_new,
    table,
    write_plot,
)
from rankviz.core.lora.config import lora_alpha
from rankviz.errors import InvalidSettingError
from rankviz.options import ADAPTER, EVERY, OPTIONS, TRAIN_OPTIONS, Option, lora_of, takes, training_of
from rankviz.units import counted
from rankviz.units import rounded_percent as percent

ADAPTER_HELP = "A folder, a zip, a .safetensors beside its config, a run's id, a Hub id, or sample."
RESIZED = EVERY | {
    "adapter": replace(EVERY["adapter"], help=ADAPTER_HELP),
    "r": Option("r", int | None, None, "One rank for all modules.", flags=("-r", "--rank")),
}


def validate(
    file: Annotated[Path | None, typer.Argument(help="CSV file of measured runs; RankViz's own by default.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Also write the JSON to this file.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Predict measured runs: error by source, and the share inside the range."""
    if output:
        require_new(output, force=force)
    report = Api().estimates.validate(file)
    if output:
        output.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    if as_json:
        return print_json(asdict(report))
    if unseen := report.left_out:
        scores = (*unseen.origins, unseen.overall)
        table("Peak memory: each source predicted without its own rows", [score.texts() for score in scores])
    rows = [score.texts() for score in (*report.groups, *([report.overall] if report.overall else []))]
    table("Peak memory, counted rows" + ", with their sources seen" * bool(unseen), rows)
    if report.grpo:
        table("GRPO: memory of the trainer at the longest length that fitted", [each.texts() for each in report.grpo])
    if several := report.several:
        scores = (*several.origins, several.overall)
        table("Several GPUs: peak memory of each, by source", [score.texts() for score in scores])
    times = {"Time, each source unseen": unseen, "Time": report, "Several GPUs, time": several}
    for title, time in ((title, each.time) for title, each in times.items() if each and each.time):
        print(
            f"{title}: {time.rows} rows, mean error {percent(time.mean_abs_error)}, "
            f"{percent(time.inside_range)} inside the range."
        )
    every = [row for row in (*report.rows, *report.several_rows, *report.grpo_rows) if row.reason]
    missing = [row for row in every if row.predicted_bytes is None]
    aside = [row for row in (every if file else report.grpo_rows) if row.reason and row.predicted_bytes]
    for rows, what in ((aside, "predicted but not counted"), (missing, "without a prediction")):
        cells = [
            {
                "Row": row.row_id,
                "Source": row.group,
                "Measured": units.memory_size(row.measured_bytes) if row.measured_bytes else "",
                "Predicted": units.memory_span(row) if row.predicted_bytes else "",
                "Reason": row.reason,
            }
            for row in rows
        ]
        if cells:
            table(f"{counted(len(cells), 'row')} {what}", cells, texts=2)


@takes("losses", "tolerance", table=EVERY, make=as_flag)
def verdict(
    losses: Annotated[
        Path,
        typer.Argument(
            help="CSV with the columns rank, seed, example, and loss or correct (0 or 1); learning_rate if several."
        ),
    ],
    base_loss: Annotated[
        float | None, typer.Option(help="Loss of the untrained base, for a tolerance in percent.")
    ] = None,
    base_accuracy: Annotated[
        float | None, typer.Option(help="The same for a file with the column correct: percent.")
    ] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Say which ranks can be distinguished, from each held-out example's loss, or answer, in each run."""
    from rankviz.verdict import sentences, verdict_json

    tolerance = options["tolerance"]
    if base_loss is None and base_accuracy is None and tolerance and tolerance.strip().endswith("%"):
        raise InvalidSettingError(
            "A tolerance in percent needs --base-loss or --base-accuracy; or give the tolerance in nats or points."
        )
    result = Api().verdicts.of_table(losses, tolerance, base_loss, base_accuracy)
    if as_json:
        return print_json(verdict_json(result))
    title = f"{losses.name}: {counted(result.seeds, 'seed')}, {counted(result.examples, 'example')}"
    metric, rows = result.metric, []
    for rank in result.ranks:
        row = {"Rank": str(rank.r), metric.noun.capitalize(): metric.text(result.read(rank.loss))}
        row |= {
            "Runs": str(len(rank.run_losses)),
            "Compared with the best": metric.superlative if rank.r == result.best else rank.call,
        }
        rate, tried = rank.learning_rate, rank.learning_rates_tried
        row["Learning rate"] = "" if rate is None else f"{rate:g}" + (f" (best of {tried})" if tried > 1 else "")
        rows.append(row)
    table(title, rows, notes=sentences(result))


def spectrum(
    adapter: Annotated[str, typer.Argument(help=ADAPTER_HELP)],
    plot: Plot = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show which rank a trained adapter really uses."""
    from statistics import median

    from rankviz.core import spectrum as core

    check_plot(plot, force=force)
    opened = Api().adapters.spectrum(adapter)
    if plot:
        from rankviz.figures import spectrum_figure

        write_plot(plot, spectrum_figure(opened), f"Singular values: {opened.name}")
    if as_json:
        return print_json(core.as_json(opened))
    print(core.in_words(opened))
    size = f"{units.file_size(opened.file_bytes)} in {opened.dtype}"
    steps = f", {counted(opened.training_steps, 'step')}" if opened.training_steps else ""
    (modules, blocks, cells), rows = core.grid(opened), []
    for name in modules:
        layers = [layer for block in blocks for layer in cells.get((name, block), ())]
        used = [layer for layer in layers if not layer.is_dead]
        row = {"Module": name, "Updates": str(len(layers)), "r": _span([layer.r for layer in layers])}
        for share in core.SHARES:
            row[f"Rank for {percent(share, 0)}"] = _span([layer.rank_for(share) for layer in used])
        for heading, measure in (("Effective rank", "effective_rank"), ("Stable rank", "stable_rank")):
            row[heading] = f"{median(getattr(layer, measure) for layer in used):.1f}" if used else "–"
        rows.append(row | {"No update": str(len(layers) - len(used))})
    title = f"{opened.name}: {counted(len(opened.layers), 'update')}, r = {opened.r}, {size}{steps}"
    table(title, rows, notes=opened.notes)


def _span(values: list[int]) -> str:
    if not values:
        return "–"
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


@takes("adapter", "r", "energy", "dtype", table=RESIZED, make=as_flag)
def resize(
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder for the resized adapter.")],
    as_json: Json = False,
    **options: Any,
) -> None:
    """Truncate a trained adapter to a lower rank; PEFT loads the result."""
    planned, notes = Api().adapters.resize(options.pop("adapter"), output, **options)
    if as_json:
        return print_json({"output": str(output), **planned.as_json()})
    energy_kept = planned.energy_kept
    kept = "" if energy_kept is None else f", {100 * energy_kept:.2f} % of the update's energy kept"
    print(
        f"{output}: r = {_span(sorted(planned.rank_by_module.values()))}, {planned.adapter_parameters:,} parameters, "
        f"{units.file_size(planned.adapter_bytes)} (before {units.file_size(planned.adapter_bytes_before)}){kept}."
    )
    for note in notes:
        print(f"- {note}")


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the trial, in which a worker process imports and uses the libraries.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what this machine trains on, and what would keep a training from running (then the exit code is 1)."""
    from rankviz.core import preflight as checks

    facts, found = Api().machine.diagnose(trial=not quick)
    problems = checks.problems(found)
    if as_json:
        print_json(checks.as_json(facts, found))
    else:
        grid([check.state, check.name, check.sentence] for check in found)
        where = f"the GPU {facts.card.name}" if checks.uses_gpu(facts) else "the CPU"
        untried = " The libraries were not tried: leave out --quick for that." * quick
        ready = f"Ready to train on {where}.{untried}"
        print(f"\nNot ready: {counted(len(problems), 'problem')} to solve first." if problems else f"\n{ready}")
    if problems:
        sys.exit(1)


PROBE_OPTIONS = TRAIN_OPTIONS | {
    "model": replace(OPTIONS["model"], help=MODEL_HELP),
    "r": replace(OPTIONS["r"], default=16, flags=("-r", "--rank")),
    "alpha": OPTIONS["alpha"],
    "batch": replace(OPTIONS["batch"], default=1),
    "framework": replace(
        OPTIONS["framework"], default="", help="unsloth, trl or peft; without it unsloth, with --simulate trl."
    ),
}
PROBED = ("precision", "framework", "batch", "accumulation", "max_length", "optim", "checkpointing")


@takes("model", "r", "alpha", *ADAPTER, *PROBED, table=PROBE_OPTIONS, make=as_flag)
def probe(
    full: Annotated[bool, typer.Option("--full", help="Also run all blocks, to check the extrapolation.")] = False,
    time_limit: Annotated[float, typer.Option(help="Time limit of the whole probe, in seconds.")] = 300.0,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Measure nothing: run the model's code on a simulated GPU, without one.")
    ] = False,
    gpu: Annotated[str | None, typer.Option(help="The GPU that --simulate simulates. Left out: the T4.")] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Measure memory and step time on this machine, with random weights and no download."""
    from rankviz.core import probe as core

    if gpu and not simulate:
        raise InvalidSettingError("--gpu names the GPU of --simulate. Without it, this machine is measured.")
    api, r = Api(), options["r"]
    options["framework"] = options["framework"] or ("trl" if simulate else "unsloth")
    question = core.ProbeQuestion(
        model_id=options["model"],
        lora=replace(lora_of(options), r=r, lora_alpha=lora_alpha(options["alpha"], r)),
        training=training_of(options, start=core.PROBE_TRAINING),
        full=full,
        time_limit_seconds=time_limit,
    )
    if simulate:
        simulated = api.machine.simulate(question, gpu or "T4", full=full)
        if as_json:
            print_json(simulated.as_json())
        else:
            title = f"{simulated.question.model_id} on a simulated {simulated.gpu}"
            rows = [{"Memory": name, "Simulated": value} for name, value in simulated.lines()]
            table(title, rows, notes=simulated.sentences())
        return
    print_notes(api.machine.warnings(question.training))
    probe_id = api.machine.start_probe(question)
    print(f"Probe {probe_id}. Ctrl-C stops the display; the probe goes on.", file=sys.stderr)
    shown = ""
    for record in api.machine.follow_probe(probe_id):
        status = str(record.state) if record.state.ended or not record.stage else record.stage
        if status != shown:
            print(status, file=sys.stderr)
        shown = status
    estimate = api.machine.estimate_probe(record)
    if as_json:
        print_json(core.as_json(record, estimate))
    else:
        title = f"{record.request.model_id} on {record.environment.get('device_name') or 'this machine'}"
        heads, rows = core.table(record, estimate)
        table(title, [dict(zip(heads, row, strict=True)) for row in rows], notes=core.sentences(record))
    if record.state != "completed":
        fail(record.error or f"The probe was {record.state}.", 1)
