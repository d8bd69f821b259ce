"""Runs on machines that Hugging Face rents out by the minute, on the account of whoever asks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankviz import units
from rankviz.api.runs.runs import Runs
from rankviz.api.workspace import Workspace
from rankviz.catalog import hardware
from rankviz.core.runs.estimate import saved_bytes
from rankviz.core.runs.events import HF_JOBS
from rankviz.errors import EngineUnavailableError, InvalidSettingError
from rankviz.store.ownership import WantedEngine

if TYPE_CHECKING:
    from rankviz.core.cost.setup import Device
    from rankviz.core.quantity import Range
    from rankviz.core.runs.record import Sweep
    from rankviz.core.runs.request import RunRequest, SweepRequest
    from rankviz.core.runs.sweep_time import ExpectedSweep
    from rankviz.jobs.hf_jobs import HfJobs
    from rankviz.jobs.hub import Hub
    from rankviz.jobs.prices import Flavor

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

    def __init__(self, workspace: Workspace, runs: Runs):
        self._workspace, self._runs = workspace, runs

    def why_not(self) -> str:
        """Return why they cannot rent a machine, and what to do; empty where they can. A visitor's login, which this
        request brings, is known from here on, so that what they have running is followed again."""
        if self._login() is None:
            return LOG_IN if self._workspace.shared else SET_TOKEN
        return ""

    def log_out(self, visitor_id: str) -> None:
        """Forget a login: what they have running goes on without being followed, and starts nothing."""
        self._engine.logins.forget(visitor_id)

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
