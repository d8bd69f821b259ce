"""Looks for libraries that the light install lacks, such as torch and pyarrow, without importing them."""

import os
from functools import cache
from importlib.util import find_spec

from rankviz import visitor
from rankviz.errors import NotInstalledError

TRAINER = ("torch", "transformers", "peft", "trl", "unsloth", "datasets")
INSTEAD = (
    "To train, take a notebook for Colab (Export on Explore), or install RankViz on a machine of your own. You can "
    "import on Runs what you train there."
)
LACKED = (
    "Models outside the catalogue and memory probes need the trainer too, and Parquet files need pyarrow, which comes "
    "with it; all else works."
)
ON_ZERO_GPU = (
    "This Space runs on ZeroGPU. It lends a GPU for about a minute at a time, and a training needs it for longer, so "
    f"nothing can be trained here. {INSTEAD} The Space can also be duplicated with other hardware."
)
NO_TRAINER_HERE = f"This page has no trainer, so nothing can be trained here. {LACKED} {INSTEAD}"


def missing_trainer(activity: str) -> str:
    """Return a sentence on how to add the trainer, to visitors who can; empty where it is installed. activity: what
    needs the trainer, such as "Training"."""
    if has(*TRAINER):
        return ""
    return _lacks(f"{activity} needs the trainer", "pip install '.[train]' in the RankViz folder")


def why_not_train(*, shared: bool) -> str:
    """Return why nothing can be trained here, apart from disk space, and what to do instead; empty where training is
    possible. shared: True where strangers use this page, who cannot install anything."""
    if os.environ.get("SPACES_ZERO_GPU", "").lower() not in ("", "0", "false"):
        return ON_ZERO_GPU if has(*TRAINER) else f"{ON_ZERO_GPU} {LACKED}"
    missing = missing_trainer("Training")
    return NO_TRAINER_HERE if missing and shared else missing


def require_trainer(activity: str) -> None:
    """Raise NotInstalledError where the trainer is missing."""
    if message := missing_trainer(activity):
        raise NotInstalledError(message)


def require_pyarrow() -> None:
    """Raise NotInstalledError where pyarrow is missing, which reads and writes Parquet files and takes 170 MB."""
    if not has("pyarrow"):
        raise NotInstalledError(_lacks("Parquet needs pyarrow", "pip install pyarrow", instead="use CSV"))


def require_trackio() -> None:
    """Raise NotInstalledError where Trackio is missing."""
    if not has("trackio"):
        raise NotInstalledError(_lacks("This needs Trackio", "pip install '.[trackio]' in the RankViz folder"))


def _lacks(need: str, command: str, instead: str = "") -> str:
    """Return the sentence on a missing library. command: adds the library; hidden from visitors of a shared page, who
    cannot run it. instead: what anybody can do."""
    if (asks := visitor.current()) and asks.id and not asks.admin:
        return f"{need}, which this page does not have{instead and f': {instead}'}."
    return f"{need}, which is not installed: run {command} to add it{instead and f', or {instead}'}."


@cache
def has(*libraries: str) -> bool:
    """Tell whether all these libraries are installed."""
    return all(find_spec(name) is not None for name in libraries)
