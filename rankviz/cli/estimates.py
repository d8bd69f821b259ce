"""`rankviz models` and `rankviz estimate`."""

from dataclasses import asdict

from rankviz import units
from rankviz.api import Api
from rankviz.api.json import estimate_json
from rankviz.cli.asking import asking
from rankviz.cli.plot import Plot, check, plot_estimate
from rankviz.cli.shared import Json, print_json, span, table
from rankviz.core.accuracy.similar import in_words
from rankviz.core.cost.question import Question


def models(as_json: Json = False) -> None:
    """List the catalogue: base models with totals from their real layers."""
    rows = Api().models.all()
    if as_json:
        return print_json([asdict(row) for row in rows])
    table(
        f"{len(rows)} models",
        ["Model", "Parameters", "Tower", "Verified"],
        [[r.id, f"{r.total_parameters:,}", r.tower, "yes" if r.verified else "no"] for r in rows],
    )


@asking
def estimate(asked: Question, plot: Plot = None, as_json: Json = False) -> None:
    """Exact adapter numbers, and ranges for memory, time and money."""
    check(plot)
    answered = Api().estimates.estimate(asked)
    if plot:
        plot_estimate(plot, answered.estimate, in_words(answered.evidence))
    answer = estimate_json(answered)
    if as_json:
        return print_json(answer)
    table(
        f"{answer['model_id']}: {answer['total_parameters']:,} parameters"
        + (f", on {answer['gpu']}" if answer["gpu"] else ""),
        ["r", "alpha", "Trainable", "Share", "File", "Memory (nvidia-smi)", "Time", "Cost", "Fit"],
        [_estimate_row(row) for row in answer["ranks"]],
        notes=[in_words(answered.evidence), *answer["notes"]],
    )


def _estimate_row(row: dict) -> list[str]:
    memory, seconds, usd = row["memory_bytes"], row["seconds"], row["usd"]
    return [
        str(row["r"]),
        f"{row['lora_alpha']:g}",
        f"{row['adapter_parameters']:,}",
        f"{row['adapter_percent']:.3f} %",
        units.file_size(row["adapter_bytes"]),
        span(memory, units.memory_size),
        span(seconds, units.duration) if seconds else "not known",
        span(usd, units.usd) if usd else "not known",
        (row["fit"] or "no GPU chosen").replace("_", " "),
    ]
