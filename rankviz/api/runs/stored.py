"""Runs and sweeps as they are stored: listed, read, summed up, exported and imported; and the sample data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

from rankviz.api.workspace import Workspace, in_turn, writes
from rankviz.core.bounds import name_alone, without_places
from rankviz.core.from_json import shape
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.fast_curve import CurvePoint
from rankviz.core.runs.record import HeldOutAnswer, RunRecord
from rankviz.core.runs.run_time import DeviceTime
from rankviz.core.runs.words import Place
from rankviz.errors import InvalidSettingError, RunNotFoundError, quoted
from rankviz.shared.quota import Quota
from rankviz.shared.rights import shown
from rankviz.store.transfer import SummaryRow, summary_row

if TYPE_CHECKING:
    from rankviz.core.runs.events import RunEvent, RunFailed
    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.record import RunRecord, Sweep
    from rankviz.dataset import Preview, Sample
    from rankviz.shared.rights import Rights
    from rankviz.store import RunStore

Failed = TypeVar("Failed", "RunRecord", "RunFailed")
SHORT_OWNER = 8
"""Characters of a visitor's id: enough to tell visitors apart in a list."""


class StoredRuns:
    """The runs of one folder, as far as whoever asks may see them, and those that RankViz ships."""

    def __init__(self, workspace: Workspace, quota: Quota):
        self._workspace = workspace
        self._quota = quota

    def samples(self) -> Sequence[Sample]:
        """The sample data that RankViz ships."""
        from rankviz import dataset

        return dataset.samples(self._workspace.assets)

    def preview(self, data: str) -> Preview:
        """The first rows of a sample or a file, with counts; BadDataError names a bad row."""
        return self._workspace.data_files.look(self._workspace.references.data(data).text).preview

    def sweeps(self) -> Sequence[Sweep]:
        """All sweeps of whoever asks, the newest first."""
        from rankviz.store.runs import group

        own = self._workspace.rights.own(self._workspace.store.all())
        if not self._workspace.visitor.admin:
            own = [shown(self._workspace, record) for record in own]
        return group(own)[::-1]

    def reading(self) -> str:
        """Say how much has been read of the runs folder, or of what is new there, as a sentence; empty once that is
        all."""
        if (reading := self._workspace.store.reading) is None:
            return ""
        return f"The runs folder is being read: {reading.done:,} of {reading.total:,} runs so far."

    def made(self) -> Sequence[Sweep]:
        """The sweeps that whoever asks made, the newest first. The admin of a shared page may change those of all."""
        return [sweep for sweep in self.sweeps() if not self.owner_of(sweep.runs[0].run_id)]

    def owner_of(self, run_or_sweep_id: str) -> str:
        """Whose it is, short, for the admin of a shared page; empty of what whoever asks made or RankViz ships."""
        if not (self._workspace.shared and self._workspace.visitor.admin) or self._ships(run_or_sweep_id):
            return ""
        store, visitor = self._workspace.store, self._workspace.visitor
        is_run = store.run_dir(run_or_sweep_id).is_dir()  # at once, since a list asks for each
        run_ids = [run_or_sweep_id] if is_run else [run.run_id for run in self._rights.seen(run_or_sweep_id)]
        others = {store.ownership(run_id).owner for run_id in run_ids} - {*visitor.ids}
        return next((f"visitor {owner[:SHORT_OWNER]}" if owner else "the host" for owner in sorted(others)), "")

    def unreadable(self) -> Mapping[str, str]:
        """Folders in the place of runs that cannot be read, by name, with the reason of each."""
        unreadable, mine = self._workspace.store.unreadable(), self._workspace.rights.mine
        return {name: reason for name, reason in unreadable.items() if mine(name)}

    def sweep(self, sweep_id: str) -> Sweep:
        """One sweep, recorded ones among them, and those that others opened."""
        if sweep_id in self._recorded_sweep_ids:
            return next(sweep for sweep in self.recorded() if sweep.sweep_id == sweep_id)
        sweep = self._workspace.store.sweep(sweep_id)
        if not (runs := self._workspace.rights.visible(sweep.runs)):
            raise RunNotFoundError(sweep_id)
        return replace(sweep, runs=tuple(map(self._shown, runs)))

    def is_sweep(self, run_or_sweep_id: str) -> bool:
        """Tell whether this is a sweep's id; RunNotFoundError where it is neither a sweep's nor a run's. A run is
        looked for first: for a sweep, the requests of all runs may be searched."""
        try:
            self.get(run_or_sweep_id)
        except RunNotFoundError:
            self.sweep(run_or_sweep_id)
            return True
        return False

    def get(self, run_id: str) -> RunRecord:
        """One run, recorded ones among them, and those that others opened."""
        if self._is_recorded(run_id):
            return self._recorded_store.get(run_id)
        record = self._workspace.store.get(run_id)
        self._workspace.rights.require_sight(run_id)
        return self._shown(record)

    def _shown(self, record: RunRecord) -> RunRecord:
        """As whoever asks may read it: what a program wrote about a failure names places of its machine, and answers
        quote the data, which are only for the owner of the run."""
        record = shown(self._workspace, record)
        if self._workspace.rights.mine(record.run_id):
            return record
        return replace(_without_places(record), answered_before=None, answered_after=None)

    def folder(self, run_id: str) -> Path | None:
        """The folder of a run on this machine; None on a shared page, and of a run that RankViz ships."""
        if self._workspace.shared or self._is_recorded(run_id):
            return None
        return self._workspace.store.run_dir(run_id)

    def recorded(self) -> Sequence[Sweep]:
        """The sweeps that RankViz ships."""
        return self._recorded

    @cached_property
    def _recorded(self) -> Sequence[Sweep]:
        from rankviz import store

        return store.recorded(self._workspace.assets)

    @cached_property
    def _recorded_store(self) -> RunStore:
        from rankviz.store import RunStore

        return RunStore(self._workspace.assets / "recorded")

    def _is_recorded(self, run_id: str) -> bool:
        return run_id in self._recorded_ids

    @cached_property
    def _recorded_ids(self) -> Set[str]:
        """Ids of the recorded runs. None is read for that: most often one's own are meant."""
        return frozenset(folder.name for folder in self._recorded_store.runs_dir.glob("*"))

    @cached_property
    def _recorded_sweep_ids(self) -> Set[str]:
        return frozenset(run_id.rsplit("-", 2)[0] for run_id in self._recorded_ids)

    def events(self, run_id: str) -> Sequence[RunEvent]:
        """What happened last in a run, in order, without its steps."""
        if self._is_recorded(run_id):
            return self._recorded_store.latest(run_id)
        self.get(run_id)
        events = [shown(self._workspace, event) for event in self._workspace.store.latest(run_id)]
        if self._workspace.rights.mine(run_id):
            return events
        from rankviz.core.runs.events import Answered, RunFailed

        events = [event for event in events if not isinstance(event, Answered)]
        return [_without_places(event) if isinstance(event, RunFailed) else event for event in events]

    def fast_curves(self, sweep_id: str) -> Sequence[FastCurve]:
        """The fast curves of a sweep, the best first; none of an ordinary sweep."""
        from rankviz.core.runs.fast_curve import fast_curves

        return fast_curves(self.sweep(sweep_id).runs)

    @writes
    def export(self, ids: Sequence[str], target: Path) -> Path:
        """Write the journals of runs and sweeps, recorded ones among them, and a CSV summary into one zip."""
        shipped = {sweep.sweep_id: [run.run_id for run in sweep.runs] for sweep in self._recorded}
        shipped |= {run_id: [run_id] for run_ids in shipped.values() for run_id in run_ids}
        names = dict.fromkeys(ids)  # each is looked up once, however often it comes
        run_ids = [run_id for name in names for run_id in shipped.get(name) or self._required_run_ids(name)]
        homes = [str(self._recorded_store.home), str(self._workspace.store.home)]
        request = {
            "homes": homes,
            "run_ids": run_ids,
            "target": str(Path(target).absolute()),
            "for_visitor": not self._workspace.visitor.admin,
        }
        children = self._workspace.children
        with children.turn():
            children.ask("export", request, about="these runs", error=InvalidSettingError)
        return Path(target)

    def zip_of(self, ids: Sequence[str]) -> Path:
        """The same as a file to download."""
        return self._workspace.download("rankviz-runs.zip", lambda target: self.export(ids, target))

    @writes
    def import_(self, source: Path) -> Sequence[str]:
        """Read a zip that export_runs wrote; returns the ids of its runs, without those that RankViz ships."""
        from rankviz.children import remade
        from rankviz.store.transfer import USUAL_RATIO

        owner, limits, children = self._workspace.rights.somebody(), self._workspace.limits, self._workspace.children
        key = _key(source := self._workspace.references.file(source))
        asking = {"about": source.name, "error": InvalidSettingError, "key": key}
        request = {
            "home": str(self._workspace.home),
            "assets": str(self._workspace.assets.absolute()),
            "source": str(source),
            "owners": owner.ids,
            "strangers": [] if owner.admin else owner.ids,
            "limits": [
                limits.import_mb * 10**6,
                limits.runs_per_import,
                limits.events_per_run,
                limits.values_per_import,
                limits.record_kb and limits.record_kb * 1000,
            ],
            "most": limits.runs_kept,
            "most_in_total": limits.runs_in_total,
        }
        with children.turn(key):
            self._quota.require_room(1)  # others may have come before
            self._workspace.references.file(source)  # and another import of it may have used it up
            reply = self._workspace.room.given(
                min(USUAL_RATIO * source.stat().st_size, limits.import_mb * 10**6),
                lambda most: children.ask("import", request | {"most_bytes": most}, **asking),
            )
            if not (refused := reply["refused"]):
                self._workspace.temp.remove_upload(source, owner)
        if refused:  # for what is here, which may change; so it is no failure to be remembered
            raise remade(refused["error"], refused["message"], otherwise=InvalidSettingError)
        self._quota.free_disk(besides=reply["run_ids"])
        return reply["run_ids"]

    def is_mine(self, run_or_sweep_id: str) -> bool:
        """Tell whether the current visitor may change it. RunNotFoundError where they may not even see it."""
        if self._ships(run_or_sweep_id):
            return False
        rights = self._rights
        return all(rights.mine(record.run_id) for record in rights.seen(run_or_sweep_id))

    def require_mine(self, run_or_sweep_id: str) -> None:
        """NotYoursError or RunNotFoundError where whoever asks may not change it; InvalidSettingError of what ships."""
        self._required_run_ids(run_or_sweep_id)

    def is_open(self, run_or_sweep_id: str) -> bool:
        """Tell whether others may look at some of it, by its address."""
        records = self._workspace.rights.seen(run_or_sweep_id)
        return any(self._workspace.store.ownership(record.run_id).is_open for record in records)

    @in_turn("changes")
    @writes
    def open_to_all(self, run_or_sweep_id: str, is_open: bool) -> None:
        """Let others look at a run or a sweep of one's own by its address, or no longer."""
        store = self._workspace.store
        with store.publishing():  # a run that comes meanwhile is as open as the others
            for run_id in self._required_run_ids(run_or_sweep_id):
                store.open_to_all(run_id, is_open)

    @in_turn("changes")
    @writes
    def delete(self, run_or_sweep_id: str) -> Sequence[str]:
        """Delete a run, a probe or a sweep of one's own that has ended, with its adapters and log; returns what is
        gone. The copy of its data goes too, unless another run has it."""
        from rankviz.store.removal import remove

        lone = run_or_sweep_id in self.unreadable()
        run_ids = [run_or_sweep_id] if lone else self._required_run_ids(run_or_sweep_id)
        numbered = re.compile(re.escape(run_or_sweep_id) + r"-\d+-r\d+")
        run_ids += [name for name in self.unreadable() if numbered.fullmatch(name)]  # the rest of the sweep
        remove(self._workspace.store, run_ids, ended=self._workspace.supervisor.unwritten)
        return run_ids

    @property
    def _rights(self) -> Rights:
        return self._workspace.rights

    def _ships(self, name: str) -> bool:
        """Tell whether a run or a sweep of this name is a recorded one."""
        return self._is_recorded(name) or name in self._recorded_sweep_ids

    def _required_run_ids(self, name: str) -> list[str]:
        """Of what whoever asks may change; NotYoursError or RunNotFoundError where they may not."""
        if self._ships(name):
            raise InvalidSettingError(f"{name!r} ships with RankViz and cannot be changed.")
        return [record.run_id for record in self._workspace.rights.required(name)]


def _without_places(failed: Failed) -> Failed:
    return replace(failed, log_tail="", error=without_places(failed.error))


def _key(source: Path) -> str:
    """Key of a zip's name and content; empty of one that is too large, which is refused before it is read."""
    from rankviz.store.durable import digest_of
    from rankviz.store.transfer import MAX_ARCHIVE_BYTES

    if not source.is_file():  # said with the path as it was given
        raise InvalidSettingError(f"There is no file {quoted(str(source))}.")
    return "" if source.stat().st_size > MAX_ARCHIVE_BYTES else f"import {digest_of(source)} {source.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """A run, and the estimate beside it."""

    record: RunRecord
    estimate: RunEstimate | None
    """None where its base model is not available."""
    device_time: DeviceTime
    """Of all its attempts until now."""
    place: Place
    """Where it is, is to be, or was."""
    folder: Path | None = None
    """Of the run: its request, journal, log and adapter. None on a shared page, whose visitors see no path of its
    machine, and of a run that RankViz ships."""

    @property
    def adapter_folder(self) -> Path | None:
        """Folder of the trained adapter, as PEFT loads it; None where there is none, or no folder to show."""
        adapter = self.folder / self.record.adapter_path if self.folder and self.record.adapter_path else None
        return adapter if adapter and adapter.is_dir() else None


RunEstimateJSON = shape(RunEstimate)


class AnswerJSON(TypedDict):
    """One held-out prompt; before and after training are null where it was not answered."""

    example: int
    prompt: str
    reference: str
    before: str | None
    after: str | None


class ListedRunJSON(SummaryRow):
    """One run: what was asked of it and what was measured, flat, with the estimate beside it. Losses are nats a token,
    null is not known. Folders are those of an own machine."""

    error: str | None
    engine: str | None
    where: str | None
    attempt: int
    waits: str | None
    device_seconds: float
    device_seconds_is_whole: bool
    folder: str | None
    adapter_folder: str | None
    estimate: RunEstimateJSON | None


class RunJSON(ListedRunJSON):
    """One run with its answers to prompts."""

    answers: list[AnswerJSON]


class CurvePointJSON(shape(CurvePoint)):
    """One rank of a fast curve."""

    run_id: str


def run_json(summary: RunSummary) -> RunJSON:
    """What was requested and measured, flat, with the estimate and the answers beside it."""
    return {**listed_run_json(summary), "answers": [_answer_json(each) for each in summary.record.answers]}


def listed_run_json(summary: RunSummary) -> ListedRunJSON:
    """The JSON of a run without its answers, which are long and stand in the journals."""
    row = summary_row(summary.record)
    if summary.folder is None:  # no path of this machine is for who reads this
        row |= {"base": name_alone(row["base"]), "data": name_alone(row["data"])}
    return {
        **row,
        "error": summary.record.error or None,
        "engine": summary.place.engine or None,
        "where": summary.place.where or None,
        "attempt": summary.record.shown_attempt,
        "waits": summary.record.waits or None,
        "device_seconds": summary.device_time.seconds,
        "device_seconds_is_whole": summary.device_time.is_whole,
        "folder": summary.folder and str(summary.folder),
        "adapter_folder": summary.adapter_folder and str(summary.adapter_folder),
        "estimate": asdict(summary.estimate) if summary.estimate else None,
    }


def _answer_json(answer: HeldOutAnswer) -> AnswerJSON:
    return {
        "example": answer.place,
        "prompt": answer.prompt,
        "reference": answer.reference,
        "before": answer.before and answer.before.text,
        "after": answer.after and answer.after.text,
    }


def curve_points_json(curves: Iterable[FastCurve]) -> Sequence[CurvePointJSON]:
    """The points of fast curves, the lowest rank of each first."""
    return [{"run_id": curve.run_id, **point._asdict()} for curve in curves for point in curve.points]
