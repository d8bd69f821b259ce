"""What the fifteen checks of the acceptance suite measure. Each returns that, and whether it is as expected."""

import math
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from rankviz import units
from rankviz.core.cells import csv_text
from rankviz.core.cost.question import dtype_on, plan_on
from rankviz.core.cost.stack import compute_dtype
from rankviz.core.preflight import problems
from rankviz.core.probe import ProbeRecord
from rankviz.core.runs.record import RunRecord, RunState
from tests.gpu.bench import EIGHT_B, MANY_STEPS, ONE_B, Bench, expected_bytes

ADAPTER_PARAMETERS = {"embedded": 4_884_480, ONE_B: 11_272_192, EIGHT_B: 41_943_040}
"""r = 16 on the seven modules, by hand: r × (in + out) over all blocks."""
NF4_BYTES = {"embedded": 0.11e9, ONE_B: 1.03e9, EIGHT_B: 5.7e9}
"""Of the base in memory: 16-bit embeddings, the rest at 0.516 bytes a parameter."""
LOSS_TOLERANCE = 0.01
"""Nats. Between kernels in bf16; between two runs of one seed on a GPU, whose sums have no fixed order."""
LEFT_BYTES = 5_000_000
LIMIT_BYTES, LARGE_BATCH = 700_000_000, 2048
"""The embedded base takes 0.27 GB in bf16; a block needs 26 kB a token in its backward pass, and rows of the phonemes
have about 30 tokens, so 1.6 GB for this batch."""
LONG_STEPS = 5_000


class Measured(NamedTuple):
    text: str
    ok: bool


class AcceptanceCheck(NamedTuple):
    """One of the fifteen, and what is expected of it."""

    number: int
    what: str
    expected: str
    measure: Callable[[Bench], Measured]


CHECKS: list[AcceptanceCheck] = []


def check(
    number: int, what: str, expected: str
) -> Callable[[Callable[[Bench], Measured]], Callable[[Bench], Measured]]:
    """Add a function to the checks."""

    def add(measure: Callable[[Bench], Measured]) -> Callable[[Bench], Measured]:
        CHECKS.append(AcceptanceCheck(number, what, expected, measure))
        return measure

    return add


@check(1, "Preflight", "no problem; torch and driver name one card")
def ready(bench: Bench) -> Measured:
    facts, checks = bench.api.machine.diagnose()
    if found := problems(checks):
        return Measured(" ".join(check.sentence for check in found), False)
    sees = facts.trial.found
    return Measured(f"driver {facts.driver.version}, {facts.card.name}; {sees}", facts.card.name in sees)


@check(2, "Embedded base in NF4", "about 0.11 GB")
def embedded_base(bench: Bench) -> Measured:
    held = _completed(bench.main[0]).completed.baseline_memory_bytes
    return Measured(units.file_size(held), _near(held, NF4_BYTES["embedded"], 0.15))


@check(3, "Adapter, r = 16, seven modules", "4,884,480; 11,272,192; 41,943,040")
def adapter_parameters(bench: Bench) -> Measured:
    counts = {"embedded": _completed(bench.main[1]).trainable_parameters}
    counts |= {name: probed(bench, name).full.trainable_parameters for name in (ONE_B, EIGHT_B)}
    right = all(ADAPTER_PARAMETERS[name] == count for name, count in counts.items())
    return Measured(", ".join(f"{name} {count:,}" for name, count in counts.items()), right)


@check(4, "Loss of the base", "transformers' within 0.01")
def base_loss(bench: Bench) -> Measured:
    run = _completed(bench.in_16_bit)
    ours = run.loss_before.loss
    plain = bench.program("plain_loss", precision=run.request.training.precision)
    return Measured(f"Unsloth {ours:.4f}, transformers {plain['loss']:.4f}", abs(ours - plain["loss"]) < LOSS_TOLERANCE)


@check(5, "40 steps", "loss falls, finite")
def forty_steps(bench: Bench) -> Measured:
    run = _completed(bench.main[1])
    losses = [step.loss for step in run.steps]
    falls = run.loss_after.loss < run.loss_before.loss - 0.5 and all(math.isfinite(loss) for loss in losses)
    return Measured(
        f"{len(losses)} steps, held-out {run.loss_before.loss:.3f} to {run.loss_after.loss:.3f}",
        falls and len(losses) == MANY_STEPS,
    )


@check(6, "r = 4, 16, 4 with one seed", "third = first within 0.01, memory back within 5 MB")
def same_seed(bench: Bench) -> Measured:
    first, _, third = (_completed(run) for run in bench.main[:3])
    apart = abs(first.loss_after.loss - third.loss_after.loss)
    left = third.completed.baseline_memory_bytes - first.completed.baseline_memory_bytes
    return Measured(
        f"losses {apart:.4f} apart, {units.file_size(max(0, left))} more memory before the third",
        apart < LOSS_TOLERANCE and left < LEFT_BYTES,
    )


@check(7, "Step times", "first far above the rest")
def step_times(bench: Bench) -> Measured:
    """Beside them the same without Unsloth's compiled blocks, which tells what these cost a short run."""
    runs = [_completed(run) for run in bench.main[:3]]
    parts = [_step_words(f"r {run.r}", run) for run in runs]
    parts.append(_step_words("r 4 with UNSLOTH_BLOCK_COMPILE=0", _completed(bench.uncompiled)))
    compiled = runs[0].first_step_seconds > 3 * runs[0].step_seconds
    return Measured("; ".join(parts), compiled and all(len(run.steps) == MANY_STEPS for run in runs))


def _step_words(name: str, run: RunRecord) -> str:
    return f"{name}: first {run.first_step_seconds:.2f} s, then {run.step_seconds:.3f} s"


@check(8, "Truncation 16 to 8, 4, 2", "r = 2 has the same loss in plain PEFT")
def truncated(bench: Bench) -> Measured:
    run = _completed(bench.main[5])
    cuts = {cut.r: cut for cut in run.cuts}
    folder = bench.store.run_dir(run.run_id) / cuts[2].path
    plain = bench.program("plain_loss", str(folder))["loss"]
    return Measured(
        f"r {', '.join(str(r) for r in cuts)}; r = 2 has {cuts[2].loss:.4f} here, {plain:.4f} in plain PEFT",
        [8, 4, 2] == list(cuts) and abs(cuts[2].loss - plain) < 2 * LOSS_TOLERANCE,
    )


@check(9, "bf16, fp16, int8", "complete")
def precisions(bench: Bench) -> Measured:
    runs = [bench.in_16_bit, *(bench.together(bench.embedded(16, precision=p))[0] for p in ("fp16", "int8"))]
    parts = [
        f"{run.request.training.precision}: {run.environment.get('base_dtype')} under "
        f"{run.environment.get('mixed_precision')}"
        if run.state is RunState.COMPLETED
        else f"{run.error}"
        for run in runs
    ]
    return Measured("; ".join(parts), all(run.state is RunState.COMPLETED for run in runs))


@check(10, "DoRA, rsLoRA", "complete")
def variants(bench: Bench) -> Measured:
    dora, rslora = (_completed(run) for run in bench.main[3:5])
    ok = all(math.isfinite(run.loss_after.loss) for run in (dora, rslora))
    return Measured(f"DoRA {dora.loss_after.loss:.3f}, rsLoRA {rslora.loss_after.loss:.3f}", ok)


@check(11, "Rows of 256 and 1,024 tokens", "offloading off, on")
def offloading(bench: Bench) -> Measured:
    short, long = (bench.program("checkpointing", str(length)) for length in (256, 1024))
    recorded = ("hf", "unsloth") == (short["recorded"], long["recorded"])
    return Measured(
        f"256: {short['function']}, 1024: {long['function']}",
        recorded and short["function"].startswith("torch.") and not long["function"].startswith("torch."),
    )


@check(12, "1B and 8B in NF4", "1.03 and 5.7 GB; peak inside the estimate")
def whole_models(bench: Bench) -> Measured:
    parts, ok = [], True
    for name in (ONE_B, EIGHT_B):
        full = probed(bench, name).full
        static = full.static_bytes - 4 * full.trainable_parameters  # the adapter is fp32
        low, high = expected_bytes(bench, probed(bench, name))
        parts.append(
            f"{name}: base {units.file_size(static)}, peak {units.file_size(full.peak_bytes)} "
            f"(estimate {units.file_size(low)} to {units.file_size(high)})"
        )
        ok = ok and _near(static, NF4_BYTES[name], 0.1) and low <= full.peak_bytes <= high
    return Measured("; ".join(parts), ok)


@check(13, "Out of memory", "the sentence; the next run completes")
def out_of_memory(bench: Bench) -> Measured:
    """A worker that may use LIMIT_BYTES of the card: a batch that is too large for that, then one that fits."""
    total = bench.api.machine.facts().card.memory_bytes
    program = (sys.executable, "-m", "tests.gpu.programs", "limited_worker")
    command = (*program, str(bench.store.home), "bf16", str(LIMIT_BYTES / total))
    settings = {"precision": "bf16", "optim": "adamw_torch"}
    failed, fine = bench.together(
        bench.embedded(16, per_device_train_batch_size=LARGE_BATCH, **settings),
        bench.embedded(4, per_device_train_batch_size=2, **settings),
        command=command,
    )
    return Measured(
        f"{failed.state} ({failed.error[:60]}…), then {fine.state} {fine.error}",
        failed.error.startswith("Out of memory.") and fine.state is RunState.COMPLETED,
    )


@check(14, "Cancel in a step", "gone in 15 s, memory back")
def cancelled(bench: Bench) -> Measured:
    before = bench.used_bytes()
    run_id = bench.begun(bench.embedded(16, max_steps=LONG_STEPS))
    if (state := bench.store.get(run_id).state).ended:
        return Measured(f"{state}: {bench.store.get(run_id).error}", False)
    started = time.monotonic()
    bench.api.runs.cancel(run_id)
    seconds = time.monotonic() - started
    bench.api.workspace.supervisor.stop()
    gone = not [p for p in psutil.process_iter(["cmdline"]) if run_id in (p.info["cmdline"] or [])]
    left = 0
    for _ in range(50):  # the driver frees a process's memory a moment after its end
        left = (bench.used_bytes() or 0) - (before or 0)
        if left < 100_000_000:
            break
        time.sleep(0.1)
    return Measured(
        f"gone after {seconds:.1f} s, {units.file_size(max(0, left))} of the card left in use",
        gone and seconds < 15 and left < 100_000_000,
    )


@check(15, "Probes at two depths", "all measured")
def probes(bench: Bench) -> Measured:
    parts, ok = [], True
    for framework in ("unsloth", "trl", "peft"):
        record = probed(bench, ONE_B, framework)
        ok = ok and record.state is RunState.COMPLETED and len(record.measured) >= 2
        parts.append(f"{framework}: {_probe_words(record)}")
    return Measured("; ".join(parts), ok)


def probed(bench: Bench, model_id: str, framework: str = "unsloth") -> ProbeRecord:
    """A probe of this model, made once: at two depths and whole; the 8B shape whole only, for its time."""
    known = bench.__dict__.setdefault("probed", {})
    if (model_id, framework) not in known:
        depths = (32,) if model_id == EIGHT_B else ()
        record = bench.probe(model_id, framework=framework, depths=depths, full=True, precision="nf4-dq")
        known[model_id, framework] = record
    record = known[model_id, framework]
    if record.state is not RunState.COMPLETED:
        raise RuntimeError(f"{model_id}: {record.error}")
    if not record.measured:
        raise RuntimeError(f"{model_id}: nothing was measured ({record.did_not_fit})")
    return record


def write_rows(bench: Bench, target: Path) -> int:
    """Every probe of a whole model as a validation row; how many."""
    rows = [row(bench, record) for record in bench.__dict__.get("probed", {}).values() if record.full]
    target.write_text(csv_text(rows), encoding="utf-8")
    return len(rows)


def row(bench: Bench, record: ProbeRecord) -> dict[str, Any]:
    """The whole model of a probe on a GPU, in the form of assets/validation/*.csv."""
    full, request, where, extrapolated = record.full, record.request, record.environment, record.extrapolated
    lora, training, device = request.lora, request.training, bench.api.workspace.device(where)
    model = bench.api.models.get(request.model_id)
    return {
        "row_id": request.probe_id,
        "independent_group": "rankviz-probe-gpu",
        "tier": "A",
        **dict.fromkeys(("use_peak", "use_count", "use_time"), "yes"),
        "model_id": request.model_id,
        "precision": training.precision,
        "compute_dtype": compute_dtype(model.model_type, training, bf16=device.has_bf16),
        "kbit_fp32_upcast": "yes" if training.framework == "peft" and training.precision in ("nf4", "nf4-dq") else "no",
        "framework": training.framework,
        "framework_version": "; ".join(f"{name} {version}" for name, version in where["versions"].items()),
        "r": lora.r,
        "targets": ",".join(plan_on(model, lora, training, device).target_names),
        "batch": training.per_device_train_batch_size,
        "grad_accum": training.gradient_accumulation_steps,
        "seq_len": training.max_length,
        "seq_kind": "exact",
        "checkpointing": training.gradient_checkpointing,
        "attn": full.attn_implementation,
        "loss_path": training.loss_path,
        "optimizer": training.optim,
        "adapter_dtype": dtype_on(model, training, device),
        "gpu": where["device_name"],
        "measured_bytes": full.peak_bytes,
        "measured_kind": full.peak_kind,
        "measured_reserved_bytes": full.peak_reserved_bytes,
        **dict.fromkeys(("measured_device_bytes", "measured_load_bytes", "measured_seconds_per_micro_step")),
        "trainable_params": full.trainable_parameters,
        "measured_seconds_per_step": round(full.step_seconds, 4),
        "tokens_per_s": round(full.tokens_per_second, 2),
        "date": date.fromtimestamp(record.started_at).isoformat(),
        "notes": f"random weights, random tokens, all of them targets; {len(full.timed_steps)} steps timed",
        "source": f"rankviz probe {where['rankviz']}",
        "predicted_two_depth_bytes": round(extrapolated.peak_bytes) if extrapolated else None,
        "predicted_two_depth_seconds": round(seconds, 4)
        if (seconds := extrapolated and extrapolated.step_seconds)
        else None,
    }


def _probe_words(record: ProbeRecord) -> str:
    depths = ", ".join(f"{each.depth} blocks {units.file_size(each.peak_bytes)}" for each in record.measured)
    if not (record.full and record.extrapolated):
        return depths
    return f"{depths} (two depths gave {record.extrapolated.peak_bytes / record.full.peak_bytes - 1:+.1%})"


def _completed(run: RunRecord) -> RunRecord:
    if run.state is not RunState.COMPLETED:
        raise RuntimeError(f"the run of r = {run.r} is {run.state}: {run.error}")
    return run


def _near(measured: float, expected: float, share: float) -> bool:
    return abs(measured / expected - 1) <= share
