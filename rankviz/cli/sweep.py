"""`rankviz sweep`."""

import sys
from dataclasses import replace
from typing import Annotated

import typer

from rankviz.api import Api
from rankviz.cli.output import print_sweep, sweep_json, watch
from rankviz.cli.shared import (
    Accum,
    Batch,
    Force,
    Json,
    Plot,
    adapter,
    check,
    fail,
    options_as_typed,
    options_of,
    plot_sweep,
    print_json,
)
from rankviz.core.lora.config import LoraConfig
from rankviz.core.runs.request import (
    MODE_RANKS,
    SHORT_TRAINING,
    SHOWN_ANSWERS,
    VERDICT_SEEDS,
    SweepRequest,
    fast_ranks,
    first_seeds,
    quick_look,
    rate_first,
    usual_seeds,
)
from rankviz.errors import InvalidSettingError

RANKS_HELP = (
    "Rank; repeatable. Without it: {sweep}; with --quick {quick}; with --fast {fast}; with --rate-first {rate}."
).format(**{mode: ", ".join(map(str, ranks)) for mode, ranks in MODE_RANKS.items()})


@options_of(adapter, "lora")
def sweep(
    *,
    model: Annotated[str, typer.Argument(help='"embedded" (SmolLM2-135M-Instruct), a folder, or a Hub id.')],
    data: Annotated[str, typer.Option(help="phonemes, syllables, pairs, or a JSONL, JSON, CSV or Parquet file.")],
    r: Annotated[list[int] | None, typer.Option("-r", "--rank", help=RANKS_HELP)] = None,
    alpha: Annotated[str, typer.Option(help="A number for all ranks, r or 2r.")] = "32",
    lora: LoraConfig,
    steps: Annotated[int, typer.Option(help="Optimizer steps per run.")] = 40,
    lr: Annotated[list[float] | None, typer.Option(help="Learning rate; repeatable. Without it: 1e-3.")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help=f"Seeds per rank and learning rate; {VERDICT_SEEDS}, or 1 with --fast, --quick or --rate-first.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Quick look: train two ranks (4 and 64), the lower one twice, and forecast the ranks between with a "
            "band.",
        ),
    ] = False,
    no_repeat: Annotated[
        bool,
        typer.Option("--no-repeat", help="With --quick: two runs only. The noise of a run then stays unknown."),
    ] = False,
    rate: Annotated[
        bool,
        typer.Option(
            "--rate-first", help="Rate first: train r = 16 at two learning rates, --lr and three times as much."
        ),
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Fast curve: train the highest rank and truncate its adapter to the others.")
    ] = False,
    anchor: Annotated[
        list[int] | None, typer.Option(help="With --fast: a rank that is also trained independently; repeatable.")
    ] = None,
    batch: Batch = 8,
    accum: Accum = 1,
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
    answers: Annotated[
        int,
        typer.Option(
            "--answers",
            help="Held-out prompts whose greedy answers are kept to be read, before and after training; 0 for none.",
        ),
    ] = SHOWN_ANSWERS,
    engine: Annotated[str, typer.Option(help="Where the runs execute; without it RANKVIZ_ENGINE.")] = "",
    flavor: Annotated[
        str, typer.Option(help="With --engine hf-jobs: the machine, such as l4x1; without it RANKVIZ_JOBS_FLAVOR.")
    ] = "",
    spend: Annotated[
        float | None,
        typer.Option(
            help="With --engine hf-jobs: US dollars that the sweep may cost; without it RANKVIZ_JOBS_SPEND.",
            show_default=False,
        ),
    ] = None,
    plot: Plot = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train one adapter per rank on the same data and compare the held-out losses."""
    check(plot, force=force)
    mode = "quick" if quick else "fast" if fast else "rate" if rate else "sweep"
    ranks, cut_ranks = tuple(r or MODE_RANKS[mode]), ()
    if quick and fast:
        raise InvalidSettingError("--quick includes what --fast does: give one of them.")
    if rate and (quick or fast):
        raise InvalidSettingError("--rate-first comes before --quick and --fast: give one of them.")
    if no_repeat and not quick:
        raise InvalidSettingError("--no-repeat needs --quick.")
    if quick and seeds not in (None, 1):
        raise InvalidSettingError(f"--quick takes one seed (got {seeds}). Leave it out for a sweep of several seeds.")
    if anchor and not fast:
        raise InvalidSettingError("--anchor needs --fast.")
    if fast:
        ranks, cut_ranks = fast_ranks(ranks, anchor or ())
    api = Api()
    request = SweepRequest(
        base=model,
        data=data,
        ranks=ranks,
        cut_ranks=cut_ranks,
        alpha=alpha,
        learning_rates=tuple(lr or (1e-3,)),
        seeds=first_seeds(usual_seeds(mode) if seeds is None else seeds),
        held_out_examples=held_out,
        exact_match_examples=exact_match,
        shown_answers=answers,
        lora=lora,
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
        request = quick_look(request, ranks, repeat=not no_repeat)
    if rate:
        request = rate_first(request, ranks)
    with options_as_typed():
        plan = api.engines.check(request, engine, flavor, spend)
    for sentence in plan.sentences:
        print(sentence, file=sys.stderr)
    sweep_id = api.engines.start(request, engine, flavor, spend)
    print(f"Sweep {sweep_id}. Ctrl-C stops the display; the runs go on.", file=sys.stderr)
    watch(api, sweep_id)
    runs = api.runs.sweep(sweep_id).runs
    if plot:
        result = api.verdicts.of_sweep(sweep_id)
        decision = api.decisions.of(sweep_id)
        plot_sweep(plot, api.runs.sweep(sweep_id), result.verdict if result else None, decision)
    if as_json:
        print_json(sweep_json(api, sweep_id))
    else:
        print_sweep(api, sweep_id)
    if failed := next((run for run in runs if run.state == "failed"), None):
        fail(failed.error, 1)
