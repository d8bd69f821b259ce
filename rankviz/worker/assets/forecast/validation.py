"""Two own runs against independent ones."""

import json
from pathlib import Path

from rankviz.core.forecast.bent import third_run
from rankviz.core.forecast.mixture import MeasuredRank
from rankviz.core.runs.fidelity import Case, from_json
from rankviz.core.runs.tradeoff import TOLERANCE_NATS
from rankviz.store import recorded
from rankviz.worker.assets.forecast.bending import (
    LOW,
    SHAPES,
    bent_points,
    bent_summary,
    recorded_points,
    setting_left_out,
    why_not_forecast,
)

THIRD_RUN = 16


def bent_check(assets: Path, gain_percent: float) -> dict:
    """Two runs, and three, against the independent runs of assets/fidelity.json."""
    cases = from_json(json.loads((assets / "fidelity.json").read_text(encoding="utf-8"))).cases
    two = bent_points(cases, gain_percent, TOLERANCE_NATS)
    blind = setting_left_out(cases, gain_percent, TOLERANCE_NATS)
    offered = {case.name for case in cases if _third_run(case) == THIRD_RUN}
    three = [p for p in bent_points(cases, gain_percent, TOLERANCE_NATS, THIRD_RUN) if p.case in offered]
    same = {(point.case, point.rank) for point in three}
    why_not = {case.name: why_not_forecast(case) for case in cases}
    return {
        "run_noise_nats": TOLERANCE_NATS,
        **bent_summary(two),
        "cases_held": [
            {
                "case": name,
                "why_not": why_not[name],
                "runs": sum(point.case == name for point in two),
                "inside_80": sum(point.inside for point in two if point.case == name),
                "inside_80_left_out": sum(point.inside for point in blind if point.case == name),
            }
            for name in (case.name for case in cases)
        ],
        "recorded": _recorded(assets, gain_percent),
        "setting_left_out": {"shapes": len(SHAPES), **bent_summary(blind)},
        "third_run": {
            "two": bent_summary([point for point in two if (point.case, point.rank) in same]),
            "three": bent_summary(three),
        }
        if three
        else {},
    }


def _recorded(assets: Path, gain_percent: float) -> list[dict]:
    """The recorded sweeps, which no setting of the band was chosen on; one row a sweep and learning rate."""
    rows = []
    for sweep in recorded(assets):
        points = list(recorded_points(sweep, gain_percent, TOLERANCE_NATS))
        for rate in dict.fromkeys(point.setting for point in points):
            own = [point for point in points if point.setting == rate]
            ranks = sorted({run.request.r for run in sweep.runs})
            middle = {(point.rank, point.loss) for point in own}
            rows.append(
                {
                    "sweep": sweep.sweep_id,
                    "learning_rate": float(rate),
                    "ends": [ranks[0], ranks[-1]],
                    "runs_between": len(middle),
                    **bent_summary(own),
                }
            )
    return rows


def _third_run(case: Case) -> int | None:
    """The rank that would be offered after the runs of r = 4 and the highest rank."""
    if why_not_forecast(case):
        return None
    ends = [MeasuredRank(r, case.independent[r]) for r in (LOW, max(case.independent))]
    return third_run(ends, TOLERANCE_NATS)
