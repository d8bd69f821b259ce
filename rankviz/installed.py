"""Checks which optional libraries, such as torch and pyarrow, are installed, without importing them."""

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


LIBRARIES = {
    "the trainer": (TRAINER, "pip install '.[train]' in the RankViz folder", ""),
    "pyarrow": (("pyarrow",), "pip install pyarrow", "use CSV"),
    "Trackio": (("trackio",), "pip install '.[trackio]' in the RankViz folder", ""),
}
"""(modules, command that installs them, alternative without them) by the name that sentences use."""


def missing(name: str, activity: str) -> str:
    """Return a sentence on how to install libraries; empty where they are installed. Visitors of a shared page cannot
    install anything, so the sentence for them has no command. name: Key of LIBRARIES. activity: Work that needs the
    libraries, such as "Training"."""
    libraries, command, instead = LIBRARIES[name]
    if has(*libraries):
        return ""
    if (asks := visitor.current()) and asks.id and not asks.admin:
        return f"{activity} needs {name}, which this page does not have{instead and f': {instead}'}."
    return f"{activity} needs {name}, which is not installed: run {command} to add it{instead and f', or {instead}'}."


def why_not_train(*, shared: bool) -> str:
    """Return why nothing can be trained here, disk space aside, and what to do instead; empty where training is
    possible. shared: True for a shared page, whose visitors cannot install anything."""
    if os.environ.get("SPACES_ZERO_GPU", "").lower() not in ("", "0", "false"):
        return ON_ZERO_GPU if has(*TRAINER) else f"{ON_ZERO_GPU} {LACKED}"
    sentence = missing("the trainer", "Training")
    return NO_TRAINER_HERE if sentence and shared else sentence


def require(name: str, activity: str) -> None:
    """Raise NotInstalledError where libraries are missing. Arguments are those of `missing`."""
    if sentence := missing(name, activity):
        raise NotInstalledError(sentence)


@cache
def has(*libraries: str) -> bool:
    """Tell whether all these libraries are installed."""
    return all(find_spec(name) is not None for name in libraries)
