"""`rankviz models` and `rankviz estimate`."""

from dataclasses import asdict
from typing import Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import Json, Model, Targets, names, print_json, span, table, targets_of


def models(as_json: Json = False) -> None:
    """List the catalogue: base models with totals from their real layers."""
    rows = Api().models()
    if as_json:
        return print_json([asdict(row) for row in rows])
    table(
        f"{len(rows)} models",
        ["Model", "Parameters", "Tower", "Verified"],
        [[r.id, f"{r.total_parameters:,}", r.tower, "yes" if r.verified else "no"] for r in rows],
    )


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
            targets=targets_of(targets),
            alpha=alpha,
            use_rslora=rslora,
            use_dora=dora,
            modules_to_save=names(modules_to_save),
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
        return print_json(answer)
    table(
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
        span(memory, units.memory_size),
        span(seconds, units.duration) if seconds else "not known",
        span(usd, units.usd) if usd else "not known",
        (row["fit"] or "no GPU chosen").replace("_", " "),
    ]
