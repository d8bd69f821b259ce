"""Where a sweep may run, for whoever asks: this machine, one that they rent, or what the owner of this server has set
up; and where a sweep goes on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.api.jobs import Jobs, Offer
from rankviz.api.probes import Preflight
from rankviz.api.runs.locations import Machines
from rankviz.api.runs.runs import Runs
from rankviz.api.runs.spending import Spending
from rankviz.api.workspace import Workspace
from rankviz.beside import Beside, Outcome
from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM
from rankviz.errors import InvalidSettingError, NotRentedError
from rankviz.shared import rights
from rankviz.store.ownership import WantedEngine

if TYPE_CHECKING:
    from rankviz.core.cost.setup import Device, TrainingSetup
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest, SweepRequest
    from rankviz.core.runs.sweep_time import ExpectedSweep
    from rankviz.jobs import Engine

NOT_KNOWN = "On {title}: time and memory are not known until a run has completed there."
NO_SPEED = "It is known once a run has completed there on a GPU that RankViz lists."
NOT_THE_PAYER = "The jobs of this sweep are paid by its owner, who alone can start another one."
KINDS = {RAY: "Ray cluster", SLURM: "Slurm cluster"}
"""All that visitors of a shared page read of a place that its owner has set up."""
ABOUT_KINDS = "The runs are sent to nodes of this cluster, with their data."


class EngineChoice(NamedTuple):
    """An engine to choose."""

    name: str
    title: str
    about: str
    """What happens there and what that needs, in a sentence or two; empty where that is plain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a sweep takes where it is to run."""

    expected: ExpectedSweep | None
    """None where nothing is known of the machines there."""
    notes: Sequence[str] = ()
    """What is worth knowing before it starts."""
    not_known: str = ""
    """What is not known, as a sentence."""
    offer: Offer | None = None
    """Of a machine that is rented."""

    @property
    def sentences(self) -> Sequence[str]:
        """Notes, time and cost."""
        expected = self.expected.sentences if self.expected else ()
        cost = self.offer.sentences if self.offer else ()
        return (*self.notes, *expected[:1], *filter(None, [self.not_known]), *expected[1:], *cost)


class Engines:
    """Engines for whoever asks: a visitor of a shared page, or the owner of this machine."""

    def __init__(self, workspace: Workspace, runs: Runs, jobs: Jobs, preflight: Preflight):
        self._workspace, self._runs, self._jobs, self._preflight = workspace, runs, jobs, preflight
        self._machines = Machines(workspace)
        self._looks: dict[str, Lock] = {}
        self.beside = Beside()

    def known(self) -> Sequence[Engine]:
        """Return all, whether they can be used or not; the one of runs which name none first."""
        return self._workspace.supervisor.engines

    def offered(self) -> Sequence[EngineChoice]:
        """Return those that whoever asks can use."""
        return [self.place(engine.name) for engine in self.known() if not self.why_not(engine.name)]

    def place(self, name: str) -> EngineChoice:
        """Describe one. Addresses, accounts and options are for the owner of the server alone."""
        engine = self._machines.engine(name)
        if engine.name in KINDS and not self._workspace.visitor.admin:
            return EngineChoice(engine.name, KINDS[engine.name], ABOUT_KINDS)
        return EngineChoice(engine.name, engine.title, engine.about)

    def ask(self, name: str, question: Hashable, work: Callable[[], Any]) -> Outcome | None:
        """Return the answer to a question that an engine may take seconds for; None while it is worked out: ask again.

        Args:
            question: The same for the same answer.
        """

        def answer() -> Any:
            engine = self._machines.engine(name)
            with self._looks.setdefault(engine.name, Lock()):  # else the next would be told that nothing is known
                engine.nodes()
            return work()

        return self.beside.ask((name, self._workspace.visitor.id), question, answer)

    def why_not(self, name: str) -> str:
        """Return why they cannot use one, and what to do, as a sentence; empty where they can."""
        if name == LOCAL:
            return self._workspace.why_not_train()
        return self._workspace.why_not_write() or (
            self._jobs.why_not() if name == HF_JOBS else self._machines.why_not(name)
        )

    def why_none(self) -> str:
        """Return why nothing can be trained anywhere, and what to do; empty where something can be."""
        return "" if self.offered() else self._workspace.why_not_train()

    def why_not_more(self, sweep: Sweep) -> str:
        """Return why no run of a sweep can be queued where it is to run, as `why_not`."""
        return self.why_not(self._machines.engine(self._machines.destination(sweep).engine).name)

    def check(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """Return what a sweep takes on an engine. A RankVizError says what to change where it could not start there.

        Args:
            engine: Its name; empty: the one of runs that name none.
            flavor, spend: Machine and spending limit in US dollars, where one is rented; as the settings have them
                where they are not given.
        """
        name = self.name(engine, flavor, spend)
        if name == HF_JOBS:
            return _rented(self._jobs.check(request, flavor, spend))
        self._runs.check(request, WantedEngine(name))
        return self.with_warnings(self.plan(request, name), name, request.training, request.base)

    def with_warnings(self, plan: Plan, name: str, training: TrainingSetup, base: str) -> Plan:
        """Add what this machine warns of, where it is to train."""
        return replace(plan, notes=self._preflight.warnings(training, base)) if name == LOCAL else plan

    def plan(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """Return what a sweep that was checked takes, as `check`."""
        name = self.name(engine, flavor, spend)
        if name == HF_JOBS:
            return _rented(self._jobs.offer(request, flavor, spend))
        return self.plan_of(name, partial(self._runs.expected, request))

    def plan_of(self, name: str, expected: Callable[..., ExpectedSweep]) -> Plan:
        """Return what runs take on an engine that rents nothing.

        Args:
            expected: What they take in an environment; without one, here.
        """
        if name == LOCAL:
            return Plan(expected=expected())
        engine = self._machines.engine(name)
        environment = self._machines.environment(name)
        trouble = rights.shown_text(self._workspace, engine.nodes().trouble)
        notes = [f"{trouble.rstrip('.')}. The runs wait until that has changed."] if trouble else []
        if environment is None:
            return Plan(expected=None, notes=notes, not_known=NOT_KNOWN.format(title=self.place(name).title))
        found = expected(environment)
        minutes = self._workspace.limits.run_minutes if engine.is_limited else None
        parts = self._workspace.supervisor.parts(engine.name, found.runs)
        found = replace(found, parts=parts, run_minutes=minutes)
        return Plan(expected=found, notes=notes, not_known="" if found.time else NO_SPEED)

    def start(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> str:
        """Queue a sweep there, as `check`; return its id."""
        name = self.name(engine, flavor, spend)
        if name == HF_JOBS:
            return self._jobs.start(request, flavor, spend)
        return self._runs.start(request, WantedEngine(name))

    def name(self, engine: str, flavor: str = "", spend: float | None = None) -> str:
        """Return the name of the engine that these mean. NotRentedError where it rents nothing and machine or limit
        are given."""
        name = self._machines.engine(engine).name
        if name != HF_JOBS and (flavor or spend is not None):
            raise NotRentedError
        return name


class Moves:
    """Sweeps that go on: failed and cancelled runs again, or one run more, where the sweep was or on another engine.

    Everywhere `engine` is the name of one, empty for where the sweep is; flavor and spend are machine and spending
    limit in US dollars where one is rented, as the sweep has them, or else the settings, where they are not given. The
    limit is that of all jobs of the sweep together, those before this one included.
    """

    def __init__(self, workspace: Workspace, runs: Runs, jobs: Jobs, engines: Engines, spending: Spending):
        self._runs, self._jobs, self._engines, self._spending = runs, jobs, engines, spending
        self._machines = Machines(workspace)

    def destination(
        self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None
    ) -> WantedEngine:
        """Return where its runs would go on."""
        self._runs.require_mine(sweep_id)
        sweep = self._runs.sweep(sweep_id)
        now = self._machines.destination(sweep)
        name = self._engines.name(engine or now.engine, flavor, spend)
        if name != HF_JOBS:
            return WantedEngine(name if engine else now.engine)
        known = now.options if self._engines.name(now.engine) == HF_JOBS else {}
        spend = self._spending.limit(sweep) if spend is None else spend
        return WantedEngine(HF_JOBS, self._jobs.options(flavor or known.get("flavor", ""), spend))

    def check(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """Return what the failed and cancelled runs of a sweep take there. A RankVizError says what to change where
        they cannot go on there."""
        there = self._there(sweep_id, engine, flavor, spend)
        return self._plan(self._runs.sweep(sweep_id), self._runs.resumed_requests(sweep_id), there)

    def resume(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> Sequence[str]:
        """Queue them there; completed runs stay. Return their ids."""
        there = self._there(sweep_id, engine, flavor, spend)
        plan = self._plan(self._runs.sweep(sweep_id), self._runs.resumed_requests(sweep_id), there)
        return self._runs.resume(sweep_id, there, self._device(sweep_id, plan))

    def check_added(self, sweep_id: str, r: int) -> Plan:
        """Return what one more run of a sweep takes where the sweep is, within what is left of its spending limit."""
        there = self._there(sweep_id)
        return self._plan(self._runs.sweep(sweep_id), [self._runs.added_request(sweep_id, r)], there)

    def add(self, sweep_id: str, r: int) -> str:
        """Queue it; return its id."""
        plan, there = self.check_added(sweep_id, r), self.destination(sweep_id)
        return self._runs.add(sweep_id, r, there, self._device(sweep_id, plan))

    def _there(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> WantedEngine:
        """The destination of runs that start: EngineUnavailableError where the limit cannot be read and none is
        given."""
        there = self.destination(sweep_id, engine, flavor, spend)
        if spend is None and self._engines.name(there.engine) == HF_JOBS:
            self._spending.given_limit(self._runs.sweep(sweep_id))
        return there

    def _plan(self, sweep: Sweep, runs: Sequence[RunRequest], there: WantedEngine) -> Plan:
        name = self._engines.name(there.engine)
        if name == HF_JOBS:
            if self._runs.owner_of(sweep.sweep_id):
                raise InvalidSettingError(NOT_THE_PAYER)
            return _rented(self._jobs.check_runs(runs, there.options["flavor"], float(there.options["spend"])))
        self._runs.check_runs(runs, there)
        plan = self._engines.plan_of(name, partial(self._runs.expected_of, runs))
        return self._engines.with_warnings(plan, name, runs[0].training, runs[0].base)

    def _device(self, sweep_id: str, plan: Plan) -> Device | None:
        """That of a rented machine, whose limit is noted: a job may start as soon as its runs are queued."""
        if plan.offer is None:
            return None
        self._jobs.note_limit(sweep_id, plan.offer)
        return self._jobs.device(plan.offer.flavor)


def _rented(offer: Offer) -> Plan:
    return Plan(expected=offer.expected, offer=offer)
