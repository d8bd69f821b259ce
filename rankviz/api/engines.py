"""Where a sweep may run, for whoever asks: this machine, one that they rent, or what the owner of this server has set
up; and where a sweep goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from rankviz import units
from rankviz.api.locations import Machines, Spending
from rankviz.api.probes import Preflight
from rankviz.api.runs import Runs
from rankviz.api.workspace import Workspace, writes
from rankviz.beside import Beside, Outcome
from rankviz.catalog import hardware
from rankviz.core.runs.estimate import saved_bytes
from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM
from rankviz.errors import EngineError, EngineUnavailableError, InvalidSettingError, LimitError, NotRentedError
from rankviz.shared import rights
from rankviz.shared.quota import Quota
from rankviz.store.ownership import WantedEngine

if TYPE_CHECKING:
    from rankviz.core.cost.setup import Device
    from rankviz.core.quantity import Range
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest
    from rankviz.core.runs.request import SweepRequest
    from rankviz.core.runs.sweep_time import ExpectedSweep
    from rankviz.jobs.hf_jobs import HfJobs
    from rankviz.jobs.hub import Hub
    from rankviz.jobs.prices import Flavor
    from rankviz.core.cost.setup import TrainingSetup
    from rankviz.jobs import Engine



SEARCH_AGAIN_SECONDS = 60.0
"""After a search for jobs that have come back has failed."""
ENDS_EARLY = "The limit ends the job after {}, probably before all runs have completed; what has completed is kept."
STILL_COSTS = "Its job on Hugging Face is to be ended, and has not ended yet: it costs until then."
LOG_IN = "Log in with Hugging Face (at the top of the page) to train on its machines, on your account."
SET_TOKEN = "Set HF_TOKEN, or run `hf auth login`, to train on machines of Hugging Face, on your account."


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What a sweep costs on a machine of Hugging Face."""

    flavor: Flavor
    expected: ExpectedSweep
    usd: Range | None
    """None where the speed of its GPU is not known."""
    limit_usd: float
    """Of the sweep, for all its jobs together."""
    spent_usd: float = 0.0
    """What its earlier jobs have cost, at most."""
    spent_is_whole: bool = True
    """Whether that is what they have cost."""
    timeout_seconds: int
    """The job's time limit, which the spending limit pays for."""

    @property
    def sentences(self) -> Sequence[str]:
        """The cost before the button, what it assumes, and what the limit means."""
        return tuple(self._sentences())

    def _sentences(self) -> Iterator[str]:
        from rankviz.jobs.prices import STARTING

        price = f"{self.flavor.label} ({self.flavor.name}): {units.usd(self.flavor.usd_per_hour)} per hour today"
        yield f"{price}. Cost: {units.money_span(self.usd) if self.usd else 'not known'}."
        if self.usd and self.usd.high > self.limit_usd - self.spent_usd:
            yield "The spending limit may end the job before all runs have completed. What has completed is kept."
        cost = "have cost" if self.spent_is_whole else "may have cost up to"
        spent = f" for all jobs of this sweep, which {cost} {units.usd(self.spent_usd)}," if self.spent_usd else ""
        yield (
            f"The limit of {units.usd(self.limit_usd)}{spent} ends the job after "
            f"{units.duration(self.timeout_seconds)}. Billed by the minute, with starting: assumed "
            f"{units.time_span(STARTING)}, not measured."
        )


class Jobs:
    """Rented machines for whoever asks: the visitor of a shared page who is logged in, or the owner of this machine."""

    def __init__(self, workspace: Workspace, runs: Runs, quota: Quota):
        self._workspace, self._runs, self._quota = workspace, runs, quota
        self._not_before: WeakKeyDictionary[Hub, float] = WeakKeyDictionary()
        """When accounts are searched again whose search has failed."""

    def why_not(self) -> str:
        """Return why they cannot rent a machine, and what to do; empty where they can. A visitor's login, which this
        request brings, is known from here on, so that what they have running is followed again."""
        if self._login() is None:
            return LOG_IN if self._workspace.shared else SET_TOKEN
        return ""

    def log_out(self, visitor_id: str) -> None:
        """Forget a login: what they have running goes on without being followed, and starts nothing."""
        self._engine.logins.forget(visitor_id)

    @writes
    def bring_back(self) -> Sequence[str]:
        """Have the runs of one's jobs here again that this page started and does not know: the disk of a Space is
        emptied by a restart. Return their ids. Looks once for each login, and again where not all could come."""
        hub = self._login()
        if hub is None or hub.was_searched or time.monotonic() < self._not_before.get(hub, 0.0):
            return ()
        hub.was_searched = True
        self._not_before[hub] = time.monotonic() + SEARCH_AGAIN_SECONDS
        owner, brought, refusal = self._workspace.rights.somebody().id, [], None
        try:
            for found in self._engine.returning(owner):
                try:
                    with self._quota.admitting(new=len(found.requests)):
                        self._engine.take(found, owner)
                    brought += [request.run_id for request in found.requests]
                except (LimitError, EngineError, OSError) as error:
                    refusal = error
            if refusal and not brought:
                raise refusal
        except BaseException:
            hub.was_searched = False
            raise
        hub.was_searched = refusal is None
        if brought:
            self._workspace.work_queue()
        return brought

    def flavors(self) -> Sequence[Flavor]:
        """Return machines with one GPU, with today's prices; the cheapest first."""
        return [each for each in self._require_login().flavors() if each.gpus == 1]

    def options(self, flavor: str = "", spend: float | None = None) -> Mapping[str, str]:
        """Return the options of a run's destination; what is empty is as the settings have it. On a shared page who
        asks pays, whoever made the sweep: in the same browser that may have been somebody who was not logged in."""
        settings = self._workspace.settings
        return {
            "flavor": flavor or settings.jobs_flavor,
            "spend": f"{settings.jobs_spend if spend is None else spend:g}",
            **({"payer": self._workspace.payer} if self._workspace.shared else {}),
        }

    def offer(self, request: SweepRequest, flavor: str = "", spend: float | None = None) -> Offer:
        """Return what a sweep would cost. InvalidSettingError where there is no such machine or the limit is too
        low."""
        rented, limit = self._terms(flavor, spend)
        return _offer(rented, limit, self._runs.expected(request, self._environment(rented)))

    def check(self, request: SweepRequest, flavor: str = "", spend: float | None = None) -> Offer:
        """Check that a sweep could start on such a machine; return what it would cost there."""
        if self._workspace.references.model(request.base).path:
            raise InvalidSettingError(self._runs.folder_is_not_sent(request, HF_JOBS))
        offer = self.offer(request, flavor, spend)
        self._runs.check(request, WantedEngine(HF_JOBS), self.device(offer.flavor))
        self._require_room(request.runs(sweep_id="asked", created_at=0.0), offer)
        return offer

    def check_runs(self, runs: Sequence[RunRequest], flavor: str = "", spend: float | None = None) -> Offer:
        """Check the same of runs of a sweep that is here. The limit is that of the whole sweep: what its jobs have cost
        is part of it."""
        rented, limit = self._terms(flavor, spend)
        self._runs.check_runs(runs, WantedEngine(HF_JOBS), self.device(rented))
        expected = self._runs.expected_of(runs, self._environment(rented))
        bill = self._engine.bill(runs[0].sweep_id)
        offer = _offer(rented, limit, expected, bill.most_usd, is_whole=bill.is_whole)
        self._require_room(runs, offer)
        return offer

    def start(self, request: SweepRequest, flavor: str = "", spend: float | None = None) -> str:
        """Queue a sweep for such a machine; return its id."""
        offer = self.check(request, flavor, spend)
        there = WantedEngine(HF_JOBS, self.options(flavor, spend))
        sweep_id = self._runs.start(request, there, self.device(offer.flavor))
        with suppress(OSError):  # its runs have it too
            self.note_limit(sweep_id, offer)
        return sweep_id

    def note_limit(self, sweep_id: str, offer: Offer) -> None:
        """Keep the limit of a sweep that goes on with this offer, which holds for each later job of it. OSError."""
        self._engine.ledger.note_limit(sweep_id, offer.limit_usd)

    def ends_early(self, sweep: Sweep) -> str:
        """Return that the time limit of a sweep's job is shorter than what its runs still take, as a sentence; empty
        where it is not, and where that is not known."""
        running = sweep.running
        if running is None or running.engine != HF_JOBS or not self._runs.is_mine(sweep.sweep_id):
            return ""
        submission, terms = self._engine.job_of(sweep.sweep_id) or (None, None)
        if submission is None or not submission.handle or submission.handle != running.place.job:
            return ""
        started = [run.started_at for run in sweep.runs if run.place and run.place.job == submission.handle]
        so_far = time.time() - min(filter(None, started), default=time.time())
        left = self._runs.progress(sweep).seconds_left
        ends_early = left is not None and so_far + left > terms.timeout_seconds
        return ENDS_EARLY.format(units.duration(terms.timeout_seconds)) if ends_early else ""

    def still_costs(self, sweep: Sweep) -> str:
        """Return that the job of a sweep that was cancelled has not ended yet, and what to do, as sentences."""
        if not sweep.ended or not any(run.state == "cancelled" and run.engine == HF_JOBS for run in sweep.runs):
            return ""
        submission, terms = (self._runs.is_mine(sweep.sweep_id) and self._engine.job_of(sweep.sweep_id)) or (None, None)
        if submission is None or not submission.submitted or submission.end:
            return ""
        logins = self._engine.logins
        return f"{STILL_COSTS} {'' if logins.of(terms.owner) else logins.sentence(terms.owner)}".strip()

    def device(self, flavor: Flavor) -> Device:
        """Return what a run finds on such a machine."""
        return self._workspace.device(self._environment(flavor))

    def _terms(self, flavor: str, spend: float | None) -> tuple[Flavor, float]:
        rented, limit = self._engine.offer(self._require_login(), self.options(flavor, spend))
        if rented.gpus > 1:
            raise InvalidSettingError(f"{rented.name} has {rented.gpus} GPUs, and a job uses one. Choose one with one.")
        return rented, limit

    def _require_room(self, runs: Sequence[RunRequest], offer: Offer) -> None:
        """Of the adapters of these runs, and of what they are truncated to, on this server."""
        ranks = offer.expected.ranks
        self._engine.limits.require([saved_bytes(run, ranks[run.r].adapter_bytes) for run in runs])

    @property
    def _engine(self) -> HfJobs:
        return self._workspace.supervisor.engine(HF_JOBS)

    def _login(self) -> Hub | None:
        """The one that this request brings, on a shared page. One that is kept serves what was queued with it alone:
        whoever has the cookie of a browser may be somebody else."""
        visitor = self._workspace.visitor
        if not self._workspace.shared:
            return self._engine.logins.of("")
        if (login := visitor.login) is None:
            return None
        return self._engine.logins.give(visitor.id, login.token, visitor.name, login.expires_at, came_at=login.came_at)

    def _require_login(self) -> Hub:
        hub = self._login()
        if hub is None:
            raise EngineUnavailableError(LOG_IN if self._workspace.shared else SET_TOKEN)
        return hub

    def _environment(self, flavor: Flavor) -> Mapping[str, Any]:
        """As a run there would find it."""
        if rows := hardware.gpus_of_model(self._workspace.gpus, flavor.gpu, flavor.memory_bytes):
            return hardware.environment_of(rows[0])
        return {
            "device": "cuda" if flavor.gpu else "cpu",
            "device_name": flavor.label,
            "device_memory_bytes": flavor.memory_bytes,
        }


def _offer(
    flavor: Flavor, limit_usd: float, expected: ExpectedSweep, spent_usd: float = 0.0, *, is_whole: bool = True
) -> Offer:
    from rankviz.jobs.prices import cost_range, seconds_left

    seconds = expected.seconds
    return Offer(
        flavor=flavor,
        expected=expected,
        usd=cost_range(seconds, flavor.usd_per_minute) if seconds else None,
        limit_usd=limit_usd,
        spent_usd=spent_usd,
        spent_is_whole=is_whole,
        timeout_seconds=seconds_left(limit_usd, spent_usd, flavor.usd_per_minute, is_whole=is_whole),
    )



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
