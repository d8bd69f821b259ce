"""`rankviz doctor` and `rankviz probe`: what this machine can train, and what it measures."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import Accum, Batch, Json, Model, adapter, fail, options_of, print_json, print_notes, table
from rankviz.core.lora.config import LoraConfig, lora_alpha
from rankviz.core.probe import FREE_MEMORY_SHARE
from rankviz.units import rounded_percent as percent

if TYPE_CHECKING:
    from rankviz.api.probes import Diagnosis
    from rankviz.core.probe import ProbeSummary


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the trial, in which a worker process imports and uses the libraries.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what this machine trains on, and what would keep a training from running (then the exit code is 1)."""
    from rankviz.core.preflight.checks import as_json as checks_json
    from rankviz.core.preflight.checks import problems

    diagnosis = Api().preflight.diagnose(trial=not quick)
    if as_json:
        print_json(checks_json(*diagnosis))
    else:
        _print(diagnosis, tried=not quick)
    if problems(diagnosis.checks):
        sys.exit(1)


def _print(diagnosis: "Diagnosis", *, tried: bool) -> None:
    """A line a check; on a terminal wrapped to its width, under the sentence's first word."""
    import shutil
    import textwrap

    from rankviz.core.preflight.checks import problems, uses_gpu

    after_state = 2 + max(len(check.state) for check in diagnosis.checks)
    indent = after_state + 2 + max(len(check.name) for check in diagnosis.checks)
    width = max(40, shutil.get_terminal_size().columns - indent) if sys.stdout.isatty() else 10_000
    for check in diagnosis.checks:
        head = check.state.ljust(after_state) + check.name
        first, *rest = textwrap.wrap(check.sentence, width, break_long_words=False, break_on_hyphens=False)
        print(head.ljust(indent) + first, *(" " * indent + line for line in rest), sep="\n")
    print()
    if found := problems(diagnosis.checks):
        print(f"Not ready: {len(found)} problem{'s' if len(found) > 1 else ''} to solve first.")
        return
    where = f"the GPU {diagnosis.facts.card.name}" if uses_gpu(diagnosis.facts) else "the CPU"
    how = "" if tried else " The libraries were not tried: leave out --quick for that."
    print(f"Ready to train on {where}.{how}")


@options_of(adapter, "lora")
def probe(
    *,
    model: Model,
    r: Annotated[int, typer.Option("-r", "--rank", help="Rank.")] = 16,
    alpha: Annotated[str, typer.Option(help="r, 2r or a number.")] = "r",
    lora: LoraConfig,
    precision: Annotated[str, typer.Option(help="auto, bf16, fp32, and on a GPU nf4-dq, nf4, int8 or fp16.")] = "auto",
    framework: Annotated[str, typer.Option(help="unsloth, peft, and on a GPU trl.")] = "unsloth",
    batch: Batch = 1,
    accum: Accum = 1,
    max_length: Annotated[int, typer.Option(help="Tokens per example (random tokens).")] = 256,
    optim: Annotated[str, typer.Option(help="auto, adamw_torch, sgd, and on a GPU adamw_8bit.")] = "auto",
    checkpointing: Annotated[str, typer.Option(help="auto, none, hf or unsloth.")] = "auto",
    depth: Annotated[list[int] | None, typer.Option(help="Number of blocks to measure; repeatable.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Also run all blocks, to check the extrapolation.")] = False,
    steps: Annotated[int, typer.Option(help="Minimum number of timed steps at each depth.")] = 5,
    time_limit: Annotated[float, typer.Option(help="Time limit of the whole probe, in seconds.")] = 300.0,
    memory_limit_gib: Annotated[
        float | None,
        typer.Option(
            help=f"Memory limit of the process or GPU; {percent(FREE_MEMORY_SHARE, 0)} of free memory by default."
        ),
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(help="Add the measurement of all blocks to this CSV file of measured runs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure memory and step time on this machine, with random weights and no download."""
    from rankviz.core.probe import PROBE_TRAINING, ProbeQuestion
    from rankviz.core.probe import as_json as summary_json

    api = Api()
    question = ProbeQuestion(
        model_id=model,
        lora=replace(lora, r=r, lora_alpha=lora_alpha(alpha, r)),
        training=replace(
            PROBE_TRAINING,
            framework=framework,
            precision=precision,
            optim=optim,
            gradient_checkpointing=checkpointing,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accum,
            max_length=max_length,
        ),
        depths=tuple(depth or ()),
        full=full or rows is not None,
        timed_steps=steps,
        time_limit_seconds=time_limit,
        memory_limit_bytes=None if memory_limit_gib is None else _bytes_of(memory_limit_gib),
    )
    print_notes(api.preflight.warnings(question.training))
    probe_id = api.probes.start(question)
    print(f"Probe {probe_id}. Ctrl-C stops the display; the probe goes on.", file=sys.stderr)
    shown = ""
    for record in api.probes.follow(probe_id):
        status = str(record.state) if record.state.ended or not record.stage else record.stage
        if status != shown:
            print(status, file=sys.stderr)
        shown = status
    summary = api.probes.summary(probe_id)
    if rows is not None:
        api.probes.add_rows(probe_id, rows)
    if as_json:
        print_json(summary_json(summary))
    else:
        _table(summary)
    if summary.record.state != "completed":
        fail(summary.record.error or f"The probe was {summary.record.state}.", 1)


def _table(summary: "ProbeSummary") -> None:
    from rankviz.core.probe import headers, lines_of, sentences

    record = summary.record
    table(
        f"{record.request.model_id} on {record.environment.get('device_name') or 'this machine'}",
        headers(summary),
        [list(line.texts) for line in lines_of(summary)],
        notes=sentences(record),
    )


def _bytes_of(gibibytes: float) -> int:
    from rankviz.core.bounds import number
    from rankviz.core.probe import MAX_MEMORY_LIMIT_BYTES

    number(gibibytes, "Memory limit in GiB", 0, MAX_MEMORY_LIMIT_BYTES / units.GIB, above=True)
    return round(gibibytes * units.GIB)
