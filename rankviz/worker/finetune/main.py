"""Runs `python -m rankviz.worker finetune HOME RUN_ID@ATTEMPT ...`: it loads the base once for all runs.
HOME is a runs folder, or a folder with these runs in the same layout (jobs.bundle). No attempt means the current one.
Each run attaches a new adapter to the base and detaches it. After a failed run the base is loaded again unless it is
intact; after a failure of the GPU itself, this process ends and leaves other runs to the next."""

import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from rankviz import dataset
from rankviz.core.runs import events
from rankviz.core.runs.events import DISK_FULL, GPU_LOST, Attempt
from rankviz.core.runs.request import most_download_bytes
from rankviz.errors import LimitError, UserError
from rankviz.machine import disk
from rankviz.references import Reference
from rankviz.store import RunStore
from rankviz.worker import base as bases
from rankviz.worker import device
from rankviz.worker.journal import Journal, admit, limits_of, redirect_output


def main(argv: Sequence[str]) -> int:
    home, attempts = Path(argv[0]).resolve(), [Attempt.parse(text) for text in argv[1:]]
    store = RunStore(home)
    device.set_environment()
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
            base, data = admit(store, journal.request)
        except UserError as error:
            journal.fail(error)
            continue
        try:
            if session is None or not session.intact:
                session = None  # frees the old base before the new one is loaded
                session = _load(journal, base, data, attempts)
            session.run(journal)
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
    """Fail all runs that have not begun, with the error that kept the base or the data from loading."""
    for other in attempts:
        if store.begin(*other):
            Journal(store, *other).fail(error)


def watched_download(journal: Journal, attempts: Sequence[Attempt]) -> bases.Download:
    """Return the watch over a base's download; above the owner's limit it fails all runs and ends this process."""
    from rankviz.hub.reach import cache_folder, weight_bytes_to_fetch

    def stop(error: LimitError) -> None:
        journal.fail(error)
        _fail_all(journal.store, attempts, error)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(1)

    most = most_download_bytes(limits_of(journal.store, journal.run_id))
    return bases.Download(journal, cache_folder(), weight_bytes_to_fetch, most, stop)


def _load(journal: Journal, reference: Reference, data: Reference, attempts: Sequence[Attempt]):
    """Import Unsloth and load the base and the data, reporting stages. HF_HUB_OFFLINE is set first, because the Hub's
    client reads it once, when it is imported."""
    journal.begin("reading the data")
    rows = dataset.read(data.text, columns=journal.request.columns)
    journal.begin("getting the base")
    base = bases.resolve(reference, journal.store.home, journal.begin)
    if base.is_local:
        os.environ["HF_HUB_OFFLINE"] = "1"
    journal.begin(events.IMPORTING)
    from rankviz.worker.finetune.session import Session

    download = None if base.is_local else watched_download(journal, attempts)
    return Session(journal, base, rows, download)
