"""Engines on which runs train: this machine, a rented one of Hugging Face, a cluster; their machines and their cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz import machine, units
from rankviz.api.workspace import Operations, writes
from rankviz.background import Background
from rankviz.catalog import hardware
from rankviz.core.cost.setup import Device, card
from rankviz.core.from_json import shape
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import all_adapters_bytes
from rankviz.core.runs.events import HF_JOBS, LOCAL, RAY, SLURM, queued_at
from rankviz.core.runs.record import Place, RunRecord, Sweep
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.run_time import Spent, device_time
from rankviz.errors import EngineUnavailableError, InvalidSettingError
from rankviz.jobs import Engine
from rankviz.jobs.engine import require
from rankviz.jobs.hub import STARTING, Bill, Flavor, Hub, cost_range, seconds_left
from rankviz.store.journal import WantedEngine, read_destination
from rankviz.store.runs import IMPORTED

if TYPE_CHECKING:
    from rankviz.api import Api
    from rankviz.core.runs.sweep_time import ExpectedSweep
    from rankviz.jobs.hf_jobs import HfJobs

STILL_COSTS = "Its job on Hugging Face is to be ended, and has not ended yet: it costs until then."
LOG_IN = "Log in with Hugging Face (at the top of the page) to train on its machines, on your account."
SET_TOKEN = "Set HF_TOKEN, or run `hf auth login`, to train on machines of Hugging Face, on your account."
NOT_HERE = "This page cannot use that engine now."
"""Message for visitors, who cannot set up the engine."""
NOT_KNOWN = "On {title}: time and memory are not known until a run has completed there."
NO_SPEED = "It is known once a run has completed there on a GPU that RankViz lists."
KINDS = {RAY: "Ray cluster", SLURM: "Slurm cluster"}
"""Titles of clusters for visitors of a shared page, who see nothing else of a cluster that the server's owner set
up."""
ABOUT_KINDS = "The runs are sent to nodes of this cluster, with their data."
MOST_NAMED = 4
"""Most places of a sweep that a sentence names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """Cost of a sweep on a rented machine of Hugging Face."""

    flavor: Flavor
    usd: Range | None
    """Cost in US dollars; None where the speed of the GPU is not known."""
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


class EngineChoice(NamedTuple):
    """An engine that can be chosen."""

    name: str
    title: str
    about: str
    """Explanation of the engine and of its needs, in one or two sentences; may be empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Time, memory and cost of a sweep on the engine where it will run."""

    expected: ExpectedSweep | None
    """Time and memory; None where nothing is known of the machines."""
    notes: Sequence[str] = ()
    """Sentences to read before starting."""
    not_known: str = ""
    """Sentence on the numbers of the plan that are not known; empty if all are known."""
    offer: Offer | None = None
    """Offer of a rented machine; None on other engines."""

    @property
    def sentences(self) -> Sequence[str]:
        """Notes, time and cost, as sentences."""
        expected = self.expected.sentences if self.expected else ()
        cost = self.offer.sentences if self.offer else ()
        return (*self.notes, *expected[:1], *filter(None, [self.not_known]), *expected[1:], *cost)


class CostJSON(shape(Spent)):
    """Cost so far: machine seconds of all attempts of all runs, and US dollars of rented machines, null without any or
    where they are not known. Values that are not whole are lower bounds."""

    in_words: str


class Engines(Operations):
    """Engines for the current visitor, where each run is, and how much it has cost. `engine` is always an engine's
    name; empty means the default engine. `flavor` (machine) and `spend` (spending limit in US dollars) apply to
    machines rented on Hugging Face, on the account of the visitor who is logged in, or of this machine's owner; where
    they are missing, the settings' values apply. An imported journal's "this machine" is another machine, unknown
    here."""

    def __init__(self, api: Api):
        super().__init__(api)
        self.background = Background()

    def known(self) -> Sequence[Engine]:
        """Return all engines, the default engine first; also engines that are not set up here."""
        return self._workspace.supervisor.engines

    def get(self, name: str | None) -> Engine:
        """Return the engine of this name; empty for the default engine. InvalidSettingError for an unknown name."""
        known = {engine.name: engine for engine in self.known()}
        return known[require(name or self._workspace.settings.engine, known)]

    def is_here(self, engine: str) -> bool:
        """Return whether an engine of this name (empty: the default engine) trains on this machine."""
        return (engine or self._workspace.settings.engine) == LOCAL

    def offered(self) -> Sequence[EngineChoice]:
        """Return the engines that the current visitor can use."""
        return [self.choice(engine.name) for engine in self.known() if not self.why_not(engine.name)]

    def choice(self, name: str) -> EngineChoice:
        """Return name and description of an engine; without addresses, accounts and options, except for the admin."""
        engine = self.get(name)
        if engine.name in KINDS and not self._workspace.visitor.admin:
            return EngineChoice(engine.name, KINDS[engine.name], ABOUT_KINDS)
        return EngineChoice(engine.name, engine.title, engine.about)

    def ask(self, name: str, question: Hashable, work: Callable[[], Any]) -> Future | None:
        """Run `work`, a call to an engine that may take seconds, in the background. Return its outcome; None while it
        runs: then call again. question: cache key of the answer."""
        return self.background.ask((name, self._workspace.visitor.id), question, work)

    def why_not(self, name: str) -> str:
        """Return why the current visitor cannot use an engine and what to do, as a sentence; empty if possible. Also
        stores the login of this request, so that the visitor's running jobs are polled again."""
        engine = self.get(name)
        if engine.name == LOCAL:
            return self._workspace.why_not_train()
        if message := self._workspace.why_not_write():
            return message
        if engine.name != HF_JOBS:
            return self.trouble(engine)
        return "" if self._login() else LOG_IN if self._workspace.shared else SET_TOKEN

    def trouble(self, engine: Engine) -> str:
        """Return why an engine cannot be reached, as the current visitor may read it; empty if it can."""
        why_not = engine.why_not()
        return why_not if self._workspace.visitor.admin else why_not and NOT_HERE

    def why_none(self) -> str:
        """Return why no engine can train, and what to do; empty if some engine can."""
        return "" if self.offered() else self._workspace.why_not_train()

    # Destinations, their machines and the places of runs.

    def name(self, engine: str | None, flavor: str | None = None, spend: float | None = None) -> str:
        """Return an engine's full name; InvalidSettingError if flavor or spend is given and it rents no machines."""
        name = self.get(engine).name
        if name != HF_JOBS and (flavor or spend is not None):
            raise InvalidSettingError("flavor and spend need the engine hf-jobs.")
        return name

    def destination(
        self, engine: str | None = None, flavor: str | None = None, spend: float | None = None
    ) -> WantedEngine:
        """Return the destination of runs that start with these settings. On a shared page the current visitor pays for
        a rented machine, even for a sweep made before the login."""
        if (name := self.name(engine, flavor, spend)) != HF_JOBS:
            return WantedEngine(name)
        settings = self._workspace.settings
        spend = settings.jobs_spend if spend is None else spend
        payer = {"payer": self._workspace.visitor.id} if self._workspace.shared else {}
        return WantedEngine(HF_JOBS, {"flavor": flavor or settings.jobs_flavor, "spend": f"{spend:g}", **payer})

    def destination_of(self, runs: Sequence[RunRecord]) -> WantedEngine:
        """Return the destination of the most recently queued of a sweep's runs, where the sweep continues."""
        last = max(runs, key=queued_at)
        return read_destination(self._workspace.store.run_dir(last.run_id))

    def environment(self, name: str) -> Mapping[str, Any] | None:
        """Return the environment of runs on an engine: this machine's, the newest run's there, or that of the GPU in
        its settings. None if nothing is known; a GPU outside the table has no known speed."""
        if self.is_here(name):
            return machine.here()
        engine, store = self.get(name), self._workspace.store
        models = engine.gpu_models
        # Imported runs do not count: their journals may claim anything.
        completed = [
            record
            for record in store.records()
            if record.engine == engine.name
            and record.state == "completed"
            and record.environment.get("device_name")
            and store.listed_destination(record.run_id).engine == engine.name
        ]
        last = max(completed, key=lambda record: record.ended_at or 0.0).environment if completed else None
        rows = [gpu for model in models for gpu in hardware.gpus_of_model(self._workspace.gpus, model)]
        if last and (not rows or self._workspace.gpu_of(last) in rows):
            return last
        if len(rows) == 1 and len(models) == 1:
            return hardware.environment_of(rows[0])
        return {"device": "cuda", "device_name": " or ".join(models) or "a GPU"} if engine.has_gpu else None

    def device(self, there: WantedEngine) -> Device:
        """Return the device at a destination; a GPU where not known, since it trains whatever a CPU can."""
        if there.engine == HF_JOBS:
            environment = self._rented(self._jobs.offer(self._require_login(), there.options)[0])
        else:
            environment = self.environment(there.engine)
        return card(None) if environment is None else self._workspace.device(environment)

    def place_of(self, run: RunRecord) -> Place:
        """Return the place where a run is or was; before any engine has taken it, the place where it is to run."""
        place = Place(run.engine, run.where)
        if run.state.ended and run.begun_attempts:
            is_imported = place.engine == LOCAL and (self._workspace.store.run_dir(run.run_id) / IMPORTED).exists()
            return Place() if is_imported else place
        if place.where or run.state == "running":
            return place
        there = self._workspace.store.listed_destination(run.run_id)
        chosen = there.engine or ("" if run.state.ended else self._workspace.settings.engine)
        has_options = place.engine in ("", chosen)
        return Place(place.engine or chosen, there.options.get("flavor", "") if has_options else "")

    def place_in_words(self, run: RunRecord) -> str:
        """Return text such as "Ray cluster, node-0, attempt 2"; empty where nothing is known."""
        attempt = f"attempt {run.shown_attempt:,}" if run.shown_attempt > 1 else ""
        return ", ".join(filter(None, [self.place_of(run).in_words, attempt]))

    def places_in_words(self, sweep: Sweep) -> str:
        """Return text such as "Ray cluster, node-0; this machine": the places of the running runs, if any run. Empty
        where nothing is known, and for a recorded sweep."""
        if sweep.recorded:
            return ""
        running = [run for run in sweep.runs if run.state == "running"]
        waiting = [run for run in sweep.runs if not run.state.ended]
        places = dict.fromkeys(self.place_of(run).in_words for run in running or waiting or sweep.runs)
        words = [*filter(None, places)]
        more = f" and {len(words) - MOST_NAMED:,} more" if len(words) > MOST_NAMED else ""
        return "; ".join(words[:MOST_NAMED]) + more

    def plan_of(self, runs: Sequence[RunRequest], there: WantedEngine) -> Plan:
        """Return the plan of runs of one sweep; LimitError where adapters of a rented machine have no room here."""
        expected_of, engine = self._api.runs.expected_of, self.get(there.engine)
        if engine.name == HF_JOBS:
            rented, limit = engine.offer(self._require_login(), there.options)
            expected, bill = expected_of(runs, self._rented(rented)), engine.bill(runs[0].sweep_id)
            offer = Offer(
                flavor=rented,
                usd=cost_range(expected.seconds, rented.usd_per_minute) if expected.seconds else None,
                limit_usd=limit,
                bill=bill,
                timeout_seconds=seconds_left(limit, bill.most_usd, rented.usd_per_minute),
            )
            engine.require_room(sum(all_adapters_bytes(run, expected.ranks[run.r].adapter_bytes) for run in runs))
            return Plan(expected=expected, offer=offer)
        if engine.name == LOCAL:
            return Plan(expected=expected_of(runs), notes=self._api.machine.warnings(runs[0].training, runs[0].base))
        environment = self.environment(engine.name)
        if environment is None:
            return Plan(expected=None, not_known=NOT_KNOWN.format(title=self.choice(engine.name).title))
        minutes = self._workspace.limits.run_minutes if engine.is_limited else None
        parts = self._workspace.supervisor.parts(engine.name, len(runs))
        result = replace(expected_of(runs, environment), parts=parts, run_minutes=minutes)
        return Plan(expected=result, not_known="" if result.time else NO_SPEED)

    # Rented machines of Hugging Face.

    def log_out(self, visitor_id: str) -> None:
        """Forget a login. The visitor's jobs run on without being polled, and no new job starts."""
        self._jobs.logins.forget(visitor_id)

    @writes()
    def bring_back(self) -> Sequence[str]:
        """Restore runs of the visitor's jobs on Hugging Face whose sweeps are missing here, as after a restart of a
        Space, which empties its disk. Return the runs' ids. Searches once per login."""
        hub = self._login()
        if hub is None or hub.was_searched:
            return ()
        hub.was_searched = True
        owner, brought = self._workspace.rights.somebody().id, []
        try:
            for run_ids in self._jobs.restore(owner, lambda new: self._api.runs.quota.check_visitor_limits(new=new)):
                brought += run_ids
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

    def note_limit(self, sweep_id: str, offer: Offer | None) -> None:
        """Store the spending limit of a sweep on rented machines, which applies to all its later jobs. Raise OSError
        where that fails. For a sweep that exists, call it before more runs are queued: a job may start at once."""
        if offer:
            self._jobs.ledger.note(sweep_id, limit=offer.limit_usd)

    def still_costs(self, sweep: Sweep) -> str:
        """Return sentences on a job that still runs and costs money although its sweep is cancelled, or that may, as it
        cannot be read; empty without such a job."""
        if not sweep.ended or not any(run.state == "cancelled" and run.engine == HF_JOBS for run in sweep.runs):
            return ""
        try:
            jobs = self._jobs.jobs(sweep.sweep_id).values() if self._api.runs.is_mine(sweep.sweep_id) else ()
        except EngineUnavailableError as error:
            return str(error)
        owner = next((job.terms.owner for job in jobs if job.submitted and not job.end), None)
        if owner is None:
            return ""
        logins = self._jobs.logins
        return f"{STILL_COSTS} {'' if logins.of(owner) else logins.sentence(owner)}".strip()

    @property
    def _jobs(self) -> HfJobs:
        return self._workspace.supervisor.by_name.get(HF_JOBS)

    def _login(self) -> Hub | None:
        """Return the login in this request on a shared page. A stored login is never used there, since somebody else
        may have got the browser's cookie. On other pages, return the machine's login."""
        visitor = self._workspace.visitor
        if not self._workspace.shared:
            return self._jobs.logins.of("")
        if (login := visitor.login) is None:
            return None
        return self._jobs.logins.give(visitor.id, login.token, visitor.name, login.expires_at, came_at=login.came_at)

    def _require_login(self) -> Hub:
        if (hub := self._login()) is None:
            raise EngineUnavailableError(LOG_IN if self._workspace.shared else SET_TOKEN)
        return hub

    def _rented(self, flavor: Flavor) -> Mapping[str, Any]:
        """Return the environment on a rented machine."""
        if rows := hardware.gpus_of_model(self._workspace.gpus, flavor.gpu, flavor.memory_bytes):
            return hardware.environment_of(rows[0])
        device = "cuda" if flavor.gpu else "cpu"
        return {"device": device, "device_name": flavor.label, "device_memory_bytes": flavor.memory_bytes}

    # Cost so far.

    def spent(self, sweep: Sweep) -> Spent:
        """Return the cost of all runs of a sweep; that of rented machines only for the visitor who pays."""
        spent = device_time(sweep.runs, time.time())
        if sweep.recorded or not self._api.runs.is_mine(sweep.sweep_id):
            return spent
        has_jobs = (self._workspace.home / HF_JOBS).is_dir()  # else none was sent, and no engine need be loaded
        engine, limit = (self._jobs, self.limit(sweep)) if has_jobs else (None, None)
        try:
            if engine and (bill := engine.bill(sweep.sweep_id)).jobs:
                for job in engine.jobs(sweep.sweep_id).values() if limit else ():
                    limit = max(limit, job.terms.limit_usd)  # one that was started with a higher limit keeps it
                most = max(limit, bill.most_usd) if limit else None
                return replace(spent, is_rented=True, usd=bill.usd, usd_is_whole=bill.is_whole, limit_usd=most)
        except EngineUnavailableError:  # what jobs have cost cannot be read
            return replace(spent, is_rented=True, usd_is_whole=False, limit_usd=limit)
        if any(run.engine == HF_JOBS and run.started_at is not None for run in sweep.runs):
            return replace(spent, is_rented=True, usd_is_whole=False)  # it was imported, say
        return spent

    def limit(self, sweep: Sweep) -> float | None:
        """Return a sweep's latest spending limit (US dollars); None without one, or where it cannot be read."""
        with suppress(EngineUnavailableError):
            return self.given_limit(sweep)
        return None

    def given_limit(self, sweep: Sweep) -> float | None:
        """Return the spending limit (US dollars) that a sweep was last given, even if it has moved to another engine;
        None if it never had one. EngineUnavailableError where the limit cannot be read."""
        engine = self._jobs
        if engine and (given := engine.ledger.limit(sweep.sweep_id)) is not None:
            return given
        for run in sorted(sweep.runs, key=queued_at, reverse=True):  # before its first job, of an earlier version
            destination = read_destination(self._workspace.store.run_dir(run.run_id))
            if destination.engine == HF_JOBS and (spend := destination.options.get("spend")):
                return float(spend)
        return None
