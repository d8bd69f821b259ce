"""Lists, follows, shares, cancels, deletes, exports, imports and publishes runs and sweeps."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, TypedDict

from rankviz import installed, units
from rankviz.api.starts import Starts
from rankviz.api.workspace import writes
from rankviz.children import remade
from rankviz.core.bounds import PLACE, name_alone
from rankviz.core.from_json import as_answer, shape
from rankviz.core.probe import ProbeRecord
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.events import RunCancelled
from rankviz.core.runs.record import AFTER_OTHERS, RunRecord, RunState, Sweep, cancel_in_words, why_it_waits
from rankviz.core.runs.run_time import device_time
from rankviz.core.runs.sweep_time import SweepProgress, progress_of
from rankviz.errors import InvalidSettingError, NotYoursError, PublishError, RunNotFoundError, quoted
from rankviz.jobs import queue
from rankviz.publish import ADAPTER, DATASET, TRACKIO, Destination, Token
from rankviz.shared.rights import shown
from rankviz.store import RunStore, durable
from rankviz.store.removal import remove
from rankviz.store.runs import group
from rankviz.store.transfer import SummaryRow, export_runs, summary_row
from rankviz.visitor import SERVER, acting_as

SHORT_OWNER = 8
"""Number of characters of a visitor's id that are shown in a list."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuePlace:
    """Place of a sweep or probe in the queue of all visitors: `ahead` go first, and it starts in so many `seconds`."""

    ahead: int
    """Number of sweeps and probes that go first, running ones included."""
    seconds: Range | None
    """Seconds until the sweep starts; None where the time of an earlier sweep or probe is not known."""
    trouble: str = ""
    """Sentence on why nothing starts at all; empty if nothing is wrong."""

    @property
    def sentence(self) -> str:
        """Place and longest wait as a sentence. The wait may be shorter, since others may cancel."""
        if self.trouble:
            return f"Waiting. {self.trouble}"
        if not self.ahead:
            return "Next in the queue."
        wait = "not known" if self.seconds is None else f"up to {units.duration(self.seconds.high)}"
        before = units.counted(self.ahead, "sweep")
        return f"Place {self.ahead + 1:,} in the queue: {before} before it. Expected wait: {wait}."


class Runs(Starts):
    """Runs in one runs folder that the current visitor may see, and the recorded runs that RankViz ships."""

    # What is here.

    def sweeps(self) -> Sequence[Sweep]:
        """Return all sweeps of the current visitor, newest first."""
        own = self._workspace.rights.own(self._workspace.store.all())
        is_admin = self._workspace.visitor.admin  # at once, since the list may be long
        return group(own if is_admin else [shown(self._workspace, record) for record in own])[::-1]

    def reading(self) -> str:
        """Return a sentence on how many runs of the folder have been read; empty once all have."""
        if (reading := self._workspace.store.reading) is None:
            return ""
        return f"The runs folder is being read: {reading[0]:,} of {reading[1]:,} runs so far."

    def made(self) -> Sequence[Sweep]:
        """Return the sweeps that the current visitor made, newest first; an admin's list has no others' either."""
        return [sweep for sweep in self.sweeps() if not self.owner_of(sweep.runs[0].run_id)]

    def owner_of(self, run_or_sweep_id: str) -> str:
        """Return a short name of the owner of a run or sweep, for the admin of a shared page; empty for other
        visitors, and if the admin made it or RankViz ships it."""
        store, visitor = self._workspace.store, self._workspace.visitor
        if not (self._workspace.shared and visitor.admin) or self._ships(run_or_sweep_id):
            return ""
        is_run = store.run_dir(run_or_sweep_id).is_dir()  # at once, since a list asks for each
        run_ids = [run_or_sweep_id] if is_run else [run.run_id for run in self._workspace.rights.seen(run_or_sweep_id)]
        others = {store.ownership(run_id).owner for run_id in run_ids} - {*visitor.ids}
        return next((f"visitor {owner[:SHORT_OWNER]}" if owner else "the host" for owner in sorted(others)), "")

    def unreadable(self) -> Mapping[str, str]:
        """Return the reason why a run folder cannot be read, by folder name, for the current visitor's folders."""
        unreadable, mine = self._workspace.store.unreadable(), self._workspace.rights.mine
        return {name: reason for name, reason in unreadable.items() if mine(name)}

    def sweep(self, sweep_id: str) -> Sweep:
        """Return one sweep: of the current visitor, shared by another, or recorded."""
        if shipped := [self._recorded_store.get(each) for each, of in self._shipped.items() if of == sweep_id]:
            return Sweep(sweep_id=sweep_id, runs=tuple(shipped), recorded=True)
        sweep = self._workspace.store.sweep(sweep_id)
        if not (runs := self._workspace.rights.visible(sweep.runs)):
            raise RunNotFoundError(sweep_id)
        return replace(sweep, runs=tuple(map(self._shown, runs)))

    def is_sweep(self, run_or_sweep_id: str) -> bool:
        """Return whether an id is a sweep's and not a run's. RunNotFoundError if it is neither."""
        try:
            self.get(run_or_sweep_id)  # first: for a sweep, the requests of all runs may be searched
        except RunNotFoundError:
            self.sweep(run_or_sweep_id)
            return True
        return False

    def get(self, run_id: str) -> RunRecord:
        """Return one run: of the current visitor, shared by another, or recorded."""
        if run_id in self._shipped:
            return self._recorded_store.get(run_id)
        record = self._workspace.store.get(run_id)
        self._workspace.rights.require_sight(run_id)
        return self._shown(record)

    def _shown(self, record: RunRecord) -> RunRecord:
        """Return the record as the current visitor may read it. Only the owner reads the error's paths, the log and
        the answers, which quote the data."""
        record = shown(self._workspace, record)
        if self._workspace.rights.mine(record.run_id):
            return record
        error = PLACE.sub("…/", record.error)
        return replace(record, log_tail="", error=error, answered_before=None, answered_after=None)

    def recorded(self) -> Sequence[Sweep]:
        """Return the sweeps that RankViz ships."""
        return self._recorded

    @cached_property
    def _recorded(self) -> Sequence[Sweep]:
        self._recorded_store.update(waits=True)  # what is cached here must be all of them
        return group(self._recorded_store.all(), recorded=True)

    @cached_property
    def _recorded_store(self) -> RunStore:
        return RunStore(self._workspace.assets / "recorded")

    @cached_property
    def _shipped(self) -> Mapping[str, str]:
        """Sweep id of each recorded run by the run's id, from the folder names: no journal is read."""
        names = sorted(folder.name for folder in self._recorded_store.runs_dir.glob("*"))
        return {name: name.rsplit("-", 2)[0] for name in names}

    def row(self, run_id: str) -> RunJSON:
        """Return one run as a flat row, with its answers."""
        return next(self.rows([self.get(run_id)], answers=True))

    def rows(self, runs: Sequence[RunRecord], *, answers: bool = False) -> Iterator[Any]:
        """Yield each run as a flat row: a ListedRunJSON, or with `answers` a RunJSON, whose answers are long. Rows are
        made one by one. On a shared page and for recorded runs they name no folders of this machine."""
        for run, estimate in zip(runs, self.expected_runs(runs), strict=True):
            row, folder, adapter = summary_row(run), None, None
            if self._workspace.shared or run.run_id in self._shipped:
                row |= {"base": name_alone(row["base"]), "data": name_alone(row["data"])}
            else:
                folder = self._workspace.store.run_dir(run.run_id)
                adapter = folder / run.adapter_path if run.adapter_path else None
            listed: dict[str, Any] = {
                **row,
                **self.standing(run),
                "folder": folder and str(folder),
                "adapter_folder": str(adapter) if adapter and adapter.is_dir() else None,
                "estimate": asdict(estimate) if estimate else None,
            }
            if answers:
                texts = [(each, *(said and said.text for said in (each.before, each.after))) for each in run.answers]
                row = [as_answer(AnswerJSON, each, example=each.place, before=a, after=b) for each, a, b in texts]
                listed["answers"] = row
            yield listed

    def standing(self, run: RunRecord) -> StandingJSON:
        """Return a run's place, attempt and machine time until now."""
        place, spent = self._api.engines.place_of(run), device_time([run], time.time())
        return {
            "run_id": run.run_id,
            "r": run.request.r,
            "state": str(run.state),
            "error": run.error or None,
            "engine": place.engine or None,
            "where": place.where or None,
            "attempt": run.shown_attempt,
            "waits": run.waits or None,
            "device_seconds": spent.device_seconds,
            "device_seconds_is_whole": spent.device_seconds_is_whole,
        }

    # Progress of sweeps, and why their runs wait.

    def follow(self, sweep_id: str, every_seconds: float = 0.3) -> Iterator[Sweep]:
        """Yield the sweep's current state repeatedly until all its runs have ended."""
        while True:
            sweep = self.sweep(sweep_id)
            yield sweep
            if sweep.ended:
                return
            self._workspace.work_queue()  # whoever held the queue may have gone meanwhile
            time.sleep(every_seconds)

    def progress(self, sweep: Sweep) -> SweepProgress:
        """Return progress and remaining time of a sweep; no time while a cancel is pending or the disk full."""
        progress = progress_of(sweep, time.time(), None if sweep.ended else self.time_of_records(sweep.runs))
        if not sweep.running:
            return progress
        trouble = self._workspace.why_not_write()
        if not trouble and self.cancel_is_pending(sweep.runs):
            trouble = cancel_in_words(sweep.runs)
        return replace(progress, trouble=trouble, seconds_left=None, share=None) if trouble else progress

    def place_in_words(self, sweep_id: str) -> str:
        """Return a sentence with a waiting sweep's or probe's place in the queue and its wait."""
        place = self.queue_place(sweep_id)
        return place.sentence if place else "It starts when a worker is free."

    def why_waits(self, run: RunRecord) -> str:
        """Return why a run waits: a pending cancel, its engine's reason, or its place in the queue; else empty."""
        if run.state.ended:  # so no other run of its sweep is read
            return ""
        return self.why_each_waits(self.sweep(run.request.sweep_id)).get(run.run_id, "")

    def why_each_waits(self, sweep: Sweep) -> Mapping[str, str]:
        """Return why each run of a sweep waits, by run id; runs that do not wait are left out."""
        return {run_id: " ".join(reasons) for run_id, reasons in self._reasons(sweep).items() if reasons}

    def why_sweep_waits(self, sweep: Sweep) -> str:
        """Return why the runs of a sweep wait, except that they wait for another run of the same sweep."""
        reasons = dict.fromkeys(reason for each in self._reasons(sweep).values() for reason in each)
        return " ".join(reason for reason in reasons if reason != AFTER_OTHERS)

    def _reasons(self, sweep: Sweep) -> Mapping[str, Sequence[str]]:
        """Return why each unended run waits, by id: a pending cancel, its journal's or sweep's reason, its place."""
        unended = [run for run in sweep.runs if not run.state.ended and not sweep.recorded]
        if not unended:
            return {}
        with_job = self._workspace.supervisor.with_job
        if with_job is None:
            with_job = {run.run_id for run in unended if run.place and run.place.job}
        in_queue = not sweep.running and not any(run.run_id in with_job or run.waits for run in unended)
        place = self.place_in_words(sweep.sweep_id) if in_queue else ""

        def of(run: RunRecord) -> Iterator[str]:
            yield cancel_in_words([run]) if self.cancel_is_pending([run]) else ""
            yield from why_it_waits(run, sweep, has_job=run.run_id in with_job)
            yield place

        return {run.run_id: [*filter(None, of(run))] for run in unended}

    def cancel_is_pending(self, runs: Sequence[RunRecord]) -> bool:
        """Return True where a cancel was requested for every run that has not ended yet, and there is such a run."""
        unended = [run for run in runs if not run.state.ended]
        return bool(unended) and all(self._workspace.store.cancel_word(run.run_id) is not None for run in unended)

    def queue_place(self, sweep_id: str) -> QueuePlace | None:
        """Return the place of a sweep or probe in the queue of all visitors; None if it has started, or no run of it
        waits. The place tells number and time of earlier entries, not their owners."""
        self._workspace.rights.seen(sweep_id)
        supervisor, store = self._workspace.supervisor, self._workspace.store
        records, with_job = store.unended(), supervisor.with_job or ()
        running = [record for record in records if record.state is RunState.RUNNING]
        started = {record.request.sweep_id for record in records if record.run_id in with_job}
        at_work = {record.request.sweep_id for record in running}
        jobs = queue.waiting_jobs(records, store)
        mine = next((job for job in jobs if job.sweep_id == sweep_id), None)
        if mine is None or sweep_id in started | at_work:
            return None
        engine = mine.engine or supervisor.default
        there = [job for job in jobs if (job.engine or supervisor.default) == engine]
        waiting = [job for job in there if job.sweep_id not in at_work]
        running = [record for record in running if record.engine in ("", engine)]
        served = queue.served_at(store.records(), store, now=time.time())
        at_once = Counter(store.listed_ownership(record.run_id).owner for record in running)
        order = queue.in_turn(waiting, served, at_once)
        before = order[: order.index(mine)]
        trouble = self._workspace.why_not_write() or shown(self._workspace, supervisor.away.get(engine, ""))
        places = max(supervisor.places(engine), len(running))
        if len(running) + len(before) < places:
            return QueuePlace(ahead=0, seconds=Range(0.0, 0.0, 0.0), trouble=trouble)
        sweeps = {record.request.sweep_id: record for record in running}
        with acting_as(SERVER):
            queued = {record.run_id: record for record in records}
            times = [
                *map(self._left, sweeps.values()),
                *(self._time([queued[r] for r in job.run_ids]) for job in before),
            ]
        seconds = None if None in times else reduce(Range.plus, times).times(1 / places)
        return QueuePlace(ahead=len(sweeps) + len(before), seconds=seconds, trouble=trouble)

    def _left(self, record: RunRecord | ProbeRecord) -> Range | None:
        """Return the seconds until the sweep of a running run, or a probe, ends at the latest."""
        left = getattr(record.request, "time_limit_seconds", None)
        if left is None:
            left = self.progress(self._workspace.store.sweep(record.request.sweep_id)).seconds_left
        return None if left is None else Range(0.0, left, left)

    def _time(self, records: Sequence[RunRecord | ProbeRecord]) -> Range | None:
        """Return the expected seconds of a sweep's runs or a probe, within the server's limit; None if not known."""
        if hasattr(records[0].request, "time_limit_seconds"):
            return self._left(records[0])
        time, minutes = self.time_of_records(records), self._workspace.limits.run_minutes
        if time is None or minutes is None:
            return time and time.total
        most = 60.0 * minutes * len(records)
        return Range(*(min(each, most) for each in (time.total.low, time.total.expected, time.total.high)))

    # Whose it is, and what its owner may do.

    def is_mine(self, run_or_sweep_id: str) -> bool:
        """Return whether the current visitor may change a run or sweep; RunNotFoundError for a hidden one."""
        rights = self._workspace.rights
        return not self._ships(run_or_sweep_id) and all(
            rights.mine(record.run_id) for record in rights.seen(run_or_sweep_id)
        )

    def own_ids(self, name: str) -> list[str]:
        """Return the ids of the run, or of the sweep's runs, with this name. Raise NotYoursError or RunNotFoundError
        where the current visitor may not change or see them, InvalidSettingError where RankViz ships them."""
        if self._ships(name):
            raise InvalidSettingError(f"{name!r} ships with RankViz and cannot be changed. Train one of your own.")
        return [record.run_id for record in self._workspace.rights.required(name)]

    def _ships(self, name: str) -> bool:
        return name in self._shipped or name in self._shipped.values()

    def is_open(self, run_or_sweep_id: str) -> bool:
        """Return whether a run, or any run of a sweep, is shared with others."""
        records = self._workspace.rights.seen(run_or_sweep_id)
        return any(self._workspace.store.ownership(record.run_id).is_open for record in records)

    @writes("change_line")
    def open_to_all(self, run_or_sweep_id: str, is_open: bool) -> None:
        """Share a run or sweep of the current visitor with everybody who has its address, or stop sharing."""
        store = self._workspace.store
        with store.publishing():  # a run that comes meanwhile is as open as the others
            for run_id in self.own_ids(run_or_sweep_id):
                store.open_to_all(run_id, is_open)

    @writes("change_line")
    def delete(self, run_or_sweep_id: str) -> Sequence[str]:
        """Delete an ended run, probe or sweep of the current visitor, with adapters and log; return the deleted ids.
        Its copy of the data is deleted too, unless another run uses it."""
        unreadable = self.unreadable()
        run_ids = [run_or_sweep_id] if run_or_sweep_id in unreadable else self.own_ids(run_or_sweep_id)
        numbered = re.compile(re.escape(run_or_sweep_id) + r"-\d+-r\d+")
        run_ids += [name for name in unreadable if numbered.fullmatch(name)]  # the rest of the sweep
        remove(self._workspace.store, run_ids, ended=self._workspace.supervisor.unwritten)
        return run_ids

    @writes("change_line")
    def cancel(self, run_or_sweep_id: str) -> Sequence[str]:
        """Cancel a run or sweep of the current visitor: `Supervisor.cancel_runs` ends its processes. Return the ids of
        the cancelled runs once that is done."""
        run_ids, supervisor = self.own_ids(run_or_sweep_id), self._workspace.supervisor
        supervisor.cancel_runs(run_ids, by_admin=bool(self.owner_of(run_or_sweep_id)))
        unwritten = {run_id for run_id, end in supervisor.unwritten.items() if isinstance(end, RunCancelled)}
        store = self._workspace.store
        here = [each for each in run_ids if store.run_dir(each).is_dir()]  # some may have been deleted meanwhile
        return [each for each in here if each in unwritten or store.record(each).state == "cancelled"]

    @writes()
    def export(self, ids: Sequence[str], target: Path) -> Path:
        """Write a zip with the journals of runs and sweeps, recorded ones included, and a CSV summary."""
        run_ids: list[str] = []
        for name in dict.fromkeys(ids):
            shipped = [run_id for run_id, sweep_id in self._shipped.items() if name in (run_id, sweep_id)]
            run_ids += shipped or self.own_ids(name)
        stores = [self._recorded_store, self._workspace.store]
        if not self._workspace.shared:  # all journals are the host's own, and this process reads them for each list
            return export_runs(stores, run_ids, Path(target))
        request = {
            "homes": [str(store.home) for store in stores],
            "run_ids": run_ids,
            "target": str(Path(target).absolute()),
            "for_visitor": not self._workspace.visitor.admin,
        }
        with self._workspace.children.turn():
            self._workspace.children.ask("export", request, about="these runs", error=InvalidSettingError)
        return Path(target)

    def zip_of(self, ids: Sequence[str]) -> Path:
        """Return the path of an export to download."""
        return self._workspace.download("rankviz-runs.zip", lambda target: self.export(ids, target))

    @writes()
    def import_(self, source: Path) -> Sequence[str]:
        """Import a zip that `export` wrote; return the new runs' ids. Runs that RankViz ships are skipped."""
        owner, limits, children = self._workspace.rights.somebody(), self._workspace.limits, self._workspace.children
        source = self._workspace.references.file(source)
        if not source.is_file():
            raise InvalidSettingError(f"There is no file {quoted(str(source))}.")
        key, most_bytes = f"import {durable.digest_of(source)} {source.name}", limits.import_mb * 10**6
        request = {
            "home": str(self._workspace.home),
            "assets": str(self._workspace.assets.absolute()),
            "source": str(source),
            "owners": owner.ids,
            "strangers": [] if owner.admin else owner.ids,
            "limits": [
                most_bytes,
                limits.runs_per_import,
                limits.events_per_run,
                limits.values_per_import,
                limits.record_kb and limits.record_kb * 1000,
            ],
            "most": limits.runs_kept,
            "most_in_total": limits.runs_in_total,
        }
        with children.turn(key):
            self.quota.require_room(1)  # others may have come before
            self._workspace.references.file(source)  # and another import of it may have used it up
            with self._workspace.room.holding(0, up_to=most_bytes) as room:
                request["most_bytes"] = room
                reply = children.ask("import", request, about=source.name, error=InvalidSettingError, key=key)
            if refused := reply["refused"]:  # for what is here, which may change; so the failure is not remembered
                raise remade(refused["error"], refused["message"], otherwise=InvalidSettingError)
            self._workspace.temp.remove_upload(source, owner)
        with self._workspace.store.admission():
            self.quota.free_disk(besides=reply["run_ids"])
        return reply["run_ids"]

    # Publishing.

    def hub_login(self) -> str:
        """Return the token of this machine's own Hub login; empty if there is none, and always on a shared page."""
        from rankviz.jobs.hub import machine_token

        return "" if self._workspace.shared else machine_token()

    def is_own(self, name: str) -> bool:
        """Return whether the current visitor owns a run or sweep. Shared runs, and an admin's access, do not count."""
        if not self.is_mine(name):
            return False
        visitor, store = self._workspace.visitor, self._workspace.store
        owners = {store.ownership(record.run_id).owner for record in self._workspace.rights.seen(name)}
        return not self._workspace.shared or owners <= {*visitor.ids}

    def runs_to_publish(
        self, name: str, destination: Destination, token: Token | None, *, use_login: bool = False
    ) -> list[str]:
        """Return the ids of the runs that would be published. A RankVizError says why publishing is not possible."""
        destination.validate()
        self._workspace.rights.somebody()
        records = [self._workspace.store.get(run_id) for run_id in self.own_ids(name)]
        if not self.is_own(name):
            raise NotYoursError(name)
        finished = [record for record in records if record.completed]
        if not finished:
            raise InvalidSettingError("Nothing to publish: no run of it has finished.")
        if destination.to == DATASET and not all(record.state.ended for record in records):
            raise InvalidSettingError("This sweep has not ended: publish it when all its runs have.")
        if destination.to == ADAPTER:
            if len(finished) > 1:
                raise InvalidSettingError("An adapter is of one run: choose a run of this sweep.")
            run = finished[0]
            if not run.adapter_path or not self._workspace.store.path(run.run_id, run.adapter_path).is_dir():
                raise InvalidSettingError(f"Run {run.run_id!r} has no adapter here: none was saved or imported.")
        from rankviz.publish.files import hub_base

        hub_base(finished[0].request, destination.base_model)
        if destination.to == TRACKIO:
            installed.require("Trackio", "This")
            if not destination.space:
                if self._workspace.shared:
                    raise InvalidSettingError("This page is shared: give a Space of yours to send the runs to.")
                return [record.run_id for record in finished]
        if token:
            token.validate()
        elif self._workspace.shared:
            raise InvalidSettingError("Log in at Hugging Face, or give a token of yours with the right to write.")
        elif not use_login or not self.hub_login():
            raise InvalidSettingError("Give a Hugging Face token that may write, or use this machine's login.")
        return [record.run_id for record in finished]

    @writes()
    def publish(
        self, name: str, destination: Destination, token: Token | None = None, *, use_login: bool = False
    ) -> Publication:
        """Publish a run or sweep of the current visitor; return when that is done. token: None to use this machine's
        login (if use_login allows it), or where none is needed."""
        run_ids = self.runs_to_publish(name, destination, token, use_login=use_login)
        use_login = use_login and not self._workspace.shared
        secret = token.value if token else self.hub_login() if use_login else ""
        request = {
            "home": str(self._workspace.home),
            "assets": str(self._workspace.assets.absolute()),
            "shared": self._workspace.shared,
            "visitor": asdict(replace(self._workspace.visitor, login=None)),
            "name": name,
            "run_ids": run_ids,
            "destination": asdict(destination),
            "has_token": bool(secret),
            "use_login": use_login,
        }
        senders = self._workspace.senders
        with senders.turn():
            return Publication(**senders.ask("publish", request, about=name, error=PublishError, secret=secret))


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """The published repository or project. url: empty for Trackio here. updated: True where it existed before."""

    url: str
    updated: bool
    private: bool

    def in_words(self, destination: Destination) -> str:
        """Return one sentence that says where the runs were published."""
        if not self.url:
            return f"Sent to the Trackio project {destination.name} on this machine: run trackio show to look at it."
        seen = "private" if self.private else "public"
        return f"{'Updated' if self.updated else 'Published'} ({seen}): {self.url}"


RunEstimateJSON = shape(RunEstimate)


class AnswerJSON(TypedDict):
    """Answers to one held-out prompt before and after training; null where it was not answered."""

    example: int
    prompt: str
    reference: str
    before: str | None
    after: str | None


class StandingJSON(TypedDict):
    """Place and progress of one run. engine and where name the place where the run is, is to be, or was. attempt counts
    the attempts that began; waits says in sentences why the run waits."""

    run_id: str
    r: int
    state: str
    error: str | None
    engine: str | None
    where: str | None
    attempt: int
    waits: str | None
    device_seconds: float
    device_seconds_is_whole: bool


class ListedRunJSON(SummaryRow, StandingJSON):
    """One run: settings and measurements, flat, with the estimate. Losses are nats per token; unknown values are null.
    Folders are given only where the page is not shared: `adapter_folder` as PEFT loads it, if it is there."""

    folder: str | None
    adapter_folder: str | None
    estimate: RunEstimateJSON | None


class RunJSON(ListedRunJSON):
    """One run with its answers to held-out prompts."""

    answers: list[AnswerJSON]
