"""Estimates memory and time of a run on this machine, to compare with the measured values.

On a GPU it is the estimate of any Unsloth run, its `allocated` total, since that is what a run measures. On the CPU
Unsloth runs plain PEFT modules without checkpointing, and what is measured is the process's resident set:

    resident = process + slack · (weights + adapter + gradients + states + what all blocks keep + logits)

How long rows are is known only roughly before a run, so the range is over that too. Left out: evaluation, which a
run measures apart. Compared with a real run in tests/core/runs/test_estimate.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rankviz.core.cost.adapter import plan_on
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.calibration import Calibration
from rankviz.core.cost.device import Device
from rankviz.core.cost.duration import load_seconds
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.predict import predict
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.stack import DTYPE_BYTES, Stack, stack_on
from rankviz.core.lora.config import adapter_dtype
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.core.runs.request import RunRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEstimate:
    """One run."""

    adapter_parameters: int
    adapter_bytes: int
    memory_bytes: Range
    """Of what the run measures: `memory_kind`."""
    memory_kind: str
    seconds: Range | None
    """Training alone; None on a GPU whose speed is not known."""
    calibrated_by: tuple[str, ...] = ()
    """Probes on this machine that moved memory and time."""


def estimate_run(
    model: ModelSpec,
    request: RunRequest,
    device: Device,
    assumptions: Assumptions,
    row_tokens: Range | None = None,
    calibration: Calibration | None = None,
) -> RunEstimate:
    """What the run should come to.

    row_tokens: tokens of a row after padding to the longest of its batch; None spreads the range up to max_length.
    calibration: what probes here say of such a run.
    """
    training, r = request.training.without_auto(device), request.lora.r
    longest = training.max_length
    lengths = row_tokens or assumptions.range("row-length-share").times(longest)
    ends = [
        _at_length(model, request, tokens, device, assumptions, calibration)
        for tokens in (max(1, min(longest, round(n))) for n in (lengths.low, lengths.expected, lengths.high))
    ]
    low, expected, high = (memory for memory, _ in ends)
    seconds = [duration for _, duration in ends]
    plan = plan_on(model, request.lora, training, device)
    dtype = adapter_dtype(training.framework, training.precision, cuda=device.cuda)
    return RunEstimate(
        adapter_parameters=plan.parameters(r),
        adapter_bytes=plan.file_bytes(r, DTYPE_BYTES[dtype]),
        memory_bytes=Range(round(low.low), round(expected.expected), round(high.high)),
        memory_kind="GPU allocated" if device.cuda else "process resident",
        seconds=None if None in seconds else Range(seconds[0].low, seconds[1].expected, seconds[2].high),
        calibrated_by=calibration.probe_ids if calibration else (),
    )


def precision_warning(request: RunRequest, device: Device, assumptions: Assumptions) -> str:
    """A sentence where another precision is known to be far faster here; empty otherwise."""
    if device.cuda or device.cpu_bf16 is not False or request.training.precision != "bf16":
        return ""
    times = 1 / assumptions.range("cpu-bf16-speed-up-without").expected
    return (
        f"This processor has no instructions for bf16. On a similar one, a step with a bf16 base took {times:.0f} "
        "times as long as in fp32. Choose fp32 unless memory is too small for it."
    )


def row_tokens(mean_characters: float, longest_characters: float, assumptions: Assumptions) -> Range:
    """Tokens of a row after padding, from characters: between the mean row in long tokens and the longest in short."""
    each = assumptions.range("characters-per-token")
    return Range(
        mean_characters / each.high,
        max(mean_characters, (mean_characters + longest_characters) / 2) / each.expected,
        max(mean_characters, longest_characters) / each.low,
    )


def _at_length(
    model: ModelSpec,
    request: RunRequest,
    tokens: int,
    device: Device,
    assume: Assumptions,
    calibration: Calibration | None,
) -> tuple[Range, Range | None]:
    """Memory and training seconds with rows of this length."""
    training = replace(request.training, max_length=tokens)
    stack = stack_on(device, training, request.lora.use_dora, assume)
    usable = device.gpu.usable_bytes if device.gpu else None
    predicted = predict(model, request.lora, stack, device, usable_bytes=usable, names=request.training.framework)
    memory, duration = predicted.memory_at(request.lora.r), predicted.duration_at(request.lora.r)
    step = duration.step if duration else None
    held = memory.allocated_band if device.cuda else _resident(memory, assume)
    if calibration is not None:
        held = calibration.memory(memory.static, memory.working)
        step = calibration.seconds(step) if step else None
    return held, step.times(training.total_steps) if step else None


def _resident(memory: MemoryEstimate, assume: Assumptions) -> Range:
    counted = memory.allocated_band.multiplied(assume.range("cpu-resident-slack"))
    return assume.range("cpu-process-bytes").plus(counted)


EVALUATION_SHARE = 0.5
"""A forward pass over a row, in training steps a row, where nothing is recomputed: 2P of 4P operations."""


def sweep_seconds(
    model: ModelSpec, runs: Sequence[RunRequest], training: Sequence[Range | None], assumptions: Assumptions
) -> Range | None:
    """The base is loaded once; the held-out rows are read once before all runs, again after each, and after each
    truncation of a fast curve, some of which are trained a few steps more.

    training: seconds of each run's training, as estimate_run gives; None where one isn't known.
    """
    known = [seconds for seconds in training if seconds is not None]
    if len(known) < len(runs):
        return None
    first = runs[0]
    rows = first.max_steps * first.training.rows_per_step
    evaluation = EVALUATION_SHARE * first.held_out_examples / rows
    before = evaluation / len(runs)
    stack = Stack(setup=TrainingSetup(), use_dora=False, assume=assumptions)
    total = load_seconds(model, stack)
    for run, seconds in zip(runs, known, strict=True):
        recovery = sum(run.recovery_steps(r) for r in run.cut_ranks) / run.max_steps
        total = total.plus(seconds.times(1 + before + evaluation * (1 + len(run.cut_ranks)) + recovery))
    return total
