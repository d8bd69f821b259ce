"""What endpoints say of a sweep as it goes: its place, its runs, what it waits for and what it has cost so far."""

import time
from dataclasses import asdict
from typing import TypedDict

from rankviz.api import Api
from rankviz.api.runs.spending import CostJSON
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import device_time


class RunStateJSON(TypedDict):
    """How far one run is, and where: engine and where it is, is to be, or was. attempt counts those that began; waits
    says why it waits, in sentences."""

    run_id: str
    r: int
    state: str
    engine: str | None
    where: str | None
    attempt: int
    waits: str | None
    device_seconds: float
    device_seconds_is_whole: bool
    error: str | None


class PlaceJSON(TypedDict):
    """In the queue of all visitors: how many go first, and the seconds until its turn as low, expected and high."""

    ahead: int
    seconds: dict[str, float] | None


class StatusJSON(TypedDict):
    """How far a sweep is. place is null once it runs, waits where it waits for nothing, and what is not known is
    null."""

    sweep_id: str
    ended: bool
    yours: bool
    shared: bool
    place: PlaceJSON | None
    share_done: float | None
    seconds_left: float | None
    in_words: str
    waits: str | None
    cost: CostJSON
    runs: list[RunStateJSON]


def status_json(api: Api, sweep_id: str) -> StatusJSON:
    """Of one sweep."""
    sweep = api.runs.sweep(sweep_id)
    progress, place = api.runs.progress(sweep), None if sweep.recorded else place_json(api, sweep_id)
    waits = api.runs.why_sweep_waits(sweep) or api.jobs.still_costs(sweep)
    each_waits = api.runs.why_each_waits(sweep)
    return StatusJSON(
        sweep_id=sweep.sweep_id,
        ended=sweep.ended,
        yours=api.runs.is_mine(sweep_id),
        shared=sweep.recorded or api.runs.is_open(sweep_id),
        place=place,
        share_done=progress.share,
        seconds_left=progress.seconds_left,
        in_words="All runs have ended." if sweep.ended else progress.sentence or "Queued.",
        waits=waits or None,
        cost=api.spending.of_sweep(sweep).as_json(),
        runs=[_run_json(api, run, each_waits.get(run.run_id)) for run in sweep.runs],
    )


def _run_json(api: Api, run: RunRecord, waits: str | None) -> RunStateJSON:
    place, spent = api.whereabouts.of(run), device_time([run], time.time())
    return RunStateJSON(
        run_id=run.run_id,
        r=run.request.r,
        state=str(run.state),
        engine=place.engine or None,
        where=place.where or None,
        attempt=run.shown_attempt,
        waits=waits,
        device_seconds=spent.seconds,
        device_seconds_is_whole=spent.is_whole,
        error=run.error or None,
    )


def place_json(api: Api, sweep_id: str) -> PlaceJSON | None:
    """Of a sweep; None where it does not wait."""
    place = api.runs.waiting(sweep_id)
    if place is None:
        return None
    return PlaceJSON(ahead=place.ahead, seconds=asdict(place.seconds) if place.seconds else None)
