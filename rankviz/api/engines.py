"""Engines on which a sweep can run (this machine, a rented one of Hugging Face, a cluster), and resumed sweeps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz import units
from rankviz.api.runs import NOTHING_TO_RESUME
from rankviz.api.workspace import Operations, writes
from rankviz.background import Background
from rankviz.catalog import hardware
from rankviz.core.runs.estimate import saved_bytes
from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM
from rankviz.errors import EngineUnavailableError, InvalidSettingError
from rankviz.jobs.hub import STARTING, cost_range, seconds_left
from rankviz.store.ownership import WantedEngine

if TYPE_CHECKING:
    from concurrent.futures import Future

    from rankviz.api import Api
    from rankviz.core.cost.setup import Device
    from rankviz.core.quantity import Range
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest, SweepRequest
    from rankviz.core.runs.sweep_time import ExpectedSweep
    from rankviz.jobs import Engine
    from rankviz.jobs.hf_jobs import HfJobs
    from rankviz.jobs.hub import Bill, Flavor, Hub

STILL_COSTS = "Its job on Hugging Face is to be ended, and has not ended yet: it costs until then."
LOG_IN = "Log in with Hugging Face (at the top of the page) to train on its machines, on your account."
SET_TOKEN = "Set HF_TOKEN, or run `hf auth login`, to train on machines of Hugging Face, on your account."
NOT_KNOWN = "On {title}: time and memory are not known until a run has completed there."
NO_SPEED = "It is known once a run has completed there on a GPU that RankViz lists."
NOT_THE_PAYER = "The jobs of this sweep are paid by its owner, who alone can start another one."
KINDS = {RAY: "Ray cluster", SLURM: "Slurm cluster"}
"""Titles of engines, which are all that visitors of a shared page read of a cluster that its owner has set up."""
ABOUT_KINDS = "The runs are sent to nodes of this cluster, with their data."


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """Cost of a sweep on a rented machine of Hugging Face."""

    flavor: Flavor
    expected: ExpectedSweep
    usd: Range | None
    """US dollars; None where the speed of the GPU is not known."""
    limit_usd: float
    """Spending limit for all jobs of the sweep."""
    bill: Bill
    """Cost of the sweep's earlier jobs."""
    timeout_seconds: int
    """Time limit of the job: as long as the rest of the spending limit pays for."""

    @property
    def sentences(self) -> Sequence[str]:
        """Price, cost, assumptions and spending limit, to read before starting."""
        price = f"{self.flavor.label} ({self.flavor.name}): {units.usd(self.flavor.usd_per_hour)} per hour today"
        spent = self.bill.most_usd
        short = "The spending limit may end the job before all runs have completed. What has completed is kept."
        for_all = f" for all jobs of this sweep, which have cost up to {units.usd(spent)}," if spent else ""
        return (
            f"{price}. Cost: {units.money_span(self.usd) if self.usd else 'not known'}.",
            *([short] if self.usd and self.usd.high > self.limit_usd - spent else []),
            f"The limit of {units.usd(self.limit_usd)}{for_all} ends the job after "
            f"{units.duration(self.timeout_seconds)}. Billed by the minute, with starting: assumed "
            f"{units.time_span(STARTING)}, not measured.",
        )


class Jobs(Operations):
    """Rented machines of Hugging Face, on the account of the visitor who is logged in, or of this machine's owner."""

    def why_not(self) -> str:
        """Return why the current visitor cannot rent a machine and what to do; empty if renting is possible. Also
        stores the login of this request, so that the visitor's running jobs are polled again."""
        if self._login() is None:
            return LOG_IN if self._workspace.shared else SET_TOKEN
        return ""

    def log_out(self, visitor_id: str) -> None:
        """Forget a login. The visitor's jobs run on without being polled, and no new job starts."""
        self._engine.logins.forget(visitor_id)

    @writes()
    def bring_back(self) -> Sequence[str]:
        """Restore runs of the visitor's jobs whose sweeps are missing here, as after a restart of a Space, which
        empties its disk. Return their ids. Searches once per login."""
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
        """Return the machines with one GPU at today's prices, cheapest first."""
        return [each for each in self._require_login().flavors() if each.gpus == 1]

    def destination(self, flavor: str = "", spend: float | None = None) -> WantedEngine:
        """Return the destination of runs on a rented machine, with the settings' values for what is empty. On a shared
        page the current visitor pays, even for a sweep made before the login."""
        settings = self._workspace.settings
        spend = settings.jobs_spend if spend is None else spend
        payer = {"payer": self._workspace.visitor.id} if self._workspace.shared else {}
        return WantedEngine(HF_JOBS, {"flavor": flavor or settings.jobs_flavor, "spend": f"{spend:g}", **payer})

    def terms(self, there: WantedEngine) -> tuple[Flavor, float]:
        """Return machine and spending limit in US dollars; InvalidSettingError where either is not allowed."""
        rented, limit = self._engine.offer(self._require_login(), there.options)
        if rented.gpus > 1:
            raise InvalidSettingError(f"{rented.name} has {rented.gpus} GPUs, and a job uses one. Choose one with one.")
        return rented, limit

    def offer(self, runs: Sequence[RunRequest], there: WantedEngine) -> Offer:
        """Return the cost of runs of one sweep. The spending limit includes the cost of the sweep's earlier jobs."""
        rented, limit = self.terms(there)
        expected = self._api.runs.expected_of(runs, self._environment(rented))
        usd = cost_range(expected.seconds, rented.usd_per_minute) if expected.seconds else None
        bill = self._engine.bill(runs[0].sweep_id)
        timeout = seconds_left(limit, bill.most_usd, rented.usd_per_minute)
        return Offer(flavor=rented, expected=expected, usd=usd, limit_usd=limit, bill=bill, timeout_seconds=timeout)

    def note_limit(self, sweep_id: str, offer: Offer) -> None:
        """Store the spending limit of a sweep, which applies to all its later jobs. Raise OSError where that fails."""
        self._engine.ledger.note_limit(sweep_id, offer.limit_usd)

    def still_costs(self, sweep: Sweep) -> str:
        """Return sentences that the job of a cancelled sweep has not ended yet, and what to do; empty if none runs."""
        if not sweep.ended or not any(run.state == "cancelled" and run.engine == HF_JOBS for run in sweep.runs):
            return ""
        is_mine = self._api.runs.is_mine(sweep.sweep_id)
        submission, terms = (is_mine and self._engine.job_of(sweep.sweep_id)) or (None, None)
        if submission is None or not submission.submitted or submission.end:
            return ""
        logins = self._engine.logins
        return f"{STILL_COSTS} {'' if logins.of(terms.owner) else logins.sentence(terms.owner)}".strip()

    def device(self, there: WantedEngine) -> Device:
        """Return the device of the machine that a destination rents."""
        return self._workspace.device(self._environment(self.terms(there)[0]))

    @property
    def _engine(self) -> HfJobs:
        return self._workspace.supervisor.engine(HF_JOBS)

    def _login(self) -> Hub | None:
        """Return the login that this request brings on a shared page, never a stored one: somebody else may have got
        the browser's cookie. On other pages return the machine's login."""
        visitor = self._workspace.visitor
        if not self._workspace.shared:
            return self._engine.logins.of("")
        if (login := visitor.login) is None:
            return None
        return self._engine.logins.give(visitor.id, login.token, visitor.name, login.expires_at, came_at=login.came_at)

    def _require_login(self) -> Hub:
        if (hub := self._login()) is None:
            raise EngineUnavailableError(self.why_not())
        return hub

    def _environment(self, flavor: Flavor) -> Mapping[str, Any]:
        if rows := hardware.gpus_of_model(self._workspace.gpus, flavor.gpu, flavor.memory_bytes):
            return hardware.environment_of(rows[0])
        device = "cuda" if flavor.gpu else "cpu"
        return {"device": device, "device_name": flavor.label, "device_memory_bytes": flavor.memory_bytes}


class EngineChoice(NamedTuple):
    """An engine that can be chosen."""

    name: str
    title: str
    about: str
    """Explanation of the engine and what it needs, in one or two sentences; may be empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Time, memory and cost of a sweep on the engine where it will run."""

    expected: ExpectedSweep | None
    """Time and memory; None where nothing is known of the machines."""
    notes: Sequence[str] = ()
    """Sentences to read before starting."""
    not_known: str = ""
    """Sentence that says what is not known; empty if all is."""
    offer: Offer | None = None
    """Offer of a rented machine; None on other engines."""

    @property
    def sentences(self) -> Sequence[str]:
        """Notes, time and cost, as sentences."""
        expected = self.expected.sentences if self.expected else ()
        cost = self.offer.sentences if self.offer else ()
        return (*self.notes, *expected[:1], *filter(None, [self.not_known]), *expected[1:], *cost)


class Engines(Operations):
    """Engines for the current visitor. `engine` is always an engine's name; empty means the default engine. `flavor`
    (machine) and `spend` (spending limit in US dollars) apply to rented machines; the settings give missing ones."""

    def __init__(self, api: Api):
        super().__init__(api)
        self.background = Background()

    def known(self) -> Sequence[Engine]:
        """Return all engines, usable or not, the default engine first."""
        return self._workspace.supervisor.engines

    def offered(self) -> Sequence[EngineChoice]:
        """Return the engines that the current visitor can use."""
        return [self.place(engine.name) for engine in self.known() if not self.why_not(engine.name)]

    def place(self, name: str) -> EngineChoice:
        """Return name and description of an engine; without addresses, accounts and options, except for the admin."""
        engine = self._api.locations.engine(name)
        if engine.name in KINDS and not self._workspace.visitor.admin:
            return EngineChoice(engine.name, KINDS[engine.name], ABOUT_KINDS)
        return EngineChoice(engine.name, engine.title, engine.about)

    def ask(self, name: str, question: Hashable, work: Callable[[], Any]) -> Future | None:
        """Return the outcome of `work`, which may take an engine seconds; None while it runs in the background: call
        again. question: cache key of the answer."""
        return self.background.ask((name, self._workspace.visitor.id), question, work)

    def why_not(self, name: str) -> str:
        """Return why the current visitor cannot use an engine and what to do, as a sentence; empty if possible."""
        name = self._api.locations.engine(name).name
        if name == LOCAL:
            return self._workspace.why_not_train()
        return self._workspace.why_not_write() or (
            self._api.jobs.why_not() if name == HF_JOBS else self._api.locations.why_not(name)
        )

    def why_none(self) -> str:
        """Return why no engine can train, and what to do; empty if one can."""
        return "" if self.offered() else self._workspace.why_not_train()

    def name(self, engine: str, flavor: str = "", spend: float | None = None) -> str:
        """Return the full name of an engine. InvalidSettingError if flavor or spend is given and it rents nothing."""
        name = self._api.locations.engine(engine).name
        if name != HF_JOBS and (flavor or spend is not None):
            raise InvalidSettingError("flavor and spend need the engine hf-jobs.")
        return name

    def destination(self, engine: str = "", flavor: str = "", spend: float | None = None) -> WantedEngine:
        """Return the destination of runs that start with these settings."""
        name = self.name(engine, flavor, spend)
        return self._api.jobs.destination(flavor, spend) if name == HF_JOBS else WantedEngine(name)

    def check(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """Return the plan of a new sweep; a RankVizError says what to change if the sweep cannot start."""
        there = self.destination(engine, flavor, spend)
        self._api.runs.check(request, there)
        return self.plan_of(self._api.runs.planned(request), there)

    def plan_of(self, runs: Sequence[RunRequest], there: WantedEngine) -> Plan:
        """Return the plan of runs of one sweep; LimitError where adapters of a rented machine have no room here."""
        expected = self._api.runs.expected_of
        engine = self._api.locations.engine(there.engine)
        if engine.name == HF_JOBS:
            offer = self._api.jobs.offer(runs, there)
            ranks = offer.expected.ranks
            engine.limits.require(sum(saved_bytes(run, ranks[run.r].adapter_bytes) for run in runs))
            return Plan(expected=offer.expected, offer=offer)
        if engine.name == LOCAL:
            return Plan(expected=expected(runs), notes=self._api.preflight.warnings(runs[0].training, runs[0].base))
        environment = self._api.locations.environment(engine.name)
        if environment is None:
            return Plan(expected=None, not_known=NOT_KNOWN.format(title=self.place(engine.name).title))
        minutes = self._workspace.limits.run_minutes if engine.is_limited else None
        parts = self._workspace.supervisor.parts(engine.name, len(runs))
        result = replace(expected(runs, environment), parts=parts, run_minutes=minutes)
        return Plan(expected=result, not_known="" if result.time else NO_SPEED)

    def start(self, request: SweepRequest, engine: str = "", flavor: str = "", spend: float | None = None) -> str:
        """Check and queue a sweep on an engine; return the sweep's id."""
        there = self.destination(engine, flavor, spend)
        offer = self.check(request, engine, flavor, spend).offer if there.engine == HF_JOBS else None
        sweep_id = self._api.runs.start(request, there)
        if offer:
            with suppress(OSError):  # its runs have it too
                self._api.jobs.note_limit(sweep_id, offer)
        return sweep_id


class Moves(Operations):
    """Sweeps that continue: failed and cancelled runs again, or one more run, on the same engine or another. Arguments
    are those of Engines; if empty, the sweep's own engine, machine and spending limit are used. The limit covers all
    jobs of the sweep, also earlier ones."""

    def destination(
        self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None
    ) -> WantedEngine:
        """Return the destination on which a sweep would continue."""
        self._api.runs.own_ids(sweep_id)
        sweep = self._api.runs.sweep(sweep_id)
        now = self._api.locations.destination(sweep.runs)
        name = self._api.engines.name(engine or now.engine, flavor, spend)
        if name != HF_JOBS:
            return WantedEngine(name if engine else now.engine)
        known = now.options if self._api.engines.name(now.engine) == HF_JOBS else {}
        spend = self._api.spending.limit(sweep) if spend is None else spend
        return self._api.jobs.destination(flavor or known.get("flavor", ""), spend)

    def check(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> Plan:
        """Return the plan of a sweep's failed and cancelled runs. A RankVizError says why they cannot start."""
        there = self._there(sweep_id, engine, flavor, spend)
        return self._plan(sweep_id, self._api.runs.resumed_requests(sweep_id), there)

    @writes()
    def resume(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> Sequence[str]:
        """Queue the failed and cancelled runs of a sweep again; return their ids. Completed runs stay."""
        there, again = self._there(sweep_id, engine, flavor, spend), self._api.runs.resumed_requests(sweep_id)
        self._note_limit(sweep_id, self._plan(sweep_id, again, there))
        with self._workspace.starts.turn(), self._api.quota.admitting(new=0, runs=again, sweep_id=sweep_id):
            queued = self._workspace.store.requeue_all([each.run_id for each in again], there)
            if not queued:
                raise InvalidSettingError(NOTHING_TO_RESUME)  # somebody else resumed or deleted them meanwhile
        self._workspace.work_queue()
        return queued

    def check_added(self, sweep_id: str, r: int) -> Plan:
        """Return the plan of one more run of a sweep on the sweep's engine, within the rest of its spending limit."""
        return self._plan(sweep_id, [self._api.runs.added_request(sweep_id, r)], self._there(sweep_id))

    @writes()
    def add(self, sweep_id: str, r: int) -> str:
        """Queue one more run of a sweep; return the run's id."""
        there, request = self._there(sweep_id), self._api.runs.added_request(sweep_id, r)
        self._note_limit(sweep_id, self._plan(sweep_id, [request], there))
        store, first = self._workspace.store, self._api.runs.sweep(sweep_id).runs[0]
        admitting = self._api.quota.admitting(new=1, runs=[request], sweep_id=sweep_id, adds=True)
        with self._workspace.starts.turn(), admitting:
            file = self._workspace.references.data(request.data).path
            store.add([request], store.ownership(first.run_id), there, data=file, joins=request.sweep_id)
        self._workspace.work_queue()
        return request.run_id

    def _there(self, sweep_id: str, engine: str = "", flavor: str = "", spend: float | None = None) -> WantedEngine:
        """Return the destination of runs to start. EngineUnavailableError where the spending limit is unreadable."""
        there = self.destination(sweep_id, engine, flavor, spend)
        if spend is None and there.engine == HF_JOBS:
            self._api.spending.given_limit(self._api.runs.sweep(sweep_id))
        return there

    def _plan(self, sweep_id: str, runs: Sequence[RunRequest], there: WantedEngine) -> Plan:
        if there.engine == HF_JOBS and self._api.runs.owner_of(sweep_id):
            raise InvalidSettingError(NOT_THE_PAYER)
        self._api.runs.check_runs(runs, there)
        return self._api.engines.plan_of(runs, there)

    def _note_limit(self, sweep_id: str, plan: Plan) -> None:
        """Store the limit of a rented machine. Call it before runs are queued: a job may start right after that."""
        if plan.offer:
            self._api.jobs.note_limit(sweep_id, plan.offer)
