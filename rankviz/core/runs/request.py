"""What is asked: one run, or a sweep of runs that share base, data, data order and held-out set."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rankviz.core.cost.setup import OPTIMIZERS, PRECISIONS
from rankviz.core.lora.config import MAX_RANK, lora_alpha
from rankviz.errors import InvalidSettingError

MAX_RUNS = 256
"""Of one sweep: a week of short runs; more is a mistake of typing."""
VERDICT_SEEDS = 3
"""As many as a sweep takes if nobody says otherwise: with fewer the noise between runs is hardly known."""
RECOVERED_BELOW = 8
"""Cuts to lower ranks than this lose enough for a few steps of training to pay (`make fidelity`)."""
RECOVERY_SHARE = 0.04
LEAST_RECOVERY_STEPS = 2
RECOVERY_LEARNING_RATE_SHARE = 0.3
"""Of the run's learning rate, falling to 0 over the recovery steps."""
WARMUP_STEPS_SHARE = 0.05
"""Learning rate: linear from 0 over this share of the steps (none of fewer than ten), then linear down to 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What was asked of one run; request.json, written once."""

    run_id: str
    sweep_id: str
    created_at: float
    base: str
    """"embedded" (SmolLM2-135M-Instruct from its PyPI wheel), a local folder, or a Hub id."""
    data: str
    """A shipped sample's id ("phonemes", "syllables") or the path of a JSONL, CSV or Parquet file."""
    r: int
    lora_alpha: float
    target_modules: str | tuple[str, ...] = "unsloth"
    use_rslora: bool = False
    use_dora: bool = False
    learning_rate: float = 1e-3
    seed: int = 0
    """Of the adapter's initialisation and of the order of the training rows. The held-out rows don't depend on it."""
    max_steps: int = 40
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    max_length: int = 256
    held_out_examples: int = 64
    precision: str = "auto"
    """"auto" is nf4-dq where CUDA is there and fp32 on the CPU; or one of core.cost.setup.PRECISIONS."""
    optim: str = "auto"
    """"auto" is adamw_8bit where CUDA is there and adamw_torch on the CPU."""
    cut_ranks: tuple[int, ...] = ()
    """Lower ranks that the trained adapter is cut to, each evaluated: a fast curve. Empty for an ordinary run."""

    def recovery_steps(self, r: int) -> int:
        """Steps that the cut to r is trained on, at its own rank, before it is evaluated. It is made of the next higher
        cut as that was trained, so steps add up on the way down."""
        if r >= RECOVERED_BELOW:
            return 0
        return max(LEAST_RECOVERY_STEPS, round(RECOVERY_SHARE * self.max_steps))

    @property
    def warmup_steps(self) -> int:
        return round(WARMUP_STEPS_SHARE * self.max_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRequest:
    """A sweep: every rank × learning rate × seed, on the same data and held-out set, the base loaded once."""

    base: str = "embedded"
    data: str = "phonemes"
    ranks: tuple[int, ...] = (4, 16, 64)
    alpha: str = "32"
    """"r", "2r" or a number held fixed over the ranks."""
    learning_rates: tuple[float, ...] = (1e-3,)
    seeds: tuple[int, ...] = (0,)
    max_steps: int = 40
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    max_length: int = 256
    held_out_examples: int = 64
    target_modules: str | tuple[str, ...] = "unsloth"
    use_rslora: bool = False
    use_dora: bool = False
    precision: str = "auto"
    optim: str = "auto"
    cut_ranks: tuple[int, ...] = ()
    """A fast curve: the highest of `ranks` is trained and cut to these; lower ones of `ranks` are its anchors."""

    def runs(self, *, sweep_id: str, created_at: float) -> Sequence[RunRequest]:
        """One request a run, in the order they will run: a whole curve for the first seed and learning rate, small
        ranks first, then the next learning rate, then the next seed. What is named twice runs once."""
        self.validate()
        grid = [
            (seed, learning_rate, r)
            for seed in dict.fromkeys(self.seeds)
            for learning_rate in dict.fromkeys(self.learning_rates)
            for r in sorted(set(self.ranks))
        ]
        return tuple(
            RunRequest(
                run_id=f"{sweep_id}-{number:03d}-r{r}",
                sweep_id=sweep_id,
                created_at=created_at,
                base=self.base,
                data=self.data,
                r=r,
                lora_alpha=lora_alpha(self.alpha, r),
                target_modules=self.target_modules,
                use_rslora=self.use_rslora,
                use_dora=self.use_dora,
                learning_rate=learning_rate,
                seed=seed,
                max_steps=self.max_steps,
                per_device_train_batch_size=self.per_device_train_batch_size,
                gradient_accumulation_steps=self.gradient_accumulation_steps,
                max_length=self.max_length,
                held_out_examples=self.held_out_examples,
                precision=self.precision,
                optim=self.optim,
                cut_ranks=tuple(sorted(set(self.cut_ranks), reverse=True)) if r == max(self.ranks) else (),
            )
            for number, (seed, learning_rate, r) in enumerate(grid, start=1)
        )

    def validate(self) -> None:
        """Raise InvalidSettingError for the first setting that can't be trained with."""
        if not self.base.strip():
            raise InvalidSettingError('Choose a base: "embedded", a folder or a Hub id.')
        if not self.data.strip():
            raise InvalidSettingError('Choose data: a sample ("phonemes", "syllables") or a file.')
        for name, values in (("rank", self.ranks), ("learning rate", self.learning_rates), ("seed", self.seeds)):
            if not values:
                raise InvalidSettingError(f"A sweep needs at least one {name}.")
        for r in self.ranks:
            _whole("The rank", r, 1, MAX_RANK)
            lora_alpha(self.alpha, r)
        self._validate_cuts()
        for learning_rate in self.learning_rates:
            if not (math.isfinite(learning_rate) and 0 < learning_rate <= 1):
                raise InvalidSettingError(f"A learning rate is above 0 and at most 1, not {learning_rate:g}.")
        for seed in self.seeds:
            _whole("A seed", seed, 0, 2**32 - 1)
        _whole("Steps", self.max_steps, 1, 1_000_000)
        _whole("The batch size", self.per_device_train_batch_size, 1, 4096)
        _whole("Gradient accumulation", self.gradient_accumulation_steps, 1, 4096)
        _whole("The longest example (max_length)", self.max_length, 8, 2**20)
        _whole("Held-out examples", self.held_out_examples, 1, 100_000)
        if not self.target_modules or not all(self.target_modules):
            raise InvalidSettingError("Name at least one target module, or a preset such as all-linear.")
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("optim", self.optim, OPTIMIZERS)
        runs = len(set(self.ranks)) * len(set(self.learning_rates)) * len(set(self.seeds))
        if runs > MAX_RUNS:
            raise InvalidSettingError(
                f"{runs} runs in one sweep; at most {MAX_RUNS}. Take fewer ranks, learning rates or seeds."
            )

    def _validate_cuts(self) -> None:
        for r in self.cut_ranks:
            _whole("A rank to cut to", r, 1, max(self.ranks))
            if r >= max(self.ranks):
                raise InvalidSettingError(f"The highest rank is {max(self.ranks)}, so it can't be cut to {r}: lower.")
        if self.cut_ranks and self.use_dora:
            raise InvalidSettingError("A fast curve cuts B·A, and a DoRA adapter is more than that: turn DoRA off.")


def fast_ranks(ranks: Iterable[int], anchors: Iterable[int] = ()) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(ranks to train, ranks to cut to) of a fast curve over these ranks, with anchors that are trained by themselves
    too."""
    known, beside = sorted(set(ranks)), set(anchors)
    if len(known) < 2:
        raise InvalidSettingError("A fast curve is cut from its highest rank to lower ones: take two ranks or more.")
    *lower, top = known
    if wrong := sorted(anchor for anchor in beside if anchor >= top):
        raise InvalidSettingError(f"Anchors are lower than the rank that is cut, r = {top}, and {wrong[0]} is not.")
    return tuple(sorted({top, *beside})), tuple(sorted({*lower, *beside}))


def _whole(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidSettingError(f"{name} must be a whole number from {low:,} to {high:,}, not {value}.")


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in ("auto", *known):
        raise InvalidSettingError(f"{name} is one of auto, {', '.join(known)}, not {value!r}.")
