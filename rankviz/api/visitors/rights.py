"""Who may see a run, a sweep or a probe, and who may change it.

One's own are listed and may be changed. What its owner opened can be looked at by whoever has its address. The admin,
and whoever uses RankViz on their own machine, may everything. What may not be seen is answered as what isn't there.
Recorded sweeps are everybody's to look at and are no part of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from rankviz.errors import InvalidSettingError, NotYoursError, RunNotFoundError, StorageError
from rankviz.machine import disk
from rankviz.visitor import Visitor

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.core.probe.record import ProbeRecord
    from rankviz.core.runs.record import RunRecord
    from rankviz.store.cookie_key import CookieKey

Kept = TypeVar("Kept", "RunRecord", "ProbeRecord", "RunRecord | ProbeRecord")


class Rights:
    """Of whoever asks (Workspace.visitor), over one runs folder."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    @cached_property
    def key(self) -> CookieKey:
        """By which the visitors of a shared page are known again."""
        from rankviz.store.cookie_key import CookieKey

        given = self._workspace.settings.cookie_key
        return CookieKey(self._workspace.home, given.get_secret_value() if given else "")

    def why_unknown_later(self) -> str:
        """Why visitors of a shared page would not be known again at its next start, so that nothing can be theirs, as a
        sentence; empty where they would."""
        if not self._workspace.shared or self.key.is_kept():
            return ""
        return self._workspace.why_not_write() or self._workspace.of_disk(disk.NO_KEY_SENTENCE)

    def somebody(self) -> Visitor:
        """Who asks, to whom things may belong; InvalidSettingError where that is not known, StorageError where it would
        not be known later."""
        visitor = self._workspace.visitor
        if visitor.is_nobody:
            raise InvalidSettingError(
                "This page cannot tell you from other visitors, so it keeps nothing for you. Allow its cookie and "
                "reload the page; a program sends the header X-RankViz-Visitor, whose value it gets from "
                "/rankviz/visitor; that of a login ends with it."
            )
        if not visitor.is_host and (why := self.why_unknown_later()):
            raise StorageError(why)
        return visitor

    def mine(self, run_id: str) -> bool:
        """Whether this visitor may change it."""
        visitor = self._workspace.visitor
        return visitor.admin or visitor.owns(self._workspace.store.ownership(run_id).owner)

    def named(self, run_ids: Iterable[str]) -> tuple[str, ...]:
        """Ids of runs and probes that an answer rests on, each empty that is not this visitor's: times and memory of
        everybody's are used, and only one's own are named."""
        return tuple(run_id if self.mine(run_id) else "" for run_id in run_ids)

    def may_see(self, run_id: str) -> bool:
        """Also what its owner opened."""
        return self.mine(run_id) or self._workspace.store.ownership(run_id).is_open

    def own(self, records: Iterable[Kept]) -> list[Kept]:
        """Those of this visitor, in their order: what lists, charts and choices are made of."""
        visitor, store = self._workspace.visitor, self._workspace.store
        if visitor.admin:
            return list(records)
        return [record for record in records if visitor.owns(store.listed_ownership(record.run_id).owner)]

    def made_by_visitor(self, records: Iterable[Kept]) -> list[Kept]:
        """Those that this very visitor made, also where they are the admin and may change all."""
        return [record for record in records if self.made(record.run_id)]

    def made(self, run_id: str) -> bool:
        """Whether this very visitor made it."""
        return self._workspace.store.listed_ownership(run_id).owner in self._workspace.visitor.ids

    def require_sight(self, run_id: str) -> None:
        """RunNotFoundError where this visitor may not know of it."""
        if not self.may_see(run_id):
            raise RunNotFoundError(run_id)

    def seen(self, run_or_sweep_id: str) -> Sequence[RunRecord | ProbeRecord]:
        """The run or the probe, or the runs of the sweep, as far as this visitor may see them. Of a name that belongs
        to several people, one's own are meant."""
        visible = self.visible(self._workspace.store.named(run_or_sweep_id))
        if not visible:
            raise RunNotFoundError(run_or_sweep_id)
        return [record for record in visible if record.run_id == run_or_sweep_id] or visible

    def visible(self, records: Iterable[Kept]) -> list[Kept]:
        """Those that this visitor may see; one's own alone where some of them are."""
        seen = [record for record in records if self.may_see(record.run_id)]
        return self.own(seen) or seen

    def required(self, run_or_sweep_id: str) -> Sequence[RunRecord | ProbeRecord]:
        """The same where it may be changed; NotYoursError where it may only be seen."""
        records = self.seen(run_or_sweep_id)
        if not all(self.mine(record.run_id) for record in records):
            raise NotYoursError(run_or_sweep_id)
        return records

    def require(self, run_id: str) -> None:
        """RunNotFoundError or NotYoursError where this visitor may not change, export or resize it."""
        self.require_sight(run_id)
        if not self.mine(run_id):
            raise NotYoursError(run_id)
