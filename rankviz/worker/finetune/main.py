"""Runs `python -m rankviz.worker finetune HOME RUN_ID@ATTEMPT ...`: it loads the base once for all runs.

HOME is a runs folder, or any folder that holds these runs as one does (engines.bundle makes it). Without an attempt the
current one is taken.

The true Unsloth path: FastLanguageModel.from_pretrained and get_peft_model, then TRL's SFTTrainer; 4-bit where CUDA is
there, Unsloth's CPU backend where it isn't. Each run attaches a fresh adapter to the same base and takes it off again.
A run that fails leaves the next one a base as it was, loaded again where need be; where the GPU itself has failed,
this process ends and leaves the other runs to the next.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from rankviz.core.runs.attempts import Attempt
from rankviz.core.runs.events import DISK_FULL, GPU_LOST, YIELD_FILE, YIELD_VARIABLE
from rankviz.core.runs.stages import GETTING_BASE, IMPORTING, READING_DATA
from rankviz.errors import UserError
from rankviz.machine import disk, load_average
from rankviz.references import Reference
from rankviz.store import RunStore
from rankviz.worker import device
from rankviz.worker.gate import admit
from rankviz.worker.journal import Journal, redirect_output, set_environment
from rankviz.worker.processor import ProcessorClock
from rankviz.worker.stages import UNSLOTH_MODULES


def main(argv: Sequence[str]) -> int:
    home, attempts = Path(argv[0]).resolve(), [Attempt.parse(text) for text in argv[1:]]
    yield_file = home / os.environ.get(YIELD_VARIABLE, YIELD_FILE)
    store = RunStore(home)
    set_environment()
    os.chdir(home)  # Unsloth writes its compiled cache into the working directory
    session = None
    for run_id, attempt in attempts:
        if session is not None and yield_file.exists():
            return 0
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
                session = _load(journal, home, given, data)
            session.run(journal.request, journal.append, store.run_dir(run_id))
        except Exception as error:
            exit_code = journal.fail(error)
            if device.is_lost(error):
                return GPU_LOST
            if exit_code == DISK_FULL:
                return exit_code  # the runs that have not begun wait until there is room
            if session is None:
                # What keeps the base or the data from loading keeps it from the other runs too.
                for other in attempts:
                    if store.begin(*other):
                        Journal(store, *other).fail(error)
                return 1
    return 0


def _load(journal: Journal, home: Path, given: Reference, data: Reference):
    """Import and load step by step, saying so. Offline is set first: it is read once, when the Hub's client loads."""
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

    session = Session.load(journal.request, base, rows, stages)
    spent = {f"loading_{name}": seconds for name, seconds in clock.read().fields.items()}
    session.loading = {"load_average": average, **spent}
    return session
