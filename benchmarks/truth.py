"""`make truth`: the memory formula held against simulated training steps (rankviz.worker.simulate).

First the simulation against the measured T4 rows that ship, then settings that a seeded draw makes of the catalogue,
the cards, precisions, lengths and targets. Each has a process of its own, forked from one that has imported everything.
Options: --seed N, --settings N (drawn), --rows N (measured), --only TEXT (in the model's id), --jobs N, -o FILE.

Fails where a limit of LIMITS is passed. `make truth` writes assets/truth.json, of which docs/accuracy.md is made.
"""

import argparse
import datetime
import gc
import json
import multiprocessing
import multiprocessing.connection
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from rankviz.catalog.hardware import find_gpu, load_assumptions, load_gpus
from rankviz.catalog.measurements import shipped_rows
from rankviz.catalog.models import load_config, load_index, load_model
from rankviz.core.cost.predict import predict
from rankviz.core.cost.setup import TrainingSetup, card
from rankviz.core.cost.stack import stack_on
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.targets import targets_in
from rankviz.core.quantity import Range
from rankviz.errors import UserError
from rankviz.paths import ASSETS

SEED, SETTINGS = 20261130, 60
CPU_SECONDS = 600
"""Of one setting; most take 5 to 20."""
CARDS = ("T4", "L4", "A100-40GB (SXM)", "A100-80GB (SXM)", "H100-80GB SXM", "L40S", "RTX 4090", "B200")


class Limits(NamedTuple):
    """Shares of the simulated peak."""

    row: float = 0.01
    """Simulation against a measured row, on average."""
    each: float = 0.03
    on_average: float = 0.015
    inside: float = 0.9
    unsloth: float = 0.05
    """Each setting of Unsloth."""


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One training to simulate."""

    model_id: str
    gpu: str
    lora: LoraConfig
    training: TrainingSetup
    prepares: bool = False
    """Whether the program of a measured row called prepare_model_for_kbit_training."""
    measured: int | None = None
    row_id: str = ""

    @property
    def words(self) -> str:
        """One line."""
        setup, targets = self.training, self.lora.target_modules
        named = targets if isinstance(targets, str) else ",".join(targets)
        return (
            f"{self.model_id} | {self.gpu} | {setup.framework} {setup.precision} | "
            f"{setup.per_device_train_batch_size} x {setup.max_length} x {setup.gradient_accumulation_steps} | "
            f"{setup.gradient_checkpointing} {setup.attn_implementation} {setup.optim} | r {self.lora.r} {named}"
        )


def rows() -> Iterator[Setting]:
    """The measured rows of one T4, each setting once."""
    seen = set()
    for row in shipped_rows(ASSETS):
        if not row.group.startswith("fitcheck") or row.measured_kind != "allocated" or not row.measured_bytes:
            continue
        key = (row.model_id, row.precision, row.attn, row.batch, row.seq_len)
        if key in seen:
            continue
        seen.add(key)
        yield Setting(
            model_id=row.model_id,
            gpu="T4",
            lora=LoraConfig(r=row.r, target_modules=row.targets),
            training=TrainingSetup(
                framework="peft",
                precision=row.precision,
                optim=row.optimizer,
                per_device_train_batch_size=row.batch,
                gradient_accumulation_steps=row.grad_accum,
                max_length=row.seq_len,
                gradient_checkpointing=row.checkpointing,
                loss_path="full",
                attn_implementation=row.attn,
            ),
            prepares=row.raised == "yes",
            measured=row.measured_bytes,
            row_id=row.row_id,
        )


def draw(seed: int, count: int) -> Iterator[Setting]:
    """A model of every family, then any, each with settings of its own."""
    chance = random.Random(seed)
    families: dict[str, list[str]] = {}
    for row in load_index(ASSETS):
        families.setdefault(load_model(ASSETS, row.id).architecture, []).append(row.id)
    chosen = [chance.choice(ids) for ids in families.values()]
    every = [each for ids in families.values() for each in ids]
    chance.shuffle(chosen)
    while len(chosen) < count:
        chosen.append(chance.choice(every))
    for model_id in chosen[:count]:
        yield _setting(model_id, chance)


def _setting(model_id: str, chance: random.Random) -> Setting:
    """Settings that fit a card, where there is one: the first few draws that do not are dropped."""
    for _ in range(40):
        gpu = chance.choice(CARDS)
        bf16 = find_gpu(load_gpus(ASSETS), gpu).supports_bf16
        framework = chance.choice(("trl", "peft"))
        setting = Setting(
            model_id=model_id,
            gpu=gpu,
            lora=LoraConfig(
                r=chance.choice((8, 16, 32, 64)),
                target_modules=targets_in(chance.choice(("all-linear", "all-linear", "attention", "qv", "mlp"))),
            ),
            training=TrainingSetup(
                framework=framework,
                precision=chance.choice(("nf4-dq", "nf4-dq", "nf4", "bf16" if bf16 else "fp16")),
                optim=chance.choice(("adamw_8bit", "adamw_torch")),
                per_device_train_batch_size=chance.choice((1, 2, 4)),
                gradient_accumulation_steps=chance.choice((1, 4)),
                max_length=chance.choice((512, 1024, 2048, 4096, 8192)),
                gradient_checkpointing=chance.choice(("hf", "hf", "hf", "none")),
                loss_path="fused" if framework == "trl" else "full",
            ),
        )
        try:
            low = predicted(setting).low
        except UserError:
            continue
        if low < (find_gpu(load_gpus(ASSETS), gpu).usable_bytes or 0):
            break
    return setting


def predicted(setting: Setting) -> Range:
    """What RankViz says is allocated, of plain NF4 where Unsloth would fetch a dynamic checkpoint."""
    gpu = find_gpu(load_gpus(ASSETS), setting.gpu)
    device = card(gpu)
    stack = stack_on(device, setting.training, False, load_assumptions(ASSETS))
    stack = replace(stack, measured_habits=replace(stack.habits, loads_plain_nf4=True))
    model = replace(load_model(ASSETS, setting.model_id), whole=None)  # what is simulated is the text tower alone
    chain = predict(model, setting.lora, stack, device, usable_bytes=device.usable_bytes)
    return chain.memory_at(setting.lora.r).allocated_band


def fitcheck(prepares: bool) -> type:
    """The run of the program that measured the T4 rows (fitcheck-llm 0.3.1, scripts/measure.py): without autocast, it
    holds the model's output, and _install_gqa_sdpa_shim repeats keys and values for all heads."""
    import torch

    from rankviz.worker.simulate.step import SimulatedRun

    attend = torch.nn.functional.scaled_dot_product_attention

    def repeating(query: Any, key: Any, value: Any, *args: Any, enable_gqa: bool = False, **more: Any) -> Any:
        if enable_gqa:
            groups = query.shape[1] // key.shape[1]
            key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
        return attend(query, key, value, *args, **more)

    class Fitcheck(SimulatedRun):
        def run(self) -> Any:
            self.prepares = prepares
            torch.nn.functional.scaled_dot_product_attention = repeating
            return super().run()

        def _loss(self, model: Any) -> Any:
            shape = (self.training.per_device_train_batch_size, self.training.max_length)
            batch = {name: torch.zeros(shape, dtype=torch.long, device="cuda") for name in ("input_ids", "labels")}
            self.held = model(**batch, use_cache=False)
            return self.held.loss

    return Fitcheck


def simulated(setting: Setting, kind: type | None = None) -> dict[str, Any]:
    """In a process of its own. kind: of SimulatedRun."""
    from rankviz.worker.simulate.step import SimulatedRun, simulate_whole

    if setting.measured:
        kind = fitcheck(setting.prepares)
    run = simulate_whole(
        load_config(ASSETS, setting.model_id),
        load_model(ASSETS, setting.model_id),
        setting.lora,
        setting.training,
        find_gpu(load_gpus(ASSETS), setting.gpu),
        kind=kind or SimulatedRun,
    )
    return {
        "allocated": run.allocated,
        "reserved": run.reserved,
        "loaded": run.loaded,
        "static": run.static,
        "moment": run.moment,
        "moments": dict(run.moments),
        "kernels": dict(run.kernels),
        "trainable": run.trainable_parameters,
    }


def attempt(setting: Setting, kind: type | None = None) -> dict[str, Any]:
    """`simulated`, or why it cannot be: {"why_not": ...}, or {"error": ...} where nobody knows."""
    try:
        return simulated(setting, kind)
    except UserError as error:
        return {"why_not": str(error)}
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        words = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {words[0][:200] if words else ''} ({where.name}:{where.lineno})"}


def _answered(setting: Setting, pipe: Any) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    pipe.send(attempt(setting))


def simulate_all(settings: Sequence[Setting], jobs: int) -> Iterator[tuple[Setting, dict[str, Any]]]:
    """As each is ready: at most `jobs` processes at a time."""
    from rankviz.worker.simulate.card import prepare

    prepare()
    _import_all()
    context = multiprocessing.get_context("fork")
    waiting, running = list(settings), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            setting = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_answered, args=(setting, theirs), daemon=True)
            process.start()
            theirs.close()
            running[ours] = (process, setting, time.monotonic())
        for pipe in multiprocessing.connection.wait(list(running)):
            process, setting, began = running.pop(pipe)
            try:
                result = pipe.recv()
            except EOFError:
                result = {"error": f"the process ended without an answer, perhaps after {CPU_SECONDS} s"}
            process.join()
            yield setting, result | {"seconds": round(time.monotonic() - began, 1)}


def _import_all() -> None:

    import rankviz.worker.simulate.step  # noqa: F401

    gc.collect()
    gc.freeze()  # a child need not look through it again


def _document(result: dict[str, list[dict]], seed: int) -> dict[str, Any]:
    """assets/truth.json: the figures that docs give."""
    errors = [abs(row["error_share"]) for row in result["rows"] if "error_share" in row]
    kept = ("setting", "row_id", "reference", "allocated", "predicted", "low", "high", "error_share", "inside")
    kept += ("moment", "kernels", "error", "why_not")

    def short(row: dict[str, Any]) -> dict[str, Any]:
        names = {"allocated": "simulated", "reference": "measured" if row["row_id"] else ""}
        return {names.get(k, k): row[k] for k in kept if k in row and names.get(k, k)}

    return {
        "made": datetime.date.today().isoformat(),
        "seed": seed,
        "mean_error": mean(errors),
        "worst_error": max(errors),
        "rows": [short(row) for row in result["rows"]],
        "settings": [short(row) for row in result["settings"]],
    }


def _show(setting: Setting, result: dict[str, Any], expected: Range | None, reference: int | None) -> dict[str, Any]:
    """One line printed, one row kept. `reference` is the measured figure, or the simulated one for a prediction."""
    row = {"setting": setting.words, "row_id": setting.row_id, **result}
    if why := result.get("error") or result.get("why_not"):
        print(f"  {'FAILED' if 'error' in result else 'left out'}  {setting.words}: {why}", flush=True)
        return row
    value = result["allocated"] if expected is None else expected.expected
    row |= {"error_share": value / reference - 1, "reference": reference}
    if expected is not None:
        row |= {"predicted": expected.expected, "low": expected.low, "high": expected.high}
        row["inside"] = expected.holds(reference)
    mark = "" if row.get("inside", True) else "  outside"
    print(
        f"  {row['error_share']:+8.2%}  {value / 2**30:7.2f} GiB  {setting.words}  [{result['moment']}; "
        f"{'/'.join(result['kernels']) or 'eager'}; {result['seconds']} s]{mark}",
        flush=True,
    )
    return row


def check(
    title: str,
    settings: Sequence[Setting],
    jobs: int,
    failures: list[str],
    *,
    measured: bool = False,
    simulate: Callable[[Sequence[Setting], int], Iterator[tuple[Setting, dict[str, Any]]]] = simulate_all,
    limit: float = LIMITS.each,
) -> list[dict]:
    """Simulate, print, and hold the errors against the limits."""
    print(f"{title}: {len(settings)} settings")
    kept = []
    for setting, result in simulate(settings, jobs):
        expected = None
        if not measured and "allocated" in result:
            expected = predicted(setting)
        reference = setting.measured if measured else result.get("allocated")
        kept.append(_show(setting, result, expected, reference))
    errors = [abs(row["error_share"]) for row in kept if "error_share" in row]
    failures += [f"not simulated: {row['setting']}: {row['error']}" for row in kept if "error" in row]
    if not errors:
        return kept
    print(f"  mean {mean(errors):.2%}, worst {max(errors):.2%}, {len(errors)} of {len(kept)} simulated")
    if measured:
        if mean(errors) > LIMITS.row:
            failures.append(f"the simulation is {mean(errors):.2%} off the measured rows, on average")
        return kept
    inside = mean(row["inside"] for row in kept if "inside" in row)
    print(f"  {inside:.0%} inside the estimated range")
    failures += [
        f"{row['error_share']:+.1%}: {row['setting']}" for row in kept if abs(row.get("error_share", 0)) > limit
    ]
    if mean(errors) > LIMITS.on_average:
        failures.append(f"mean error {mean(errors):.2%}")
    if inside < LIMITS.inside:
        failures.append(f"{inside:.0%} inside the range")
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--settings", type=int, default=SETTINGS)
    parser.add_argument("--only", default="")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(argv)
    from benchmarks import truth_unsloth  # which imports this

    began, failures, result = time.monotonic(), [], {}

    def wanted(settings: Iterator[Setting]) -> list[Setting]:
        return [each for each in settings if options.only in each.model_id]

    if options.rows:
        measured = wanted(rows())
        measured = measured[:: max(1, len(measured) // options.rows)]
        result["rows"] = check("Measured on a T4", measured, options.jobs, failures, measured=True)
    if options.settings:
        drawn = wanted(draw(options.seed, options.settings))
        result["settings"] = check(f"Drawn with seed {options.seed}", drawn, options.jobs, failures)
        own = wanted(each for group in truth_unsloth.groups() for each in group)
        result["settings"] += check(
            "Unsloth", own, options.jobs, failures, simulate=truth_unsloth.simulate_all, limit=LIMITS.unsloth
        )
    if options.output:
        whole = len(result) == 2 and not options.only
        value = _document(result, options.seed) if whole else result
        options.output.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    print(f"{time.monotonic() - began:.0f} s")
    for failure in failures:
        print(f"FAIL {failure}", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
