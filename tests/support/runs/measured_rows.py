"""Measured rows of the toy, to be varied."""

from rankviz.core.accuracy.predicted import MeasuredRow, parse_row

CELLS = {
    "row_id": "M1",
    "independent_group": "lab-a",
    "tier": "A",
    "use_peak": "yes",
    "use_time": "no",
    "model_id": "toy/toy-16",
    "precision": "bf16",
    "kbit_fp32_upcast": "no",
    "framework": "trl",
    "r": "2",
    "targets": "q_proj,v_proj",
    "batch": "1",
    "grad_accum": "2",
    "seq_len": "10",
    "checkpointing": "hf",
    "attn": "flash",
    "loss_path": "full",
    "optimizer": "adamw_torch",
    "gpu": "toy-card",
    "measured_bytes": "30000",
    "measured_kind": "allocated",
}


def measured_row(**cells: str) -> MeasuredRow:
    return parse_row({**CELLS, **cells}, line=2)
