"""What the published lines say of the advice: its regret beside fixed ranks, and what a doubling of the rank gained.

Read from section "advice" of assets/forecast.json, which worker/assets/forecast/regret.py computes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Mean(NamedTuple):
    """A mean over publications, with the ends of its 90 % interval."""

    mean: float
    low: float
    high: float
    publications: int
    lines: int


class Alternative(NamedTuple):
    """One way to choose a rank: the advice, one rank for all, or the capacity rule. Scores in points, losses in %."""

    rule: str
    mean_rank: float
    score: Mean
    more: tuple[float, float, float]
    """Points that its regret is above the advice's: the mean and the ends of its 90 % interval."""
    over_one_point: float
    """Share of publications whose best rank was more than a point better."""
    loss: Mean


class Record(NamedTuple):
    """How well ranks have done over the published lines."""

    alternatives: tuple[Alternative, ...]
    """The advice first, each publication left out in turn."""
    gains: Mapping[str, Mapping[int, Mean]]
    """Points that twice the rank gained, by kind of task ("all" for every kind) and rank."""

    def gain(self, kind: str, r: int) -> Mean | None:
        return self.gains.get(kind, {}).get(r)

    def regret(self, rule: str) -> Alternative | None:
        return next((each for each in self.alternatives if each.rule == rule), None)


def record_of(section: Mapping[str, Any] | None) -> Record:
    """The section as data; empty where the file was made before it had one."""
    section = section or {"alternatives": (), "gains": {}}
    return Record(
        tuple(
            Alternative(
                rule=row["rule"],
                mean_rank=row["score"]["mean_rank"],
                score=_mean(row["score"], "regret"),
                more=tuple(row["score"]["more"]),
                over_one_point=row["score"]["over_one"],
                loss=_mean(row["loss"], "regret"),
            )
            for row in section["alternatives"]
        ),
        {kind: {int(r): _mean(row, "gain") for r, row in rows.items()} for kind, rows in section["gains"].items()},
    )


def _mean(row: Mapping[str, Any], name: str) -> Mean:
    return Mean(*row[name], row["publications"], row["lines"])
