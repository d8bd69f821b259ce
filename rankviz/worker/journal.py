"""The common work of all workers: the request checked again, environment, log, journal, errors as one sentence."""

import contextlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from rankviz.core.probe import ProbeRequest
from rankviz.core.runs.events import DISK_FULL, RunEvent, RunFailed
from rankviz.core.runs.request import RunRequest, check_run, check_step, most_download_bytes
from rankviz.errors import UnknownModelError
from rankviz.logs import print_error
from rankviz.machine import disk
from rankviz.references import Reference, References
from rankviz.settings import Limits, Settings, read
from rankviz.store import RunStore
from rankviz.worker import device
from rankviz.worker.stages import Stages

SHORT_SPIN = "1000"
"""How often a thread looks for work before it sleeps, where libgomp's own 300,000 (several ms) would have it burn the
time that the thread it waits for needs: with 3 to 4 other busy programs on two CPUs, products of 256 × 256 took 100 to
2,500 ms of processor time per 100 without this and 40 to 55 ms with it. libgomp itself takes 100 to 1,000 where it
knows of more threads than CPUs."""


def set_environment() -> None:
    """Before the first import of anything that reads it: no telemetry, no thread-pool warnings, no trackers, and
    threads that share the processor with other programs. What the user has set for threads stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SHORT_SPIN)
    os.environ.update(
        {
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            "UNSLOTH_DISABLE_STATISTICS": "1",
            "WANDB_DISABLED": "true",
            "PYTHONUNBUFFERED": "1",
        }
    )


def redirect_output(log: Path) -> None:
    """Let everything that is printed from here on, by C code too, go to this run's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


class Journal:
    """The journal of a run or a probe, as its worker writes it: each line with the attempt that it is of."""

    def __init__(self, store: RunStore, run_id: str, attempt: int = 0):
        """attempt: 0 is the current one."""
        record = store.record(run_id)
        self.store, self.run_id, self.request = store, run_id, record.request
        self._attempt = attempt or record.attempt
        self.stages = Stages(self.append)

    def append(self, event: RunEvent) -> None:
        self.store.append(self.run_id, replace(event, attempt=self._attempt))

    def fail(self, error: Exception) -> int:
        """Write down why this run ends, and return the exit code that says it. On a full disk that code may be all
        that is left of it."""
        full = disk.is_of_a_full_disk(error, self.store.home)
        with contextlib.suppress(OSError):
            print_error(error)
        tail = self.store.log_tail(self.run_id)
        sentence = disk.FULL_SENTENCE if full else explain(error)
        try:
            self.append(RunFailed(time=time.time(), error=sentence, log_tail=tail))
        except OSError:
            if not full:
                raise
        return DISK_FULL if full else 1


def explain(error: Exception) -> str:
    """One sentence for whoever started the run."""
    from rankviz.errors import RankVizError

    if isinstance(error, RankVizError):
        return str(error)
    if device.ran_out_of_memory(error):
        return (
            "Out of memory. Lower the batch size or max_length, choose precision nf4-dq on a GPU, target fewer "
            "modules, or choose a smaller base."
        )
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    what = f"{type(error).__name__}: {first_line}"
    if device.is_lost(error):
        return (
            f"The GPU failed in a way that only a new process can recover from ({what}). The other runs go on in one. "
            "If it happens again, run `rankviz doctor`, and look for Xid errors of the driver (`dmesg`)."
        )
    return what


def admit(store: RunStore, request: RunRequest) -> tuple[Reference, Reference]:
    """The base and the data of a run, which may be trained with them; a UserError says why not.

    A run that has an owner was made on a shared page, whatever holds now; one that has none is the host's.
    """
    request.validate()
    owner = store.ownership(request.run_id).owner
    check_run(request, _limits(store, owner))
    known = References.of_runs(store.home, owner)
    base, data = known.base(request.base), known.data(request.data)
    refuse_shadowed(base)
    return base, data


def most_to_fetch(store: RunStore, run_id: str) -> int | None:
    """Bytes that may be fetched of the base of a run; None is no limit."""
    return most_download_bytes(_limits(store, store.ownership(run_id).owner))


def admit_probe(store: RunStore, request: ProbeRequest) -> None:
    """A UserError where a probe is none that may run here. Its model is the config that lies beside it."""
    request.validate()
    check_step(request.lora.r, request.training, _limits(store, store.ownership(request.run_id).owner))


def _limits(store: RunStore, owner: str) -> Limits:
    shared = {"shared": True} if owner else {}
    return read(Settings, home=store.home, **shared).limits


def refuse_shadowed(base: Reference) -> None:
    """Loaders prefer a folder under the working directory, the runs folder, to the repository of the same name."""
    if base.kind == "hub" and Path(base.text).exists():
        raise UnknownModelError(base.text, reason="and a folder of the runs folder has this name")
