"""The rule of thumb about rank, and use cases with their ranks and amounts of data."""

from dataclasses import dataclass
from typing import NamedTuple

from rankviz.core.cost.question import ASSUMED_RANK
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.core.studies.lines import RL, TaskKind
from rankviz.errors import InvalidSettingError, quoted

LORA = "LoRA, Hu et al. 2021, arXiv 2106.09685"
QLORA = "QLoRA, Dettmers et al. 2023, arXiv 2305.14314"
REGRET = "LoRA Without Regret, Schulman et al. 2025, Thinking Machines Lab"
UNSLOTH = "Unsloth documentation, LoRA hyperparameters guide"
RECOMMENDED_RANK = ASSUMED_RANK


class RankRule(NamedTuple):
    """One line of the rule of thumb: a kind of task and its rank."""

    r: int
    label: str
    kind: str
    """Kind of task whose published scores are shown with the rule: a key of Record.gains (core.advice.advice)."""
    use: str
    reason: str
    source: str


RANK_RULES = (
    RankRule(
        8,
        "8",
        "simple",
        "Simple tasks and quick experiments",
        "The smallest file and the fastest start. It may underfit if the task is far from what the base knows.",
        LORA,
    ),
    RankRule(
        16,
        "16",
        "instruction",
        "Standard instruction tuning",
        "Unsloth's default. Choose it if the file must be small.",
        f"{UNSLOTH}; {REGRET}",
    ),
    RankRule(
        32,
        "32",
        "complex",
        "Complex tasks and domain adaptation",
        "More capacity for a new domain, code or speech. The file and the optimizer states are twice those of r = 16.",
        UNSLOTH,
    ),
    RankRule(
        64,
        "64+",
        "all",
        "Near full fine-tuning capacity",
        "Diminishing returns. Useful with large data, or if the result must come close to full fine-tuning.",
        f"{REGRET}; {LORA}",
    ),
)

DEFAULT = "instruction"


@dataclass(frozen=True, kw_only=True, slots=True)
class UseCase:
    """Recommended settings for one kind of fine-tuning."""

    name: str
    label: str
    r: int
    rule_r: int
    """Rank of the line of the rule of thumb that is shown beside r."""
    task_kinds: tuple[TaskKind, ...]
    """Kinds of study that apply; empty for all studies that include full fine-tuning."""
    learning_rate: float = 2e-4
    learning_rate_source: str = UNSLOTH
    r_range: tuple[int, int] | None = None
    """Recommended range of ranks where studies disagree, with costs shown at r; None for a single rank."""
    rates_of_instruction: bool = True
    """True where the learning rates of instruction-tuning sweeps apply."""

    @property
    def rule(self) -> RankRule:
        return next(rule for rule in RANK_RULES if rule.r == self.rule_r)


USE_CASES = (
    UseCase(name="simple", label="Quick experiment, simple task or small file", r=16, rule_r=8, task_kinds=("simple",)),
    UseCase(name=DEFAULT, label="Standard instruction tuning", r=RECOMMENDED_RANK, rule_r=16, task_kinds=(DEFAULT,)),
    UseCase(name="complex", label="Complex task or shifted domain", r=64, rule_r=32, task_kinds=("complex",)),
    UseCase(
        name="near-full",
        label="Near full fine-tuning, file size does not matter",
        r=64,
        rule_r=64,
        learning_rate_source=f"{UNSLOTH}; {REGRET} finds about ten times the rate of full fine-tuning",
        task_kinds=(),
    ),
    UseCase(
        name="pretraining",
        label="Continued pretraining",
        r=64,
        rule_r=64,
        learning_rate=5e-5,
        learning_rate_source="Unsloth documentation, continued pretraining",
        task_kinds=("pretraining",),
        rates_of_instruction=False,
    ),
    UseCase(
        name=RL,
        label="Reinforcement learning (GRPO)",
        r=16,
        rule_r=16,
        r_range=(8, 32),
        learning_rate=5e-6,
        learning_rate_source="Unsloth documentation, reinforcement learning guide",
        task_kinds=(RL,),
        rates_of_instruction=False,
    ),
)
NAMES = tuple(case.name for case in USE_CASES)


def use_case(name: str) -> UseCase:
    """Return the use case of this name; raise InvalidSettingError where there is none."""
    if name not in NAMES:
        raise InvalidSettingError(f"There is no use case {quoted(name)}: choose one of {', '.join(NAMES)}.")
    return USE_CASES[NAMES.index(name)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """Inputs of the advice, in addition to those of the estimate."""

    use_case: str = DEFAULT
    forgetting: bool = False
    """True where the base must keep its earlier abilities."""


class DataAmount(NamedTuple):
    """Amount of data that a training reaches."""

    tokens: int | None
    """Tokens trained on, repeats counted once; None where neither examples nor length are given."""
    at_most: bool
    """True where the real number may be lower: because of padding, repeats, or examples below the maximum length."""
    epochs: float | None
    """Passes over the examples; None unless both examples and training length are given."""
    examples: int | None
    """Different examples that the training reaches."""


def data_of(training: TrainingSetup) -> DataAmount:
    """Return the amount of data that the training reaches. Repeated tokens count once: they add nothing to learn. With
    GRPO, examples are prompts, and every completion is new."""
    data, known = training.data or TrainingData(), training.has_length
    rows, read = (training.total_steps * each for each in (training.rows_per_step, training.examples_per_step))
    length = min(data.mean_tokens or training.max_length, training.max_length)
    if data.examples is None:
        return DataAmount(rows * length if known else None, at_most=True, epochs=None, examples=None)
    different = seen = min(data.examples, read) if known else data.examples
    if training.grpo:
        different = rows if known else seen * training.grpo.num_generations
    return DataAmount(different * length, data.mean_tokens is None, read / data.examples if known else None, seen)
