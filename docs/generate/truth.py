"""The part of docs/accuracy.md about simulated training steps, from assets/truth.json."""

from collections.abc import Mapping
from typing import Any

from docs.generate.markdown import percent, signed_percent, table

TEXT = """\
## Simulated steps

`make truth` runs training steps of the real model code, with transformers, PEFT, TRL and Unsloth, on a simulated GPU:
tensors have shapes but no values, and a copy of torch's allocator counts them. It needs no GPU and no weights.
Unsloth's blocks are not compiled there. `rankviz probe --simulate` does the same for one
model, under TRL unless `--framework peft` is given. Compared with {rows}
settings measured on a T4, the simulated peak is {mean_error} off on average and {worst_error} at most ({made}).
"""
DRAWN = """
The estimate is then compared with {drawn} simulated settings, drawn with seed {seed} from the catalogue: a model of
every family, GPUs, precisions, lengths, batches, checkpointing, target modules and ranks. An error is a share of the
simulated peak. The mean is {estimate_error}, and {inside} are inside the estimated range. The {shown} that are furthest
off (`assets/truth.json` has all):

{table}
{missing}"""


SHOWN = 3
"""Settings in the table, those with the largest errors."""


def simulated_steps(truth: Mapping[str, Any]) -> str:
    """Tables and figures."""
    about = TEXT.format(
        rows=len(truth["rows"]),
        mean_error=percent(truth["mean_error"], 2),
        worst_error=percent(truth["worst_error"], 2),
        made=truth["made"],
    )
    if not (settings := [row for row in truth["settings"] if "error_share" in row]):
        return f"{about}\nNo estimate has been compared with simulated settings yet."
    errors = [abs(row["error_share"]) for row in settings]
    missing = [row for row in truth["settings"] if "error_share" not in row]
    rows = [
        [
            *row["setting"].split(" | "),
            *(f"{row[name] / 2**30:.2f}" for name in ("simulated", "predicted")),
            signed_percent(row["error_share"]),
        ]
        for row in sorted(settings, key=lambda row: -abs(row["error_share"]))[:SHOWN]
    ]
    header = ["Model", "GPU", "Program", "Batch x length x accumulation", "Checkpointing", "Adapter"]
    header += ["Simulated GiB", "Estimated GiB", "Error"]
    why = {row["setting"].split(" | ")[0]: row.get("why_not") or row["error"] for row in missing}
    drawn = DRAWN.format(
        drawn=len(settings),
        shown=min(SHOWN, len(settings)),
        seed=truth["seed"],
        estimate_error=percent(sum(errors) / len(errors), 1),
        inside=percent(sum(row["inside"] for row in settings) / len(settings), 0),
        table=table(header, rows),
        missing="".join(f"\n\nNot simulated: {model}. {reason}" for model, reason in sorted(why.items())),
    )
    return f"{about}{drawn}".strip()
