"""Work that all workers share: checking the request again, environment, log, journal with stages, error messages."""

import contextlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from rankviz.core.probe import ProbeRequest
from rankviz.core.runs.events import DISK_FULL, RunEvent, RunFailed, StageProgressed, StageReached
from rankviz.core.runs.request import RunRequest, check_run_settings, check_setting_limits
from rankviz.errors import RankVizError, UnknownModelError
from rankviz.logs import print_error
from rankviz.machine import disk
from rankviz.references import Reference, References
from rankviz.settings import Limits, read
from rankviz.store import RunStore
from rankviz.worker import device

EVERY_SECONDS = 1.0


def redirect_output(log: Path) -> None:
    """Send everything printed from here on, also by C code, to this run's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


class Journal:
    """Journal of an attempt at a run or a probe: stages when they begin, and progress about once a second."""

    def __init__(self, store: RunStore, run_id: str, attempt: int = 0):
        """attempt: 0 for the current attempt."""
        record = store.record(run_id)
        self.store, self.run_id, self.request = store, run_id, record.request
        self.folder = store.run_dir(run_id)
        self._attempt, self._written_at = attempt or record.attempt, 0.0

    def append(self, event: RunEvent) -> None:
        self.store.append(self.run_id, replace(event, attempt=self._attempt))

    def begin(self, stage: str) -> None:
        self.append(StageReached(time=time.time(), stage=stage))
        self._written_at = time.monotonic()

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """Write progress, at most once a second and not in a stage's first second. total: None if not known."""
        if time.monotonic() - self._written_at >= EVERY_SECONDS:
            self.append(StageProgressed(time=time.time(), done=done, total=total, unit=unit))
            self._written_at = time.monotonic()

    def fail(self, error: Exception) -> int:
        """Record the error that ends this run; return its exit code, on a full disk perhaps the only record."""
        full = disk.is_of_a_full_disk(error, self.store.home)
        with contextlib.suppress(OSError):
            print_error(error)
        tail = self.store.log_tail(self.run_id)
        try:
            self.append(
                RunFailed(time=time.time(), error=disk.FULL_SENTENCE if full else explain(error), log_tail=tail)
            )
        except OSError:
            if not full:
                raise
        return DISK_FULL if full else 1


def explain(error: Exception) -> str:
    """Return one sentence on an error for the person who started the run."""
    if isinstance(error, RankVizError):
        return str(error)
    if device.ran_out_of_memory(error):
        return "Out of memory. Lower the batch size or max_length, or choose nf4-dq, fewer modules or a smaller base."
    first, *_ = str(error).strip().splitlines() or ["no message"]
    what = f"{type(error).__name__}: {first}"
    if device.is_lost(error):
        return (
            f"The GPU failed in a way that only a new process can recover from ({what}). The other runs go on in one. "
            "If it happens again, run `rankviz doctor`, and look for Xid errors of the driver (`dmesg`)."
        )
    return what


def limits_of(store: RunStore, run_id: str) -> Limits:
    """Return the limits of a run or a probe. Runs and probes with an owner were made on a shared page and keep its
    limits, also if the page is no longer shared."""
    owner = store.ownership(run_id).owner
    return read(home=store.home, **({"shared": True} if owner else {})).limits


def admit(store: RunStore, request: RunRequest) -> tuple[Reference, Reference]:
    """Return the base and the data of a run after checking the request; raise UserError where it may not be trained."""
    request.validate()
    check_run_settings([request], limits_of(store, request.run_id))
    known = References.of_runs(store.home, store.ownership(request.run_id).owner)
    base, data = known.base(request.base), known.data(request.data)
    if base.kind == "hub" and Path(base.text).exists():  # loaders would prefer the folder, here in the runs folder
        raise UnknownModelError(base.text, reason="and a folder of the runs folder has this name")
    return base, data


def admit_probe(store: RunStore, request: ProbeRequest) -> None:
    """Raise UserError for a probe that may not run here. Its model is the config.json in the probe's folder."""
    request.validate()
    limits = limits_of(store, request.run_id)
    check_setting_limits(limits, rank=request.lora.r, tokens_per_batch=request.training.tokens_per_micro_step)
