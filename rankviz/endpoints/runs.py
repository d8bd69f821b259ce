"""Endpoints for runs and sweeps: read by all who may see them, started by identified visitors, changed by owners."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from rankviz.api import Api
from rankviz.api.engines import CostJSON
from rankviz.api.runs import ListedRunJSON, QueuePlace, RunJSON, StandingJSON
from rankviz.core.from_json import as_answer, shape
from rankviz.core.runs.run_time import thinned
from rankviz.endpoints.gate import FileJSON, file, part
from rankviz.errors import InvalidSettingError
from rankviz.options import ADAPTER, EVERY, TRAIN_OPTIONS, sweep_of, takes
from rankviz.store.temp import Usage

SHOWN_STEPS = 400
"""Most training steps in the answer for a run; some runs have thousands."""
PlaceJSON = shape(QueuePlace)


class StatusJSON(TypedDict):
    """Progress of a sweep: place is null once it runs, waits is null if it does not wait; unknown values are null."""

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
    runs: list[StandingJSON]


class TrainingStepJSON(TypedDict):
    """Training loss of one optimizer step, nats per token."""

    step: int
    loss: float | None


class RunAnswerJSON(RunJSON):
    """One run: its settings and measurements, flat, with the estimate, answers to prompts and the training loss by
    step. Losses are nats per token; unknown values are null. Folders are given only where the page is not shared."""

    steps: list[TrainingStepJSON]


class StartedJSON(TypedDict):
    """A sweep that is queued now, and its engine; expected has sentences on its expected time, memory and cost."""

    sweep_id: str
    engine: str
    run_ids: list[str]
    expected: list[str]
    place: PlaceJSON | None
    waits: str | None


class IdsJSON(TypedDict):
    """Ids of the runs that were changed."""

    run_ids: list[str]


class SharedJSON(TypedDict):
    """Sharing of a run or sweep: shared is true if others may look at it, by adding address to this page's address."""

    shared: bool
    address: str


def status_json(api: Api, sweep_id: str) -> StatusJSON:
    """Return the progress of a sweep."""
    sweep = api.runs.sweep(sweep_id)
    progress, waits = api.runs.progress(sweep), api.runs.why_each_waits(sweep)
    return as_answer(
        StatusJSON,
        sweep,
        yours=api.runs.is_mine(sweep_id),
        shared=sweep.recorded or api.runs.is_open(sweep_id),
        place=None if sweep.recorded else api.runs.queue_place(sweep_id),
        share_done=progress.share,
        seconds_left=progress.seconds_left,
        in_words="All runs have ended." if sweep.ended else progress.sentence or "Queued.",
        waits=api.runs.why_sweep_waits(sweep) or api.engines.still_costs(sweep) or None,
        cost=as_answer(CostJSON, api.engines.spent(sweep)),
        runs=[{**api.runs.standing(run), "waits": waits.get(run.run_id)} for run in sweep.runs],
    )


def reading(api: Api) -> Sequence[Callable[..., Any]]:
    """Return the endpoints that read runs and sweeps."""

    @takes("limit", "offset", table=EVERY)
    def runs(limit: int = 100, offset: int = 0) -> list[ListedRunJSON]:
        """Your runs, newest sweep first: settings, measurements and estimate, without answers to prompts."""
        every = part((run for sweep in api.runs.sweeps() for run in sweep.runs), limit, offset)
        return [*api.runs.rows(every)]

    def run(run_id: str = "") -> RunAnswerJSON:
        """One run: settings, measurements and estimate, answers to prompts, and its training loss by step.

        Args:
            run_id: An id from `runs`.
        """
        row, steps = api.runs.row(run_id), thinned(api.runs.get(run_id).steps, SHOWN_STEPS)
        return {**row, "steps": [{"step": each.step, "loss": each.loss} for each in steps]}

    def status(sweep_id: str = "") -> StatusJSON:
        """Progress of a sweep: how far its runs are, its place in the queue, and the time left.

        Args:
            sweep_id: From start_sweep, or the sweep_id of a run.
        """
        return status_json(api, sweep_id)

    return runs, run, status


def changing(api: Api) -> Sequence[Callable[..., Any]]:
    """Return the endpoints that start, change and export runs and sweeps."""

    @takes(
        *("model", "data", "mode", "ranks", "independent", "targets", "alpha", "learning_rates", "seeds", "steps"),
        *("batch", "accumulation", "max_length", "precision", "held_out", "exact_match", "answers", "rslora", "dora"),
        *("engine", "flavor", "spend", "repeat", "expert_rank", *ADAPTER, "columns"),
        table=TRAIN_OPTIONS,
    )
    def start_sweep(**options: Any) -> StartedJSON:
        """Train one adapter per rank on the same data, to compare their held-out losses. Returns once it is queued."""
        request = sweep_of({**options, "ranks": options["ranks"] or None})
        there = api.engines.destination(options["engine"], options["flavor"], options["spend"])
        expected = api.runs.plan(request, there).sentences
        sweep_id = api.runs.start(request, there)
        sweep = api.runs.sweep(sweep_id)
        return as_answer(
            StartedJSON,
            sweep,
            engine=there.engine,
            run_ids=[each.run_id for each in sweep.runs],
            expected=expected,
            place=api.runs.queue_place(sweep_id),
            waits=api.runs.why_sweep_waits(sweep) or None,
        )

    def cancel(id: str = "") -> IdsJSON:
        """Cancel a run or a sweep of yours. Returns when its process has ended.

        Args:
            id: Id of the run or the sweep.
        """
        return IdsJSON(run_ids=list(api.runs.cancel(id)))

    @takes("sweep_id", "engine", "flavor", "spend", table=EVERY | TRAIN_OPTIONS)
    def resume(**options: Any) -> IdsJSON:
        """Queue the failed and cancelled runs of a sweep of yours again, there or elsewhere; completed runs stay."""
        return IdsJSON(run_ids=list(api.runs.resume(**options)))

    def delete(id: str = "") -> IdsJSON:
        """Delete a run or a sweep of yours that has ended, with its adapters and log.

        Args:
            id: Id of the run or the sweep.
        """
        return IdsJSON(run_ids=list(api.runs.delete(id)))

    def delete_uploads() -> shape(Usage):
        """Delete the files that you have uploaded to a shared page. Runs keep copies of their data."""
        return api.runs.quota.delete_uploads()._asdict()

    def share(id: str = "", shared: bool = True) -> SharedJSON:
        """Share a sweep of yours with others, who can look at it by its address but not change it, or stop sharing it.

        Args:
            id: Id of the sweep, or of one run.
            shared: True to let others look at it, False to stop.
        """
        kind = "sweep" if api.runs.is_sweep(id) else "run"  # nothing else has an address
        api.runs.open_to_all(id, shared)
        return SharedJSON(shared=api.runs.is_open(id), address=f"?tab=runs&{kind}={id}")

    def export_runs(ids: list[str] = []) -> FileJSON:  # noqa: B006 - nobody changes it
        """The journals of runs and sweeps and a summary, as a zip.

        Args:
            ids: Ids of runs and sweeps of yours, or that RankViz ships.
        """
        if not ids:
            raise InvalidSettingError("Give the id of at least one run or sweep.")
        return file(api.runs.zip_of(ids))

    return start_sweep, cancel, resume, delete, delete_uploads, share, export_runs
