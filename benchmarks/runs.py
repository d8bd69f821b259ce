"""Speed of real runs: a fast curve beside independent runs, and a training step with a bf16 base beside fp32."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAST_RANKS = (1, 2, 4, 8, 16, 32, 64)
FAST_STEPS = 80
PRECISION_STEPS = 12
REPEATS = 3


def bench_fast() -> None:
    """Seven independent runs of the embedded model in one process; the highest is cut to the six others besides, which
    is the fast curve. And one separate Unsloth script, times seven. Loading the base is left out of the first two."""
    from rankviz.api import Api
    from rankviz.core.runs.request import SHORT_TRAINING, SweepRequest

    api = Api(home=Path(os.environ.get("RANKVIZ_HOME") or tempfile.mkdtemp()), shared=False)
    training = replace(SHORT_TRAINING, max_steps=FAST_STEPS, precision="fp32")
    runs = _swept(api, SweepRequest(ranks=FAST_RANKS, cut_ranks=FAST_RANKS[:-1], seeds=(0,), training=training))
    seconds = [_seconds(api, run) for run in runs]
    cutting = _cutting_seconds(api, runs[-1])
    fast_seconds = seconds[-1] + runs[0].loss_before.seconds  # alone it would evaluate the base too
    seconds[-1] -= cutting
    anchor = seconds[1]
    each_rank = ", ".join(f"r {run.request.r} {each:.0f}" for run, each in zip(runs, seconds, strict=True))
    print(f"seven independent runs of {FAST_STEPS} steps, evaluations included: {sum(seconds):.0f} s ({each_rank})")
    print(
        f"fast curve of the same ranks: {fast_seconds:.0f} s, {cutting:.0f} of them for the cuts, "
        f"{sum(seconds) / fast_seconds:.1f} times faster; "
        f"with an anchor at r = 2 {sum(seconds) / (fast_seconds + anchor):.1f} times"
    )
    base = next((api.workspace.home / "models").glob("*/config.json")).parent
    script = ROOT / "benchmarks" / "unsloth_script.py"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, str(script), str(base), "64", str(FAST_STEPS)],
        cwd=api.workspace.home,
        check=True,
        env=_environment(),
    )
    alone = time.perf_counter() - start
    print(
        f"one separate Unsloth script (fp32): {alone:.0f} s; "
        f"seven of them {7 * alone / fast_seconds:.1f} times the fast curve"
    )


def bench_quick() -> None:
    """The quick look that Train offers, in a new runs folder: its time, beside the times that are announced before it
    and after its first run, and what it says."""
    from rankviz.api import Api
    from rankviz.options import sweep_of

    api, request = Api(home=Path(tempfile.mkdtemp()), shared=False), sweep_of({"mode": "quick"})
    said, start = [api.runs.expected(request).sentences[0]], time.perf_counter()
    sweep_id = api.runs.start(request)
    for sweep in api.runs.follow(sweep_id):
        if len(said) == 1 and sweep.runs[0].state == "completed":
            said.append(api.runs.expected(request).sentences[0])
    assert all(run.state == "completed" for run in sweep.runs), sweep.runs
    minutes = (time.perf_counter() - start) / 60
    low, high = sweep.runs[:2]
    of_low, of_high, cuts = _seconds(api, low), _seconds(api, high), _cutting_seconds(api, high)
    print(
        f"quick look of {low.request.max_steps} steps, {low.request.held_out_examples} held-out examples: "
        f"{minutes:.1f} min (target: at most 10), loading {low.loaded_at - low.started_at:.0f} s, "
        f"r = {low.request.r} {of_low:.0f} s, r = {high.request.r} {of_high:.0f} s, {cuts:.0f} of them for the cuts"
    )
    print(f"  before: {said[0]}", f"  after its first run: {said[-1]}", sep="\n")
    print(*(f"  {words}" for words in api.verdicts.decide(sweep_id).ship_sentences), sep="\n")


def bench_precision() -> None:
    """One run in fp32 and one with a bf16 base, in turn; what a step takes after the first two, and the loss. A few
    steps, once, where the processor isn't made for bf16: each takes half a minute."""
    from rankviz.api import Api
    from rankviz.core.runs.request import SHORT_TRAINING, SweepRequest
    from rankviz.machine import cpu_bf16

    api = Api(home=Path(os.environ.get("RANKVIZ_HOME") or tempfile.mkdtemp()), shared=False)
    steps: dict[str, list[float]] = {"fp32": [], "bf16": []}
    losses: dict[str, float] = {}
    repeats, max_steps = (1, 4) if cpu_bf16() is False else (REPEATS, PRECISION_STEPS)
    for _ in range(repeats):
        for precision, medians in steps.items():
            training = replace(SHORT_TRAINING, max_steps=max_steps, precision=precision)
            (run,) = _swept(api, SweepRequest(ranks=(16,), seeds=(0,), training=training))
            times = [step.seconds for step in run.steps[1:]]
            medians.append(statistics.median(later - sooner for sooner, later in pairwise(times)))
            losses[precision] = run.loss_after.loss
    ratios = [a / b for a, b in zip(steps["fp32"], steps["bf16"], strict=True)]
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    has = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags] or ["neither avx512_bf16 nor amx_bf16"]
    print(
        f"a training step in fp32 {statistics.median(steps['fp32']):.2f} s, with a bf16 base "
        f"{statistics.median(steps['bf16']):.2f} s: {statistics.median(ratios):.2f} times as fast (from "
        f"{min(ratios):.2f} to {max(ratios):.2f}); loss after {max_steps} steps "
        f"{losses['fp32']:.4f} and {losses['bf16']:.4f}, "
        f"{100 * (losses['bf16'] / losses['fp32'] - 1):+.2f} %; this processor has {', '.join(has)}"
    )


def _swept(api, request):
    sweep_id = api.runs.start(request)
    *_, sweep = api.runs.follow(sweep_id)
    assert all(run.state == "completed" for run in sweep.runs), sweep.runs[0].error
    return sweep.runs


def _seconds(api, run) -> float:
    """From the fresh adapter to the end; what loading took before the first run of a sweep is left out."""
    from rankviz.core.runs.events import RunStarted

    return run.ended_at - next(e.time for e in api.workspace.store.events(run.run_id) if isinstance(e, RunStarted))


def _cutting_seconds(api, run) -> float:
    from rankviz.core.runs.events import AdapterSaved

    return run.ended_at - next(e.time for e in api.workspace.store.events(run.run_id) if isinstance(e, AdapterSaved))


def _environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1"}
