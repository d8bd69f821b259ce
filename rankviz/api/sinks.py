"""Publishing of a visitor's own finished runs: to the Hub as a dataset or an adapter, or to Trackio."""

from __future__ import annotations

import contextvars
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

from rankviz import installed, verdict
from rankviz.api.workspace import Operations, writes
from rankviz.errors import BusyError, InvalidSettingError, LimitError, NotYoursError, PublishError, RankVizError
from rankviz.jobs.hub import machine_token
from rankviz.publish import ADAPTER, DATASET, TRACKIO, Destination, RunFacts, SweepFacts, Token
from rankviz.publish.files import hub_base

if TYPE_CHECKING:
    from rankviz.api import Api
    from rankviz.core.runs.record import RunRecord

NOTHING_FINISHED = "Nothing to publish: no run of it has finished."
KEPT_SENDINGS = 256
"""Number of publications of all visitors that are remembered, so that a reopened page can show the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """The published repository or project."""

    url: str
    """Empty for Trackio on this machine."""
    updated: bool
    """True where the repository or project existed before."""
    private: bool

    def in_words(self, destination: Destination) -> str:
        """Return one sentence on the result."""
        if destination.to == TRACKIO and not destination.space:
            return f"Sent to the Trackio project {destination.name} on this machine: run trackio show to look at it."
        seen = "private" if self.private else "public"
        return f"{'Updated' if self.updated else 'Published'} ({seen}): {self.url}"


@dataclass(slots=True)
class Sending:
    """A publication that is running or has ended."""

    destination: Destination
    stage_file: Path | None = None
    began_at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    result: Publication | None = None
    error: str = ""

    @property
    def stage(self) -> str:
        """Name of the current step."""
        try:
            return self.stage_file.read_text(encoding="utf-8") if self.stage_file else "waiting"
        except OSError:
            return "starting"

    @property
    def seconds(self) -> float:
        """Seconds since the start, until the end or now."""
        return (self.ended_at or time.monotonic()) - self.began_at


class Sinks(Operations):
    """Publishing of the current visitor's own runs. A token is passed to one process and stored nowhere."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._sendings: OrderedDict[tuple[str, str], Sending] = OrderedDict()
        self._lock = Lock()

    def offered(self) -> Sequence[str]:
        """Return the kinds of destinations that can be published to."""
        return (DATASET, ADAPTER, *((TRACKIO,) if installed.has_trackio() else ()))

    def has_login(self) -> bool:
        """Return whether this machine's own Hub login may be used; never on a shared page."""
        return bool(self._login())

    def _login(self) -> str:
        """Return the token of this machine's own Hub login; empty if there is none or it may not be used."""
        if self._workspace.shared:
            return ""
        return machine_token()

    def check(self, name: str, destination: Destination, token: Token | None, *, use_login: bool = False) -> list[str]:
        """Return the ids of the runs that would be published. A RankVizError says why publishing is not possible."""
        destination.validate()
        self._workspace.rights.somebody()
        records = [self._workspace.store.get(run_id) for run_id in self._api.runs.own_ids(name)]
        if not self.is_own(name):
            raise NotYoursError(name)
        finished = [record for record in records if record.completed]
        if not finished:
            raise InvalidSettingError(NOTHING_FINISHED)
        if destination.to == DATASET and not all(record.state.ended for record in records):
            raise InvalidSettingError("This sweep has not ended: publish it when all its runs have.")
        if destination.to == ADAPTER:
            self._require_adapter(finished)
        for record in finished:
            hub_base(record.request, destination.base_model)
        self._require_token(destination, token, use_login)
        return [record.run_id for record in finished]

    @writes()
    def publish(
        self,
        name: str,
        destination: Destination,
        token: Token | None = None,
        *,
        use_login: bool = False,
        on_start: Callable[[Path], None] = lambda stage_file: None,
    ) -> Publication:
        """Publish a run or sweep of the current visitor; return when that is done.

        token: None to use this machine's login (if use_login allows it), or where none is needed.
        on_start: called with the file in which the current step is written.
        """
        run_ids = self.check(name, destination, token, use_login=use_login)
        secret = token.value if token else self._login() if use_login else ""
        visitor, senders = self._workspace.visitor, self._workspace.senders
        with senders.turn(), self._workspace.work() as folder:
            stage_file = folder / "stage"
            on_start(stage_file)
            request = {
                "home": str(self._workspace.home),
                "assets": str(self._workspace.assets.absolute()),
                "shared": self._workspace.shared,
                "visitor": asdict(replace(visitor, login=None)),
                "name": name,
                "run_ids": run_ids,
                "destination": asdict(destination),
                "stage_file": str(stage_file),
                "has_token": bool(secret),
                "use_login": use_login and not self._workspace.shared,
            }
            return Publication(**senders.ask("publish", request, about=name, error=PublishError, secret=secret))

    def start(
        self, name: str, destination: Destination, token: Token | None = None, *, use_login: bool = False
    ) -> Sending:
        """Publish in the background; `sending` returns the progress. Errors known before the start are raised."""
        self.check(name, destination, token, use_login=use_login)
        key = (self._workspace.visitor.id, name)
        with self._lock:
            if (now := self.sending(name)) and now.ended_at is None:
                raise LimitError("This is being published already: wait until it has ended.")
            sending = self._sendings[key] = Sending(destination)
            self._sendings.move_to_end(key)
            while len(self._sendings) > KEPT_SENDINGS:
                self._sendings.popitem(last=False)

        def send() -> None:
            def on_start(stage_file: Path) -> None:
                sending.stage_file = stage_file

            try:
                sending.result = self.publish(name, destination, token, use_login=use_login, on_start=on_start)
            except RankVizError as error:
                sending.error = str(error)
            finally:
                sending.error = sending.error or ("" if sending.result else "Publishing failed.")
                sending.ended_at = time.monotonic()

        Thread(target=contextvars.copy_context().run, args=(send,), name="publishing", daemon=True).start()
        return sending

    def sending(self, name: str) -> Sending | None:
        """Return the visitor's last publication of a run or sweep; None without one since the server started."""
        of_theirs = (self._sendings.get((owner, name)) for owner in self._workspace.visitor.ids)
        return max(filter(None, of_theirs), key=lambda sending: sending.began_at, default=None)

    def is_own(self, name: str) -> bool:
        """Return whether the current visitor owns a run or sweep. Shared runs, and an admin's access, do not count."""
        if not self._api.runs.is_mine(name):
            return False
        visitor, store = self._workspace.visitor, self._workspace.store
        owners = {store.ownership(record.run_id).owner for record in self._workspace.rights.seen(name)}
        return not self._workspace.shared or owners <= {*visitor.ids}

    def _require_adapter(self, finished: Sequence[RunRecord]) -> None:
        if len(finished) > 1:
            raise InvalidSettingError("An adapter is of one run: choose a run of this sweep.")
        (record,) = finished
        folder = record.adapter_path and self._workspace.store.path(record.run_id, record.adapter_path)
        if not folder or not folder.is_dir():
            raise InvalidSettingError(
                f"Run {record.run_id!r} has no adapter here: none was saved, or it was imported without it."
            )

    def _require_token(self, destination: Destination, token: Token | None, use_login: bool) -> None:
        if destination.to == TRACKIO:
            from rankviz import installed

            installed.require_trackio()
            if self._workspace.shared and not destination.space:
                raise InvalidSettingError("This page is shared: give a Space of yours to send the runs to.")
        if not destination.needs_token:
            return
        if token is not None:
            return token.validate()
        if self._workspace.shared:
            raise InvalidSettingError("Log in at Hugging Face, or give a token of yours with the right to write.")
        if not use_login or not self.has_login():
            raise InvalidSettingError(
                "Give a Hugging Face token with the right to write, or use this machine's login: hf auth login makes "
                "one."
            )


def facts_of(api: Api, name: str, run_ids: Sequence[str], destination: Destination) -> SweepFacts:
    """Return the facts about these runs that are published."""
    records = [api.runs.get(run_id) for run_id in run_ids]
    sweep_id = records[0].request.sweep_id
    try:
        judged = api.verdicts.of_sweep(sweep_id)
    except BusyError:  # nothing is published yet, so it can wait for its verdict
        raise
    except LimitError:  # there will be none here
        judged = None
    compares = judged is not None and len(judged.verdict.ranks) > 1
    sweep = api.runs.sweep(sweep_id)
    spent = api.spending.of_sweep(sweep)
    return SweepFacts(
        id=name,
        sweep_id=sweep_id,
        runs=[
            RunFacts(
                record=record,
                base_model=hub_base(record.request, destination.base_model),
                estimate=api.runs.expected_run(record),
            )
            for record in records
        ],
        verdict=verdict.sentences(judged.verdict) if compares else (),
        all_runs=sweep.runs,
        time=spent.time,
        rent=spent.rent and replace(spent.rent, limit_usd=None),
    )
