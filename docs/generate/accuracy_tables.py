"""The tables of docs/accuracy.md, from rows of validation.json and fidelity.json."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from docs.generate.markdown import percent, signed_nats, signed_percent, table

TABLE_RANKS = ("2", "4", "8", "16")


def bounds_table(scores: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ["Table", "Rows", "Setups", "Measured at most the upper end"],
        [
            [score["group"], str(score["rows"]), str(score["settings"]), percent(score["inside_band"], 0)]
            for score in scores
        ],
    )


def scores_table(scores: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ["Source", "Rows", "Setups", "Mean error", "Largest error", "Inside the range", "Range"],
        [
            [
                score["group"],
                str(score["rows"]),
                str(score["settings"]),
                percent(score["mean_abs_error"]),
                signed_percent(score["worst_error"]),
                percent(score["inside_band"], 0),
                f"±{percent(score['mean_half_width'])}",
            ]
            for score in scores
        ],
    )


def unusable_table(rows: Sequence[Mapping[str, Any]], *, every: bool = False) -> str:
    """every: True for rows with a prediction too."""
    reasons = Counter((row["group"], row["reason"]) for row in rows if every or row["predicted_bytes"] is None)
    return table(
        ["Source", "Rows", "Reason"],
        [[group, str(count), reason or "not known"] for (group, reason), count in sorted(reasons.items())],
    )


def aside_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows that are not counted, by source and reason, with the errors of those that have a prediction."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["scored"]:
            continue
        errors = reasons.setdefault((row["group"], row["reason"] or "not known"), [])
        errors.append(
            signed_percent(row["predicted_bytes"] / row["measured_bytes"] - 1) if row["predicted_bytes"] else ""
        )
    return table(
        ["Source", "Rows", "Reason", "Errors"],
        [
            [group, str(len(errors)), reason, ", ".join(filter(None, errors))]
            for (group, reason), errors in sorted(reasons.items())
        ],
    )


def probes_table(rows: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ["Model", "Setup", "Memory from two depths", "Step time from two depths"],
        [
            [
                row["model_id"],
                row["setting"],
                signed_percent(row["two_depth_bytes"] / row["measured_bytes"] - 1),
                signed_percent(row["two_depth_seconds"] / row["measured_seconds_per_step"] - 1)
                if row["two_depth_seconds"]
                else "not known",
            ]
            for row in rows
            if row["two_depth_bytes"]
        ],
    )


def settings_table(settings: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ["Setting", "Seeds", *(f"r = {r}" for r in TABLE_RANKS), "picked r", "its run", "its truncation", "highest"],
        [
            [
                f"{setting['base']}, {setting['data'].lower()}, {setting['steps']:,} steps, {_alpha_rule(setting)}",
                str(setting["cases"]),
                *(signed_nats(setting["differences"].get(r)) for r in TABLE_RANKS),
                ", ".join(map(str, setting["picked"])),
                *(f"{setting[name]:.3f}" for name in ("regret", "regret_of_cut", "regret_of_highest")),
            ]
            for setting in settings
        ],
    )


def _alpha_rule(setting: Mapping[str, Any]) -> str:
    if setting["alpha"] == "fixed":
        return f"fixed alpha, learning rate {setting['learning_rate']:g}"
    return "alpha = r, learning rate tuned at each rank"


def by_rank_table(by_rank: Mapping[str, Mapping[str, Any]]) -> str:
    return table(
        ["Rank", "Cases", "Median absolute difference", "Lowest", "Highest"],
        [
            [
                r,
                str(row["cases"]),
                f"{row['median_absolute']:.3f}",
                signed_nats(row["low"]),
                signed_nats(row["high"]),
            ]
            for r, row in by_rank.items()
        ],
    )
