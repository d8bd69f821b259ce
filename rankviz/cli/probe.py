"""`rankviz probe`"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import Json, Model, Targets, fail, print_json, table, targets_of


def probe(
    model: Model,
    r: Annotated[int, typer.Option("-r", "--rank", help="Rank.")] = 16,
    targets: Targets = "unsloth",
    alpha: Annotated[str, typer.Option(help="r, 2r or a number.")] = "r",
    rslora: Annotated[bool, typer.Option("--rslora")] = False,
    dora: Annotated[bool, typer.Option("--dora")] = False,
    precision: Annotated[str, typer.Option(help="auto, bf16, fp32, and on a GPU nf4-dq, nf4, int8 or fp16.")] = "auto",
    framework: Annotated[str, typer.Option(help="unsloth, peft, and on a GPU trl.")] = "unsloth",
    batch: Annotated[int, typer.Option(help="Rows a micro-step.")] = 1,
    accum: Annotated[int, typer.Option(help="Micro-steps an optimizer step.")] = 1,
    max_length: Annotated[int, typer.Option(help="Tokens a row, all of them random.")] = 256,
    optim: Annotated[str, typer.Option(help="auto, adamw_torch, sgd, and on a GPU adamw_8bit.")] = "auto",
    checkpointing: Annotated[str, typer.Option(help="auto, none, hf or unsloth.")] = "auto",
    depth: Annotated[list[int] | None, typer.Option(help="Blocks to measure; give it again for more.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Run all blocks too, to check the extrapolation.")] = False,
    steps: Annotated[int, typer.Option(help="Steps to time at each depth, at least.")] = 5,
    time_limit: Annotated[float, typer.Option(help="Seconds for the whole probe.")] = 300.0,
    memory_limit_gib: Annotated[
        float | None, typer.Option(help="Of this process or card; 80 % of free memory otherwise.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(help="Add the measurement of all blocks to this CSV of validation rows.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure memory and step time here, with random weights and no download."""
    from rankviz.core.lora.config import LoraConfig, lora_alpha
    from rankviz.core.probe.request import PROBE_TRAINING, ProbeQuestion

    api = Api()
    probe_id = api.start_probe(
        ProbeQuestion(
            model_id=model,
            lora=LoraConfig(
                r=r,
                lora_alpha=lora_alpha(alpha, r),
                target_modules=targets_of(targets),
                use_rslora=rslora,
                use_dora=dora,
            ),
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
            memory_limit_bytes=round(memory_limit_gib * units.GIB) if memory_limit_gib is not None else None,
        )
    )
    print(f"Probe {probe_id}. Ctrl-C stops watching, not the probe.", file=sys.stderr)
    said = ""
    for record in api.follow_probe(probe_id):
        now = str(record.state) if record.state.ended or not record.stage else record.stage
        if now != said:
            print(now, file=sys.stderr)
        said = now
    answer = api.probe_summary(probe_id)
    if rows is not None:
        api.add_probe_rows(probe_id, rows)
    if as_json:
        print_json(answer)
    else:
        _table(answer)
    if answer["state"] != "completed":
        fail(answer["error"] or f"The probe was {answer['state']}.", 1)


def _table(answer: dict) -> None:
    from rankviz.core.probe.summary import HEADERS, table_lines

    first, memory, *rest = HEADERS
    kind = answer["peak_kind"]
    table(
        f"{answer['model_id']} on {answer['device'] or 'this machine'}",
        [first, f"{memory}, {kind}" if kind else memory, *rest],
        [list(line) for line in table_lines(answer)],
        notes=answer["sentences"],
    )
