"""Measures peak memory in each part of a training step, and step times. In Unsloth's runs, import Unsloth first."""

import time
from typing import Any

from transformers import TrainerCallback

from rankviz.core.probe import TIMED_SECONDS
from rankviz.worker.device import Memory, ProcessorClock

MOMENTS = ("forward", "backward", "optimizer")


class Moments(TrainerCallback):
    """Peak bytes of forward (with the loss), backward (with clipping) and optimizer, each of which grows with depth in
    its own way. Pass it to a trainer as a callback, then call `watch` with that trainer."""

    def __init__(self, memory: Memory, *, timed_steps: int):
        """Training stops after the first step and at least `timed_steps` more that together take TIMED_SECONDS."""
        self._memory, self._least_steps = memory, 1 + timed_steps
        self.peaks: dict[str, int] = dict.fromkeys(MOMENTS, 0)
        """Highest bytes over all steps, by part of a step."""
        self.peak_reserved_bytes: int | None = None
        self.step_seconds: list[float] = []
        """Seconds from the end of one step to the end of the next."""
        self._since = 0.0
        self._clock: ProcessorClock | None = None

    @property
    def busy_elsewhere(self) -> float:
        """Share of this machine's CPU time that other processes used while steps were timed, from 0 to 1."""
        return self._clock.busy_elsewhere if self._clock is not None else 0.0

    def watch(self, trainer: Any) -> None:
        """Separate forward from backward, by wrapping the backward call of the trainer's accelerator."""
        backward = trainer.accelerator.backward

        def noting(*args: Any, **kwargs: Any) -> Any:
            self._note("forward")
            try:
                return backward(*args, **kwargs)
            finally:
                self._note("backward")

        trainer.accelerator.backward = noting

    def on_train_begin(self, args, state, control, **kwargs):
        self._since = time.perf_counter()

    def on_step_begin(self, args, state, control, **kwargs):
        self._memory.reset()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self._note("backward")

    def on_optimizer_step(self, args, state, control, **kwargs):
        self._note("optimizer")

    def on_log(self, args, state, control, logs=None, **kwargs):
        # Logging reads the loss, which on a GPU waits until the step is done.
        if logs and "loss" in logs:
            now = time.perf_counter()
            self.step_seconds.append(now - self._since)
            self._since = now
            self._clock = self._clock or ProcessorClock()
            if len(self.step_seconds) >= self._least_steps and sum(self.step_seconds[1:]) >= TIMED_SECONDS:
                control.should_training_stop = True

    def _note(self, moment: str) -> None:
        self.peaks[moment] = max(self.peaks[moment], self._memory.peak())
        reserved = self._memory.peak_reserved()
        self.peak_reserved_bytes = reserved and max(reserved, self.peak_reserved_bytes or 0)
        self._memory.reset()
