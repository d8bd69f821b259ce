"""The stages of a run in the words of its journal, and in the order in which a run goes through them."""

from collections.abc import Iterator

from rankviz import units
from rankviz.core.runs.request import RunRequest

READING_DATA = "reading the data"
GETTING_BASE = "getting the base"
IMPORTING = "importing Unsloth"
LOADING = "loading the base"
TOKENIZING = "tokenizing the data"
ATTACHING = "attaching the adapter"
EVALUATING_BASE = "evaluating the base"
PREPARING = "preparing the training rows"
TRAINING = "training"
EVALUATING_ADAPTER = "evaluating the adapter"
SAVING = "saving the adapter"
DECOMPOSING = "decomposing the adapter"

DOWNLOADING = "downloading the base"
"""Within getting or loading it, where it is not there yet."""
UNPACKING = "checking and unpacking the download"
IMPORTING_TRANSFORMERS = "importing Transformers"
CONVERTING = "converting the base"
"""After the download of the embedded model, as the two before."""
INTERRUPTIONS = (DOWNLOADING, UNPACKING, IMPORTING_TRANSFORMERS, CONVERTING)
"""Stages of a first time, after which the stage before them goes on."""

MODULES = "Python modules"
"""Unit of what an import has loaded. Its total is what the import usually loads, so about right."""

LOADING_STAGES = (READING_DATA, GETTING_BASE, IMPORTING, LOADING, TOKENIZING)
"""Of the first run of a worker."""


def counting_exact(prompts: int) -> str:
    """Answering held-out prompts, to count exact matches."""
    return f"answering {units.counted(prompts, 'held-out prompt')}"


def answering(prompts: int) -> str:
    """Answering the few held-out prompts whose answers are kept as text."""
    return f"writing {units.counted(prompts, 'held-out answer')}"


def kind_of(stage: str) -> str:
    """The stage without the number of its prompts, which may be fewer than were requested."""
    first = stage.partition(" ")[0]
    return first if first in ("answering", "writing") else stage


def truncating(r: int) -> str:
    """Truncating the trained adapter to a lower rank, training it a few steps, and evaluating it."""
    return f"truncating to r = {r}"


def stages_of(request: RunRequest, *, loads: bool) -> Iterator[str]:
    """What a run goes through. loads: whether it is the first run of its worker, which loads the base and evaluates
    it. Numbers of prompts are those requested; data with fewer prompts has other words."""
    exact, shown = (
        [words(count)] if count else []
        for words, count in ((counting_exact, request.answered_examples), (answering, request.shown_answers))
    )
    if loads:
        yield from LOADING_STAGES
    yield ATTACHING
    if loads:
        yield from (EVALUATING_BASE, *exact, *shown)
    yield from (PREPARING, TRAINING, EVALUATING_ADAPTER, *exact, *shown, SAVING)
    if request.cut_ranks:
        yield DECOMPOSING
    for r in request.cut_ranks:
        yield from (truncating(r), *exact)
