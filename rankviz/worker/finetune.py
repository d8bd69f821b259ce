"""python -m rankviz.worker finetune HOME RUN_ID ...: real runs, the base loaded once for all of them.

The true Unsloth path: FastLanguageModel.from_pretrained and get_peft_model, then TRL's SFTTrainer; 4-bit where CUDA is
there, Unsloth's CPU backend where it isn't. Each run attaches a fresh adapter to the same base and takes it off again.
"""

import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from rankviz.core.run import RunEvent, RunFailed, StageReached
from rankviz.store import RunStore


def main(argv: Sequence[str]) -> int:
    home, run_ids = Path(argv[0]).resolve(), list(argv[1:])
    store = RunStore(home)
    set_environment()
    os.chdir(home)  # Unsloth writes its compiled cache into the working directory
    session = None
    for run_id in run_ids:
        if not store.begin(run_id):
            continue
        journal = Journal(store, run_id)
        redirect_output(store.run_dir(run_id) / "worker.log")
        try:
            if session is None:
                session = _load(journal, home)
            session.run(journal.request, journal.append, store.run_dir(run_id))
        except Exception as error:
            journal.fail(error)
            if session is None:
                # What keeps the base or the data from loading keeps it from the other runs too.
                for other in run_ids:
                    if store.begin(other):
                        Journal(store, other).fail(error)
                return 1
    return 0


def set_environment() -> None:
    """Before the first import of anything that reads it: no telemetry, no thread-pool warnings, no trackers."""
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
    """The journal of a run or a probe, as its worker writes it."""

    def __init__(self, store: RunStore, run_id: str):
        self.store, self.run_id = store, run_id
        self.request = store.record(run_id).request

    def append(self, event: RunEvent) -> None:
        self.store.append(self.run_id, event)

    def stage(self, words: str) -> None:
        self.append(StageReached(time=time.time(), stage=words))

    def fail(self, error: Exception) -> None:
        traceback.print_exception(error)
        sys.stderr.flush()
        tail = self.store.log_tail(self.run_id)
        self.append(RunFailed(time=time.time(), error=explain(error), log_tail=tail))


def _load(journal: Journal, home: Path):
    """Import and load step by step, saying so. Offline is set first: it is read once, when the Hub's client loads."""
    from rankviz import dataset
    from rankviz.worker import base as bases

    journal.stage("reading the data")
    rows = dataset.read(journal.request.data)
    journal.stage("getting the base")
    base = bases.resolve(journal.request.base, home)
    if base.is_local:
        os.environ["HF_HUB_OFFLINE"] = "1"
    journal.stage("importing Unsloth")
    from rankviz.worker.session import Session

    return Session.load(journal.request, base, rows, journal.stage)


def explain(error: Exception) -> str:
    """One sentence for whoever started the run."""
    from rankviz.errors import RankVizError

    if isinstance(error, RankVizError):
        return str(error)
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return (
            "Memory ran out: lower the batch size or max_length, take nf4-dq precision where there is a GPU, target "
            "fewer modules or take a smaller base."
        )
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first_line}"
