"""Where a sweep may run, for whoever asks: this machine, one that they rent, or what the owner of this server has set
up."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.api.jobs import Jobs, Offer
from rankviz.api.probes import Preflight
from rankviz.api.runs.machines import Machines
from rankviz.api.runs.runs import Runs
from rankviz.api.visitors import rights
from rankviz.api.workspace import Workspace
from rankviz.beside import Answer, Beside
from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM
from rankviz.errors import NotRentedError
from rankviz.store.ownership import Destination

if TYPE_CHECKING:
    from rankviz.core.cost.setup import TrainingSetup
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import SweepRequest
    from rankviz.core.runs.sweep_time import ExpectedSweep
    from rankviz.jobs import Engine

NOT_KNOWN = "On {title}: time and memory are not known until a run has completed there."
NO_SPEED = "It is known once a run has completed there on a GPU that RankViz lists."

KINDS = {RAY: "Ray cluster", SLURM: "Slurm cluster"}
"""What visitors of a shared page read of a place that its owner has set up, and nothing else of it."""
ABOUT_KINDS = "The runs are sent to nodes of this cluster, with their data."


class Place(NamedTuple):
    """A place to choose."""

    name: str
    """Of its engine."""
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
    """Of whoever asks: a visitor of a shared page, or the owner of this machine."""

    def __init__(self, workspace: Workspace, runs: Runs, jobs: Jobs, preflight: Preflight):
        self._workspace, self._runs, self._jobs, self._preflight = workspace, runs, jobs, preflight
        self._machines = Machines(workspace)
        self._looks: dict[str, Lock] = {}
        self.beside = Beside()

    def known(self) -> Sequence[Engine]:
        """All, whether they can be used or not; the one first that runs have which name none."""
        return self._workspace.supervisor.engines

    def offered(self) -> Sequence[Place]:
        """Those that whoever asks can use."""
        return [self.place(engine.name) for engine in self.known() if not self.why_not(engine.name)]

    def place(self, name: str) -> Place:
        """As whoever asks may know it: addresses, accounts and options are for the owner of the server alone."""
        engine = self._machines.engine(name)
        if engine.name not in KINDS:
            return Place(engine.name, engine.title, engine.about)
        if not self._workspace.visitor.admin:
            return Place(engine.name, KINDS[engine.name], ABOUT_KINDS)
        about = self._about_ray() if engine.name == RAY else engine.about
        return Place(engine.name, engine.title, about)

    def _about_ray(self) -> str:
        settings = self._workspace.settings
        each = " and ".join(f"{amount:g} {name}" for name, amount in settings.ray_resources.items())
        labels = " and ".join(f"{name}={value}" for name, value in settings.ray_labels.items())
        where = f" on a node with {labels}" if labels else ""
        sent = "" if settings.ray_same_folders else " The base must be the embedded one or come from the Hub."
        return f"{ABOUT_KINDS} Each worker takes {each}{where}.{sent}"

    def ask(self, name: str, question: Hashable, work: Callable[[], Any]) -> Answer | None:
        """The answer to a question that an engine may take seconds for; None while it is being asked, so that nobody
        waits: ask again. question: the same for the same answer."""

        def answer() -> Any:
            self._look(name)
            return work()

        return self.beside.ask((name, self._workspace.visitor.id), question, answer)

    def _look(self, name: str) -> None:
        """At the nodes of an engine, one at a time: who comes meanwhile would be told that nothing is known of them."""
        engine = self._machines.engine(name)
        with self._looks.setdefault(engine.name, Lock()):
            engine.nodes()

    def why_not(self, name: str) -> str:
        """Why they cannot use one, and what to do, as a sentence; empty where they can."""
        if name == LOCAL:
            return self._workspace.why_not_train()
        return self._workspace.why_not_write() or (
            self._jobs.why_not() if name == HF_JOBS else self._machines.why_not(name)
        )

    def why_none(self) -> str:
        """Why nothing can be trained anywhere, and what to do instead; empty where something can be."""
        return "" if self.offered() else self._workspace.why_not_train()

    def why_not_more(self, sweep: Sweep) -> str:
        """Why no run of a sweep can be queued where it is to run, as `why_not`."""
        return self.why_not(self._machines.engine(self._machines.destination(sweep).engine).name)

    def check(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """What a sweep takes on an engine. A RankVizError says what to change where it could not start there.

        Args:
            engine: Its name; empty: the one of runs that name none.
            flavor, spend: Machine and spending limit in US dollars, where one is rented; as the settings have them
                where they are not given.
        """
        name = self.name(engine, flavor, spend)
        if name == HF_JOBS:
            return _rented(self._jobs.check(request, flavor, spend))
        self._runs.check(request, Destination(name))
        return self.with_warnings(self.plan(request, name), name, request.training, request.base)

    def with_warnings(self, plan: Plan, name: str, training: TrainingSetup, base: str) -> Plan:
        """With what this machine warns of, where it is to train."""
        return replace(plan, notes=self._preflight.warnings(training, base)) if name == LOCAL else plan

    def plan(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """What a sweep takes there, of one that was checked. As in `check`."""
        name = self.name(engine, flavor, spend)
        if name == HF_JOBS:
            return _rented(self._jobs.offer(request, flavor, spend))
        return self.plan_of(name, partial(self._runs.expected, request))

    def plan_of(self, name: str, expected: Callable[..., ExpectedSweep]) -> Plan:
        """The same on an engine that rents nothing. expected: what it takes in an environment; without one, here."""
        if name == LOCAL:
            return Plan(expected=expected())
        there = self._machines.engine(name)
        environment, trouble = self._machines.environment(name), there.nodes().trouble
        trouble = rights.shown_text(self._workspace, trouble)
        notes = [f"{trouble.rstrip('.')}. The runs wait until that has changed."] if trouble else []
        if environment is None:
            return Plan(expected=None, notes=notes, not_known=NOT_KNOWN.format(title=self.place(name).title))
        found = expected(environment)
        parts = self._workspace.supervisor.parts(there.name, found.runs)
        minutes = self._workspace.limits.run_minutes if there.is_limited else None
        found = replace(found, parts=parts, run_minutes=minutes)
        return Plan(expected=found, notes=notes, not_known="" if found.time else NO_SPEED)

    def start(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> str:
        """Queue a sweep there; returns its id. As in `check`."""
        name = self.name(engine, flavor, spend)
        if name == HF_JOBS:
            return self._jobs.start(request, flavor, spend)
        return self._runs.start(request, Destination(name))

    def name(self, engine: str, flavor: str = "", spend: float | None = None) -> str:
        """Of the engine that these mean. NotRentedError where it rents nothing and machine or limit are given."""
        name = self._machines.engine(engine).name
        if name != HF_JOBS and (flavor or spend is not None):
            raise NotRentedError
        return name


def _rented(offer: Offer) -> Plan:
    return Plan(expected=offer.expected, offer=offer)
