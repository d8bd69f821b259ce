"""Counts the tensors of a base as they are loaded, by the progress bar that transformers would draw."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging

from rankviz.worker.stages import Stages

TENSORS = "tensors"


@contextmanager
def weights_followed(stages: Stages) -> Iterator[None]:
    """While the block loads, each of its bars is written as progress of the stage."""

    def follow(factory: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        bar = factory(*args, **options)
        return _FollowedBar(bar, len(args[0]), stages) if args and isinstance(args[0], Sized) else bar

    before = logging.set_tqdm_hook(follow)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


class _FollowedBar:
    """A bar, and what it has been through."""

    def __init__(self, bar: Any, total: int, stages: Stages):
        self._bar, self._total, self._stages = bar, total, stages

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self._bar):
            self._stages.progress(done, self._total, TENSORS)
            yield item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)
