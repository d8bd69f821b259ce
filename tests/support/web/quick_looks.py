"""Forecasts between runs, and the runs of a quick look, set down by hand."""

from dataclasses import replace

from rankviz.core.forecast.quick_look import BentForecast, BentRank, MeasuredRank, pick_of
from rankviz.core.runs.events import AdapterCut
from rankviz.core.runs.record import RunRecord
from tests.support.runs.finished_runs import plain_sweep


def forecast(medians: dict[int, float], *, repeat_at: int | None = None, half_band: float = 0.03) -> BentForecast:
    """Bands of 80 % that reach half_band to either side of these medians."""
    ranks = tuple(
        BentRank(
            r=r,
            median=loss,
            low_50=loss - half_band / 2,
            high_50=loss + half_band / 2,
            low_80=loss - half_band,
            high_80=loss + half_band,
            measured=None,
        )
        for r, loss in medians.items()
    )
    return BentForecast(
        sweep_id="s1",
        runs=(MeasuredRank(min(medians), medians[min(medians)]), MeasuredRank(max(medians), medians[max(medians)])),
        ranks=ranks,
        coverage_80=None,
        validated=False,
        repeat_at=repeat_at,
        noise_nats=None if repeat_at else 0.01,
        pick=pick_of(ranks),
        sentences=("The band rests on two runs.",),
    )


def quick_look_runs(
    low: float, high: float, cuts: dict[int, float] | None = None, *, saved: tuple[int, ...] = ()
) -> tuple[RunRecord, RunRecord]:
    """Finished runs at r = 4 and 64, the higher one truncated; 1 MB a rank. saved: cuts that were trained on and
    kept."""
    first, last = plain_sweep({4: low, 64: high}).runs
    events = tuple(
        AdapterCut(
            time=9.0,
            r=r,
            loss=loss,
            tokens=1,
            examples=1,
            seconds=1.0,
            example_losses=(),
            recovery_steps=0 if r >= 8 else 2,
            path=f"cuts/r{r}" if r in saved else "",
        )
        for r, loss in (cuts or {}).items()
    )
    return first, replace(last, cuts=events)
