"""A sweep that goes on: its failed and cancelled runs again, or one run more, where it was or on another engine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from rankviz.api.engines import Engines, Plan
from rankviz.api.jobs import Jobs
from rankviz.api.runs.machines import Machines
from rankviz.api.runs.runs import Runs
from rankviz.api.runs.spending import Spending
from rankviz.api.workspace import Workspace
from rankviz.core.runs.events import HF_JOBS
from rankviz.errors import InvalidSettingError
from rankviz.store.ownership import Destination

if TYPE_CHECKING:
    from rankviz.core.cost.setup import Device
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest

NOT_THE_PAYER = "The jobs of this sweep are paid by its owner, who alone can start another one."


class Moves:
    """Of whoever asks.

    Everywhere: `engine` is the name of one, empty for where the sweep is; flavor and spend are machine and spending
    limit in US dollars where one is rented, as the sweep has them, or else the settings, where they are not given. The
    limit is that of all jobs of the sweep together, those before this one included.
    """

    def __init__(self, workspace: Workspace, runs: Runs, jobs: Jobs, engines: Engines, spending: Spending):
        self._runs, self._jobs, self._engines, self._spending = runs, jobs, engines, spending
        self._machines = Machines(workspace)

    def destination(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> Destination:
        """Where its runs would go on."""
        self._runs.require_mine(sweep_id)
        sweep = self._runs.sweep(sweep_id)
        now = self._machines.destination(sweep)
        name = self._engines.name(engine or now.engine, flavor, spend)
        if name != HF_JOBS:
            return Destination(name if engine else now.engine)
        known = now.options if self._engines.name(now.engine) == HF_JOBS else {}
        spend = self._spending.limit(sweep) if spend is None else spend
        return Destination(HF_JOBS, self._jobs.options(flavor or known.get("flavor", ""), spend))

    def check(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """What the failed and cancelled runs of a sweep take there. A RankVizError says what to change where they
        cannot go on there."""
        there = self._there(sweep_id, engine, flavor, spend)
        return self._plan(self._runs.sweep(sweep_id), self._runs.resumed_requests(sweep_id), there)

    def resume(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> Sequence[str]:
        """Queue them there; completed runs stay. Returns their ids."""
        there = self._there(sweep_id, engine, flavor, spend)
        plan = self._plan(self._runs.sweep(sweep_id), self._runs.resumed_requests(sweep_id), there)
        if plan.offer:  # first: a job may start as soon as they are queued
            self._jobs.note_limit(sweep_id, plan.offer)
        return self._runs.resume(sweep_id, there, self._device(plan))

    def check_added(self, sweep_id: str, r: int) -> Plan:
        """What one more run of a sweep takes where the sweep is, within what is left of its spending limit."""
        sweep = self._runs.sweep(sweep_id)
        return self._plan(sweep, [self._runs.added_request(sweep_id, r)], self._there(sweep_id))

    def add(self, sweep_id: str, r: int) -> str:
        """Queue it; returns its id."""
        plan, there = self.check_added(sweep_id, r), self.destination(sweep_id)
        if plan.offer:
            self._jobs.note_limit(sweep_id, plan.offer)
        return self._runs.add(sweep_id, r, there, self._device(plan))

    def _there(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> Destination:
        """The same for runs that start: EngineUnavailableError where the limit cannot be read and none is given."""
        there = self.destination(sweep_id, engine, flavor, spend)
        if spend is None and self._engines.name(there.engine) == HF_JOBS:
            self._spending.given_limit(self._runs.sweep(sweep_id))
        return there

    def _plan(self, sweep: Sweep, runs: Sequence[RunRequest], there: Destination) -> Plan:
        name = self._engines.name(there.engine)
        if name == HF_JOBS:
            if self._runs.owner_of(sweep.sweep_id):
                raise InvalidSettingError(NOT_THE_PAYER)
            offer = self._jobs.check_runs(runs, there.options["flavor"], float(there.options["spend"]))
            return Plan(expected=offer.expected, offer=offer)
        self._runs.check_runs(runs, there)
        plan = self._engines.plan_of(name, partial(self._runs.expected_of, runs))
        return self._engines.with_warnings(plan, name, runs[0].training, runs[0].base)

    def _device(self, plan: Plan) -> Device | None:
        """That of a rented machine; of any other it is looked up again."""
        return self._jobs.device(plan.offer.flavor) if plan.offer else None
