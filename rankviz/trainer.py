"""Whether the trainer is installed: the libraries that train, probe and read unknown models. They are never imported
here."""

from functools import cache
from importlib.util import find_spec

from rankviz.errors import TrainerMissingError

LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth", "datasets")


@cache
def is_installed(libraries: tuple[str, ...] = LIBRARIES) -> bool:
    """Whether all these libraries are here; `pip install '.[train]'` adds them."""
    return all(find_spec(name) is not None for name in libraries)


def require(activity: str) -> None:
    """TrainerMissingError where the trainer is not installed. activity: what needs it, such as "Training"."""
    if not is_installed():
        raise TrainerMissingError(activity)
