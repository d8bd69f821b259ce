"""What measured rows an estimate rests on: those of its kind of setting, the most alike first.

Works on the rows and the evidence of a validation report (core.accuracy.report), as they are shipped.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rankviz.core.cost.stack import Stack

SHOWN = 5


def rests_on(validation: Mapping[str, Any], stack: Stack, predicted_bytes: float, gpu: str | None) -> dict[str, Any]:
    """Evidence for memory and time, None where no measured row is of this kind, and the rows most alike.

    Alike: the same kernels, checkpointing and attention; then the same width of the base, the same card, and a
    prediction of nearly the same size.
    """
    rows = [row for row in validation["rows"] if row["predicted_bytes"] and _speaks_for(row, stack)]
    rows.sort(key=lambda row: _distance(row, stack, predicted_bytes, gpu))
    settings = {(row["model_id"], row["setting"]): row for row in reversed(rows)}  # repeats of one setting once
    nearest = [row for row in rows if settings[row["model_id"], row["setting"]] is row]
    return {**evidence_for(validation, stack), "alike": len(rows), "rows": nearest[:SHOWN]}


def evidence_for(validation: Mapping[str, Any], stack: Stack) -> dict[str, Any]:
    """What the validation says of this kind of setting, for memory and for time; None where it says nothing."""
    evidence = validation["evidence"]
    return {
        "memory": _of_kind(evidence["memory"], stack.kind),
        "lower": _of_kind(evidence["lower"], stack.kind),
        "time": _of_kind(evidence["time"], stack.time_kind),
    }


def in_words(rests: Mapping[str, Any]) -> str:
    """One sentence: how far off memory was in measured settings like this one."""
    memory, lower = rests["memory"], rests["lower"]
    if memory is None:
        seen = (
            f" Over {lower['settings']} runs with unknown settings the average error was "
            f"{100 * lower['mean_abs_error']:.1f} %."
            if lower
            else ""
        )
        return (
            "No measured run matches this setup (kernels, checkpointing and attention). The memory formula was read in "
            f"the code, so the range is wider.{seen}"
        )
    sources = len(memory["groups"])
    return (
        f"Memory was checked against {memory['settings']} measured settings from {sources} "
        f"source{'s' if sources > 1 else ''} with these kernels, checkpointing and attention; the average error was "
        f"{100 * memory['mean_abs_error']:.1f} %."
    )


def _speaks_for(row: Mapping[str, Any], stack: Stack) -> bool:
    return row["kind"] == stack.kind and row["measured_kind"] != "resident above baseline"


def _distance(row: Mapping[str, Any], stack: Stack, predicted_bytes: float, gpu: str | None) -> tuple:
    size = abs(math.log(row["predicted_bytes"] / predicted_bytes)) if predicted_bytes else 0.0
    return (
        not row["scored"],
        row["quantized"] != stack.setup.quantized,
        (0.0 if gpu and row["gpu"] == gpu else 0.5) + size,
    )


def _of_kind(evidence: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    return next((each for each in evidence if each["kind"] == kind), None)
