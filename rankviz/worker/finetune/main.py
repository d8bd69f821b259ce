"""Runs `python -m rankviz.worker finetune HOME RUN_ID@ATTEMPT ...`: it loads the base once for all runs.

HOME is a runs folder, or any folder that holds these runs as one does (engines.bundle makes it). Without an attempt the
current one is taken.

The true Unsloth path: FastLanguageModel.from_pretrained and get_peft_model, then TRL's SFTTrainer; 4-bit where CUDA is
there, Unsloth's CPU backend where it isn't. Each run attaches a fresh adapter to the same base and takes it off again.
A run that fails leaves the next one a base as it was, loaded again where need be; where the GPU itself has failed,
this process ends and leaves the other runs to the next.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import psutil

from rankviz.core.runs.events import (
    DISK_FULL,
    GETTING_BASE,
    GPU_LOST,
    IMPORTING,
    READING_DATA,
    Attempt,
)
from rankviz.errors import LimitError, UserError
from rankviz.machine import disk, load_average
from rankviz.references import Reference
from rankviz.store import RunStore
from rankviz.worker import device
from rankviz.worker.downloads import DownloadLimit
from rankviz.worker.journal import Journal, admit, most_to_fetch, redirect_output, set_environment
from rankviz.worker.memory import ProcessorClock
from rankviz.worker.stages import UNSLOTH_MODULES, UNWATCHED


def main(argv: Sequence[str]) -> int:
    home, attempts = Path(argv[0]).resolve(), [Attempt.parse(text) for text in argv[1:]]
    store = RunStore(home)
    set_environment()
    os.chdir(home)  # Unsloth writes its compiled cache into the working directory
    session = None
    for run_id, attempt in attempts:
        try:
            if not store.begin(run_id, attempt):
                continue
            redirect_output(store.run_dir(run_id) / "worker.log")
        except OSError as error:
            return DISK_FULL if disk.is_of_a_full_disk(error, home) else 1
        journal = Journal(store, run_id, attempt)
        try:
            given, data = admit(store, journal.request)
        except UserError as error:
            journal.fail(error)
            continue
        try:
            if session is None or not session.intact:
                session = None  # frees the old base before the new one is loaded
                bounded = partial(_download_bounded, store, journal, attempts)
                session = _load(journal, home, given, data, bounded)
            session.run(journal.request, journal.append, store.run_dir(run_id))
        except Exception as error:
            exit_code = journal.fail(error)
            if device.is_lost(error):
                return GPU_LOST
            if exit_code == DISK_FULL:
                return exit_code  # the runs that have not begun wait until there is room
            if session is None:
                _fail_all(store, attempts, error)
                return 1
    return 0


def _fail_all(store: RunStore, attempts: Sequence[Attempt], error: Exception) -> None:
    """What keeps the base or the data from loading keeps it from the runs that have not begun too."""
    for other in attempts:
        if store.begin(*other):
            Journal(store, *other).fail(error)


@contextmanager
def _download_bounded(store: RunStore, journal: Journal, attempts: Sequence[Attempt]) -> Iterator[None]:
    """Around what fetches and loads a base: no more of it comes than the server allows."""
    most = most_to_fetch(store, journal.run_id)
    if most is None:
        yield
        return
    from rankviz.hub.reach import cache_folder

    def stop(error: LimitError) -> None:
        journal.fail(error)
        _fail_all(store, attempts, error)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(1)

    with UNWATCHED.watched(DownloadLimit(cache_folder(), most, stop).look):
        yield


def _load(
    journal: Journal, home: Path, given: Reference, data: Reference, bounded: Callable[[], AbstractContextManager]
):
    """Import and load step by step, saying so. Offline is set first: it is read once, when the Hub's client loads.

    bounded: around what fetches a base from the Hub.
    """
    from rankviz import dataset
    from rankviz.worker.finetune import base as bases

    clock, average, stages = ProcessorClock(), load_average(), journal.stages
    stages.begin(READING_DATA)
    rows = dataset.read(data.text)
    stages.begin(GETTING_BASE)
    base = bases.resolve(given, home, stages)
    if base.is_local:
        os.environ["HF_HUB_OFFLINE"] = "1"
    stages.begin(IMPORTING)
    with stages.imports(UNSLOTH_MODULES):
        from rankviz.worker.finetune.session import Session

    with nullcontext() if base.is_local else bounded():
        session = Session.load(journal.request, base, rows, stages)
    spent = {f"loading_{name}": seconds for name, seconds in clock.read().fields.items()}
    session.loading = {"load_average": average, **spent}
    return session
