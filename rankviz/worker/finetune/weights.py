"""Tells how many tensors of a base have been loaded, from the progress bar that transformers would draw."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging

from rankviz.worker.stages import Stages

TENSORS = "tensors"


@contextmanager
def weights_told(stages: Stages) -> Iterator[None]:
    """While the block loads, each of its bars is told to `stages`."""

    def told(factory: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        bar = factory(*args, **options)
        return _Told(bar, len(args[0]), stages) if args and isinstance(args[0], Sized) else bar

    before = logging.set_tqdm_hook(told)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


class _Told:
    """A bar, and what it has been through."""

    def __init__(self, bar: Any, total: int, stages: Stages):
        self._bar, self._total, self._stages = bar, total, stages

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self._bar):
            self._stages.progress(done, self._total, TENSORS)
            yield item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)
