"""Publishing of a visitor's own finished runs: to the Hub as a dataset or an adapter, or to Trackio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from rankviz import installed, verdict
from rankviz.api.workspace import Operations, writes
from rankviz.errors import BusyError, InvalidSettingError, LimitError, NotYoursError, PublishError
from rankviz.jobs.hub import machine_token
from rankviz.publish import ADAPTER, DATASET, TRACKIO, Destination, Token
from rankviz.publish.files import SweepFacts, hub_base

if TYPE_CHECKING:
    from rankviz.api import Api


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """The published repository or project. url: empty for Trackio on this machine. updated: True where it existed
    before."""

    url: str
    updated: bool
    private: bool

    def in_words(self, destination: Destination) -> str:
        """Return one sentence on the result."""
        if not self.url:
            return f"Sent to the Trackio project {destination.name} on this machine: run trackio show to look at it."
        seen = "private" if self.private else "public"
        return f"{'Updated' if self.updated else 'Published'} ({seen}): {self.url}"


class Sinks(Operations):
    """Publishing of the current visitor's own runs. A token is passed to one process and stored nowhere."""

    def offered(self) -> Sequence[str]:
        """Return the kinds of destinations that can be published to."""
        return (DATASET, ADAPTER, *((TRACKIO,) if installed.has("trackio") else ()))

    def login(self) -> str:
        """Return the token of this machine's own Hub login; empty if there is none, and always on a shared page."""
        return "" if self._workspace.shared else machine_token()

    def is_own(self, name: str) -> bool:
        """Return whether the current visitor owns a run or sweep. Shared runs, and an admin's access, do not count."""
        if not self._api.runs.is_mine(name):
            return False
        visitor, store = self._workspace.visitor, self._workspace.store
        owners = {store.ownership(record.run_id).owner for record in self._workspace.rights.seen(name)}
        return not self._workspace.shared or owners <= {*visitor.ids}

    def check(self, name: str, destination: Destination, token: Token | None, *, use_login: bool = False) -> list[str]:
        """Return the ids of the runs that would be published. A RankVizError says why publishing is not possible."""
        destination.validate()
        self._workspace.rights.somebody()
        records = [self._workspace.store.get(run_id) for run_id in self._api.runs.own_ids(name)]
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
                raise InvalidSettingError(
                    f"Run {run.run_id!r} has no adapter here: none was saved, or it was imported without it."
                )
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
        elif not use_login or not self.login():
            raise InvalidSettingError(
                "Give a Hugging Face token with the right to write, or use this machine's login: hf auth login makes "
                "one."
            )
        return [record.run_id for record in finished]

    @writes()
    def publish(
        self, name: str, destination: Destination, token: Token | None = None, *, use_login: bool = False
    ) -> Publication:
        """Publish a run or sweep of the current visitor; return when that is done. token: None to use this machine's
        login (if use_login allows it), or where none is needed."""
        run_ids = self.check(name, destination, token, use_login=use_login)
        use_login = use_login and not self._workspace.shared
        secret = token.value if token else self.login() if use_login else ""
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


def facts_of(api: Api, run_ids: Sequence[str], destination: Destination) -> SweepFacts:
    """Return the facts about these runs of one sweep that are published."""
    records = [api.runs.get(run_id) for run_id in run_ids]
    sweep = api.runs.sweep(records[0].request.sweep_id)
    try:
        judged = api.verdicts.of_sweep(sweep.sweep_id)
    except BusyError:  # nothing is published yet, so it can wait for its verdict
        raise
    except LimitError:  # there will be none here
        judged = None
    spent = api.spending.of_sweep(sweep)
    return SweepFacts(
        sweep_id=sweep.sweep_id,
        base_model=hub_base(records[0].request, destination.base_model),
        runs=records,
        estimates={record.run_id: api.runs.expected_run(record) for record in records},
        verdict=verdict.sentences(judged) if judged and len(judged.ranks) > 1 else (),
        all_runs=sweep.runs,
        time=spent.time,
        rent=spent.rent and replace(spent.rent, limit_usd=None),
    )
