"""Where a sweep may run: this machine, one that the visitor rents from Hugging Face by the minute, or what the owner of
this server has set up; and where a sweep goes on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz import units
from rankviz.api.runs import NOTHING_TO_RESUME
from rankviz.api.workspace import Operations, writes
from rankviz.beside import Beside, Outcome
from rankviz.catalog import hardware
from rankviz.core.runs.estimate import saved_bytes
from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM
from rankviz.errors import EngineUnavailableError, InvalidSettingError
from rankviz.jobs.prices import STARTING, cost_range, seconds_left
from rankviz.shared import rights
from rankviz.store.ownership import WantedEngine

if TYPE_CHECKING:
    from rankviz.api import Api
    from rankviz.core.cost.setup import Device
    from rankviz.core.quantity import Range
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest, SweepRequest
    from rankviz.core.runs.sweep_time import ExpectedSweep
    from rankviz.jobs import Engine
    from rankviz.jobs.hf_jobs import HfJobs
    from rankviz.jobs.hub import Hub
    from rankviz.jobs.prices import Bill, Flavor

STILL_COSTS = "Its job on Hugging Face is to be ended, and has not ended yet: it costs until then."
LOG_IN = "Log in with Hugging Face (at the top of the page) to train on its machines, on your account."
SET_TOKEN = "Set HF_TOKEN, or run `hf auth login`, to train on machines of Hugging Face, on your account."
NOT_KNOWN = "On {title}: time and memory are not known until a run has completed there."
NO_SPEED = "It is known once a run has completed there on a GPU that RankViz lists."
NOT_THE_PAYER = "The jobs of this sweep are paid by its owner, who alone can start another one."
KINDS = {RAY: "Ray cluster", SLURM: "Slurm cluster"}
"""All that visitors of a shared page read of a place that its owner has set up."""
ABOUT_KINDS = "The runs are sent to nodes of this cluster, with their data."


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """Cost of a sweep on a machine of Hugging Face."""

    flavor: Flavor
    expected: ExpectedSweep
    usd: Range | None
    """None where the speed of its GPU is not known."""
    limit_usd: float
    """Spending limit of the sweep, for all its jobs."""
    bill: Bill
    """Cost of its earlier jobs."""
    timeout_seconds: int
    """The job's time limit, which the spending limit pays for."""

    @property
    def sentences(self) -> Sequence[str]:
        """The cost before the button, what it assumes, and what the limit means."""
        return tuple(self._sentences())

    def _sentences(self) -> Iterator[str]:
        price = f"{self.flavor.label} ({self.flavor.name}): {units.usd(self.flavor.usd_per_hour)} per hour today"
        yield f"{price}. Cost: {units.money_span(self.usd) if self.usd else 'not known'}."
        bill = self.bill
        if self.usd and self.usd.high > self.limit_usd - bill.most_usd:
            yield "The spending limit may end the job before all runs have completed. What has completed is kept."
        cost = "have cost" if bill.is_whole else "may have cost up to"
        spent = f" for all jobs of this sweep, which {cost} {units.usd(bill.most_usd)}," if bill.most_usd else ""
        yield (
            f"The limit of {units.usd(self.limit_usd)}{spent} ends the job after "
            f"{units.duration(self.timeout_seconds)}. Billed by the minute, with starting: assumed "
            f"{units.time_span(STARTING)}, not measured."
        )


class Jobs(Operations):
    """Rented machines of the current visitor: who is logged in on a shared page, or the owner of this machine."""

    def why_not(self) -> str:
        """Return why they cannot rent a machine, and what to do; empty where they can. A visitor's login, which this
        request brings, is known from here on, so that what they have running is followed again."""
        if self._login() is None:
            return LOG_IN if self._workspace.shared else SET_TOKEN
        return ""

    def log_out(self, visitor_id: str) -> None:
        """Forget a login: what they have running goes on without being followed, and starts nothing."""
        self._engine.logins.forget(visitor_id)

    @writes()
    def bring_back(self) -> Sequence[str]:
        """Bring the runs of one's jobs back whose sweeps this page does not know: the disk of a Space is emptied by a
        restart. Return their ids. Looks once for each login."""
        hub = self._login()
        if hub is None or hub.was_searched:
            return ()
        hub.was_searched = True
        owner, brought = self._workspace.rights.somebody().id, []
        try:
            for found in self._engine.returning(owner):
                with self._api.quota.admitting(new=len(found.requests)):
                    self._engine.take(found, owner)
                brought += [request.run_id for request in found.requests]
        except EngineUnavailableError:
            hub.was_searched = False
            raise
        finally:
            if brought:
                self._workspace.work_queue()
        return brought

    def flavors(self) -> Sequence[Flavor]:
        """Return machines with one GPU, with today's prices; the cheapest first."""
        return [each for each in self._require_login().flavors() if each.gpus == 1]

    def destination(self, flavor: str = "", spend: float | None = None) -> WantedEngine:
        """Return where a run goes that is rented for; what is empty is as the settings have it. On a shared page the
        current visitor pays, whoever made the sweep: it may have been made before they logged in."""
        settings = self._workspace.settings
        spend = settings.jobs_spend if spend is None else spend
        payer = {"payer": self._workspace.visitor.id} if self._workspace.shared else {}
        return WantedEngine(HF_JOBS, {"flavor": flavor or settings.jobs_flavor, "spend": f"{spend:g}", **payer})

    def terms(self, there: WantedEngine) -> tuple[Flavor, float]:
        """Return the machine and the spending limit in US dollars. InvalidSettingError where there is no such machine
        or the limit is too low."""
        rented, limit = self._engine.offer(self._require_login(), there.options)
        if rented.gpus > 1:
            raise InvalidSettingError(f"{rented.name} has {rented.gpus} GPUs, and a job uses one. Choose one with one.")
        return rented, limit

    def offer(self, runs: Sequence[RunRequest], there: WantedEngine) -> Offer:
        """Return the cost of runs of one sweep. The limit is that of the whole sweep: what its jobs have cost is part
        of it."""
        rented, limit = self.terms(there)
        expected = self._api.runs.expected_of(runs, self._environment(rented))
        usd = cost_range(expected.seconds, rented.usd_per_minute) if expected.seconds else None
        bill = self._engine.bill(runs[0].sweep_id)
        timeout = seconds_left(limit, bill.most_usd, rented.usd_per_minute, is_whole=bill.is_whole)
        return Offer(flavor=rented, expected=expected, usd=usd, limit_usd=limit, bill=bill, timeout_seconds=timeout)

    def require_room(self, runs: Sequence[RunRequest], offer: Offer) -> None:
        """LimitError where this server has no room for what these runs will save."""
        ranks = offer.expected.ranks
        self._engine.limits.require([saved_bytes(run, ranks[run.r].adapter_bytes) for run in runs])

    def note_limit(self, sweep_id: str, offer: Offer) -> None:
        """Keep the limit of a sweep that goes on with this offer, which holds for each later job of it. OSError."""
        self._engine.ledger.note_limit(sweep_id, offer.limit_usd)

    def still_costs(self, sweep: Sweep) -> str:
        """Return that the job of a sweep that was cancelled has not ended yet, and what to do, as sentences."""
        if not sweep.ended or not any(run.state == "cancelled" and run.engine == HF_JOBS for run in sweep.runs):
            return ""
        is_mine = self._api.runs.is_mine(sweep.sweep_id)
        submission, terms = (is_mine and self._engine.job_of(sweep.sweep_id)) or (None, None)
        if submission is None or not submission.submitted or submission.end:
            return ""
        logins = self._engine.logins
        return f"{STILL_COSTS} {'' if logins.of(terms.owner) else logins.sentence(terms.owner)}".strip()

    def device(self, there: WantedEngine) -> Device:
        """Return what a run finds on such a machine."""
        return self._workspace.device(self._environment(self.terms(there)[0]))

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
        """The environment that a run there would find."""
        if rows := hardware.gpus_of_model(self._workspace.gpus, flavor.gpu, flavor.memory_bytes):
            return hardware.environment_of(rows[0])
        device = "cuda" if flavor.gpu else "cpu"
        return {"device": device, "device_name": flavor.label, "device_memory_bytes": flavor.memory_bytes}


class EngineChoice(NamedTuple):
    """An engine to choose."""

    name: str
    title: str
    about: str
    """A sentence or two on what happens there and what that needs; empty where that is plain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Time, memory and cost of a sweep where it is to run."""

    expected: ExpectedSweep | None
    """None where nothing is known of the machines there."""
    notes: Sequence[str] = ()
    """Sentences to read before it starts."""
    not_known: str = ""
    """A sentence on what is not known."""
    offer: Offer | None = None
    """Offer of a machine that is rented."""

    @property
    def sentences(self) -> Sequence[str]:
        """Notes, time and cost."""
        expected = self.expected.sentences if self.expected else ()
        cost = self.offer.sentences if self.offer else ()
        return (*self.notes, *expected[:1], *filter(None, [self.not_known]), *expected[1:], *cost)


class Engines(Operations):
    """Engines for the current visitor.

    Everywhere `engine` is the name of one, empty for the one of runs that name none; flavor and spend are machine and
    spending limit in US dollars, where one is rented, as the settings have them where they are not given.
    """

    def __init__(self, api: Api):
        super().__init__(api)
        self._look = Lock()
        self.beside = Beside()

    def known(self) -> Sequence[Engine]:
        """Return all, whether they can be used or not; the one of runs which name none first."""
        return self._workspace.supervisor.engines

    def offered(self) -> Sequence[EngineChoice]:
        """Return those that the current visitor can use."""
        return [self.place(engine.name) for engine in self.known() if not self.why_not(engine.name)]

    def place(self, name: str) -> EngineChoice:
        """Describe one. Addresses, accounts and options are for the owner of the server alone."""
        engine = self._api.locations.engine(name)
        if engine.name in KINDS and not self._workspace.visitor.admin:
            return EngineChoice(engine.name, KINDS[engine.name], ABOUT_KINDS)
        return EngineChoice(engine.name, engine.title, engine.about)

    def ask(self, name: str, question: Hashable, work: Callable[[], Any]) -> Outcome | None:
        """Return the answer to a question that an engine may take seconds for; None while it is worked out: ask again.
        question: the same for the same answer."""

        def answer() -> Any:
            with self._look:  # else the next would be told that nothing is known
                self._api.locations.engine(name).nodes()
            return work()

        return self.beside.ask((name, self._workspace.visitor.id), question, answer)

    def why_not(self, name: str) -> str:
        """Return why they cannot use one, and what to do, as a sentence; empty where they can."""
        if name == LOCAL:
            return self._workspace.why_not_train()
        return self._workspace.why_not_write() or (
            self._api.jobs.why_not() if name == HF_JOBS else self._api.locations.why_not(name)
        )

    def why_none(self) -> str:
        """Return why nothing can be trained anywhere, and what to do; empty where something can be."""
        return "" if self.offered() else self._workspace.why_not_train()

    def why_not_more(self, sweep: Sweep) -> str:
        """Return why no run of a sweep can be queued where it is to run, as `why_not`."""
        return self.why_not(self.name(self._api.locations.destination(sweep).engine))

    def name(self, engine: str, flavor: str = "", spend: float | None = None) -> str:
        """Return the name of the engine that these mean. InvalidSettingError where it rents nothing and machine or
        limit are given."""
        name = self._api.locations.engine(engine).name
        if name != HF_JOBS and (flavor or spend is not None):
            raise InvalidSettingError("flavor and spend need the engine hf-jobs.")
        return name

    def destination(self, engine: str = "", flavor: str = "", spend: float | None = None) -> WantedEngine:
        """Return where runs go that are started with these."""
        name = self.name(engine, flavor, spend)
        return self._api.jobs.destination(flavor, spend) if name == HF_JOBS else WantedEngine(name)

    def check(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """Return the plan of a sweep on an engine. A RankVizError says what to change where it could not start
        there."""
        there = self.destination(engine, flavor, spend)
        self._api.runs.check(request, there)
        return self.plan_of(self._api.runs.planned(request), there, checks=True)

    def plan(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """Return the plan of a sweep that was checked."""
        return self.plan_of(self._api.runs.planned(request), self.destination(engine, flavor, spend))

    def plan_of(self, runs: Sequence[RunRequest], there: WantedEngine, *, checks: bool = False) -> Plan:
        """Return the plan of runs of one sweep. checks: whether room for adapters is required where a machine is
        rented, and warnings of this machine are added where it is to train."""
        expected = self._api.runs.expected_of
        engine = self._api.locations.engine(there.engine)
        if engine.name == HF_JOBS:
            offer = self._api.jobs.offer(runs, there)
            if checks:
                self._api.jobs.require_room(runs, offer)
            return Plan(expected=offer.expected, offer=offer)
        if engine.name == LOCAL:
            notes = self._api.preflight.warnings(runs[0].training, runs[0].base) if checks else ()
            return Plan(expected=expected(runs), notes=notes)
        environment = self._api.locations.environment(engine.name)
        trouble = rights.shown_text(self._workspace, engine.nodes().trouble)
        notes = [f"{trouble.rstrip('.')}. The runs wait until that has changed."] if trouble else []
        if environment is None:
            return Plan(expected=None, notes=notes, not_known=NOT_KNOWN.format(title=self.place(engine.name).title))
        minutes = self._workspace.limits.run_minutes if engine.is_limited else None
        parts = self._workspace.supervisor.parts(engine.name, len(runs))
        result = replace(expected(runs, environment), parts=parts, run_minutes=minutes)
        return Plan(expected=result, notes=notes, not_known="" if result.time else NO_SPEED)

    def start(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> str:
        """Queue a sweep there; return its id."""
        there = self.destination(engine, flavor, spend)
        offer = self.check(request, engine, flavor, spend).offer if there.engine == HF_JOBS else None
        sweep_id = self._api.runs.start(request, there)
        if offer:
            with suppress(OSError):  # its runs have it too
                self._api.jobs.note_limit(sweep_id, offer)
        return sweep_id


class Moves(Operations):
    """Sweeps that go on: failed and cancelled runs again, or one run more, where the sweep was or on another engine.

    Arguments are as for Engines, but empty they stand for where the sweep is, and for its own machine and spending
    limit. That limit is of all jobs of the sweep, those before this one included.
    """

    def destination(
        self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None
    ) -> WantedEngine:
        """Return where its runs would go on."""
        self._api.runs.own_ids(sweep_id)
        sweep = self._api.runs.sweep(sweep_id)
        now = self._api.locations.destination(sweep)
        name = self._api.engines.name(engine or now.engine, flavor, spend)
        if name != HF_JOBS:
            return WantedEngine(name if engine else now.engine)
        known = now.options if self._api.engines.name(now.engine) == HF_JOBS else {}
        spend = self._api.spending.limit(sweep) if spend is None else spend
        return self._api.jobs.destination(flavor or known.get("flavor", ""), spend)

    def check(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """Return the plan of the failed and cancelled runs of a sweep there. A RankVizError says what to change where
        they cannot go on there."""
        there = self._there(sweep_id, engine, flavor, spend)
        return self._plan(sweep_id, self._api.runs.resumed_requests(sweep_id), there)

    @writes()
    def resume(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> Sequence[str]:
        """Queue them there; completed runs stay. Return their ids."""
        there, again = self._there(sweep_id, engine, flavor, spend), self._api.runs.resumed_requests(sweep_id)
        self._note_limit(sweep_id, self._plan(sweep_id, again, there))
        with self._workspace.starts.turn(), self._api.quota.admitting(new=0, runs=again, sweep_id=sweep_id):
            queued = self._workspace.store.requeue_all([each.run_id for each in again], there)
            if not queued:
                raise InvalidSettingError(NOTHING_TO_RESUME)  # somebody else resumed or deleted them meanwhile
        self._workspace.work_queue()
        return queued

    def check_added(self, sweep_id: str, r: int) -> Plan:
        """Return the plan of one more run of a sweep where the sweep is, within what is left of its spending limit."""
        return self._plan(sweep_id, [self._api.runs.added_request(sweep_id, r)], self._there(sweep_id))

    @writes()
    def add(self, sweep_id: str, r: int) -> str:
        """Queue it; return its id."""
        there, request = self._there(sweep_id), self._api.runs.added_request(sweep_id, r)
        self._note_limit(sweep_id, self._plan(sweep_id, [request], there))
        store, first = self._workspace.store, self._api.runs.sweep(sweep_id).runs[0]
        admitting = self._api.quota.admitting(new=1, runs=[request], sweep_id=sweep_id, adds=True)
        with self._workspace.starts.turn(), admitting:
            file = self._workspace.references.data(request.data).path
            store.add(request, store.ownership(first.run_id), there, data=file)
        self._workspace.work_queue()
        return request.run_id

    def _there(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> WantedEngine:
        """The destination of runs that start: EngineUnavailableError where the limit cannot be read and none is
        given."""
        there = self.destination(sweep_id, engine, flavor, spend)
        if spend is None and there.engine == HF_JOBS:
            self._api.spending.given_limit(self._api.runs.sweep(sweep_id))
        return there

    def _plan(self, sweep_id: str, runs: Sequence[RunRequest], there: WantedEngine) -> Plan:
        if there.engine == HF_JOBS and self._api.runs.owner_of(sweep_id):
            raise InvalidSettingError(NOT_THE_PAYER)
        self._api.runs.check_runs(runs, there)
        return self._api.engines.plan_of(runs, there, checks=True)

    def _note_limit(self, sweep_id: str, plan: Plan) -> None:
        """Note the limit of a rented machine before its runs are queued: a job may start as soon as they are."""
        if plan.offer:
            self._api.jobs.note_limit(sweep_id, plan.offer)
