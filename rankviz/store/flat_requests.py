"""Requests of before 25 November 2026, whose settings lay flat in request.json, in today's form."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rankviz.core.runs.request import SHORT_TRAINING

LORA = ("r", "lora_alpha", "target_modules", "use_rslora", "use_dora")
TRAINING = (
    "framework",
    "precision",
    "optim",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "max_steps",
)


PROBE_DEFAULTS = {
    "precision": "fp32",
    "optim": "adamw_torch",
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_length": 256,
}
"""Of a flat probe that left a setting out."""


def nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its settings under "lora" and "training"; a row in today's form as it is.

    A flat run had no choice of checkpointing and loss path: its worker settled both by the device. A flat probe was
    settled, and its loss path followed from its framework.
    """
    if "lora" in row or "r" not in row:
        return dict(row)
    rest = {name: value for name, value in row.items() if name not in (*LORA, *TRAINING, "checkpointing")}
    defaults = PROBE_DEFAULTS if "probe_id" in row else asdict(SHORT_TRAINING)
    training = defaults | {name: row[name] for name in TRAINING if name in row}
    if "probe_id" in row:
        training["gradient_checkpointing"] = row.get("checkpointing", "none")
        training["loss_path"] = "full" if row.get("framework") == "peft" else "fused"
    else:
        training |= {"gradient_checkpointing": "auto", "loss_path": "auto"}
    return {**rest, "lora": {name: row[name] for name in LORA if name in row}, "training": training}
