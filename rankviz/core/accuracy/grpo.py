"""Predicts published GRPO runs: the longest prompt and completion on a card, by the trainer's part of the memory.

With vLLM in the process, the share that it was given fixes the peak of the card. So rows count that give the longest
length with which training fitted, and whose model, precision, length and card are stated.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

from rankviz.core.accuracy.predicted import MeasuredRow, PredictedRow, row_stack, unusable
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.grpo import with_rollout
from rankviz.core.cost.predict import Prediction, predict
from rankviz.core.cost.setup import Gpu, Grpo, card
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.errors import UserError
from rankviz.units import GIB

LENGTH_COLUMN = "prompt_plus_completion"
"""Column by which a table of GRPO runs is told from one of supervised runs."""
PRECISION_WORDS = {"fp8": "fp8", "lora/qlora": "", "qlora": "nf4-dq", "16-bit": "bf16", "bf16": "bf16"}
"""Precision of the base by a word in the column `method`."""
ASSUMED_PROMPT, ASSUMED_GROUP, ASSUMED_RANK = 512, 8, "32"
"""Tokens of the prompt, completions of a prompt and rank, where a row does not state them: defaults of TRL and of
Unsloth's notebooks. They hardly change a capacity."""


def house_cells(cells: Mapping[str, str]) -> dict[str, str]:
    """Return a line of a table of GRPO runs with the columns of other measured rows. A batch that is not stated is one
    group over the accumulation steps, 1 by default: the smallest that TRL accepts, to which Unsloth raises it."""
    given = defaultdict(str, {name: (text or "").strip() for name, text in cells.items() if name is not None})

    def count(name: str) -> str:
        digits = re.match(r"\d{1,9}", given[name])
        return digits[0] if digits else ""

    notes, framework = given["notes"], given["framework"].lower()
    precision = next((value for word, value in PRECISION_WORDS.items() if word in given["method"].lower()), "")
    own, standby = "unsloth" in framework, "yes" * (given["standby_or_sleep"] == "yes")
    group, steps = int(count("generations") or ASSUMED_GROUP), max(1, int(count("grad_accum") or 1))
    longest = "longest that fits" in notes and "beyond" not in notes
    missing = {
        "precision not stated": not precision,
        "length not stated": not count(LENGTH_COLUMN),
        "the source says that it fits, not that nothing longer does": given["status"] == "capacity" and not longest,
        "not a capacity: vLLM's share of the card fixes its peak, or no peak was measured": (
            given["peak_kind"] != "card size"
        ),
    }
    size = float(given["peak_gib"]) * GIB if re.fullmatch(r"\d+(\.\d+)?", given["peak_gib"]) else None
    return {
        **{name: given[name] for name in ("row_id", "date", "source")},
        "independent_group": f"GRPO, {given['source'].partition(' (')[0]}",
        "tier": "D" if any(missing.values()) else "A",
        "use_peak": "yes",
        "model_id": given["model"],
        "precision": precision or "not stated",
        "framework": "unsloth" if own else "trl",
        "r": count("rank") or ASSUMED_RANK,
        "targets": "all",
        "batch": count("batch") or str(-(-group // steps)),
        "grad_accum": str(steps),
        "seq_len": count(LENGTH_COLUMN) or "1",
        "checkpointing": "unsloth" if own else "hf",
        "loss_path": "fused" if own else "full",
        "optimizer": "adamw_8bit" if own else "adamw_torch",
        "gpu": re.sub(r"\(.*\)|Tesla|not stated| \d+ GiB", "", given["gpu"]).strip(),
        "measured_bytes": "" if size is None else str(round(size)),
        "measured_kind": "capacity",
        "notes": "; ".join([*(sentence for sentence, applies in missing.items() if applies), notes]),
        "generations": str(group),
        "whole_batch": "yes" if count("batch") else "",
        "standby": standby,
        "vllm_mode": "colocate" if own or given["vllm_mode"] else "none",
        "utilization": given["gpu_memory_utilization"],
    }


def predict_grpo(
    row: MeasuredRow, find_model: Callable[[str], ModelSpec], find_gpu: Callable[[str], Gpu | None], assume: Assumptions
) -> PredictedRow:
    """Predict the memory that a row's length needs on the card. What a row does not state makes the range: a batch of 1
    to a whole group; vLLM with the least share with which it starts, to the program's default; for TRL also no vLLM; a
    prompt of ASSUMED_PROMPT tokens to none."""
    gpu = find_gpu(row.gpu)
    if row.measured_bytes is None and gpu:
        row = replace(row, measured_bytes=gpu.usable_bytes)
    if problem := "; ".join(part for part in row.notes.split("; ") if part.endswith("not stated")) or unusable(row):
        return PredictedRow(row=row, reason=problem)
    stack = row_stack(row, assume)

    def at(batch: int, mode: str, *, most: bool = False) -> Range:
        prompt = 1 if most else min(ASSUMED_PROMPT, row.seq_len - 1) or 1
        grpo = Grpo(
            num_generations=row.generations,
            max_prompt_length=prompt,
            max_completion_length=max(1, row.seq_len - prompt),
            vllm_mode=mode,
            vllm_enable_sleep_mode=row.standby,
            vllm_gpu_memory_utilization=row.utilization,
        )
        setup = replace(stack.setup, per_device_train_batch_size=batch, gradient_accumulation_steps=1, grpo=grpo)
        made: Prediction = predict(model, LoraConfig(r=row.r), replace(stack, setup=setup), card(gpu))
        known = gpu and gpu.usable_bytes if row.utilization or (most and not row.standby) else None
        return with_rollout(made, row.r, known)[0].device_band

    try:
        model = find_model(row.model_id)
        least = 1 if not row.whole_batch else row.batch
        most = row.batch if row.whole_batch else max(row.batch, row.generations)
        ends = at(least, row.vllm_mode), at(most, "colocate", most=True)
        expected = at(row.batch, row.vllm_mode)
    except UserError as error:
        return PredictedRow(row=row, reason=str(error))
    counted, notes = row.tier == "A" and row.measured_bytes, row.notes.split("; ")
    return PredictedRow(
        row=row,
        stack=stack,
        predicted=Range(min(ends[0].low, expected.low), expected.expected, max(ends[1].high, expected.high)),
        working_bytes=expected.expected,
        reason="" if counted else notes[0],
    )
