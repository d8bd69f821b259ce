"""Holds a question at one rank, and makes copies with one setting changed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.estimate import Estimate, RankEstimate, estimate
from rankviz.core.cost.gpu import Gpu
from rankviz.core.cost.notes.truncation import truncation
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.model.spec import ModelSpec
from rankviz.core.note import Caution
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

Change = Mapping[str, Any]
"""What differs, by the names of the command line's options: {"batch": 1, "accum": 8}."""

TRAINING = {
    "framework": "framework",
    "precision": "precision",
    "batch": "per_device_train_batch_size",
    "accum": "gradient_accumulation_steps",
    "max_length": "max_length",
    "optim": "optim",
    "checkpointing": "gradient_checkpointing",
    "loss_path": "loss_path",
}
"""Option to field of TrainingSetup."""
LORA = {"targets": "target_modules", "dora": "use_dora"}
"""Option to field of LoraConfig."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One model, one rank, one card, and its answer."""

    model: ModelSpec
    question: Question
    gpu: Gpu | None
    assumptions: Assumptions
    answer: Estimate

    @classmethod
    def of(cls, answer: Estimate, r: int, assumptions: Assumptions) -> "Setting":
        """One of the ranks that an estimate was made for."""
        (row,) = (rank for rank in answer.ranks if rank.r == r)
        one = replace(answer, ranks=(row,), question=replace(answer.question, ranks=(r,)))
        return cls(model=one.model, question=one.question, gpu=one.gpu, assumptions=assumptions, answer=one)

    @property
    def row(self) -> RankEstimate:
        return self.answer.ranks[0]

    @property
    def r(self) -> int:
        return self.question.ranks[0]

    @property
    def tokens(self) -> int:
        """Tokens trained, which a change of batch or length keeps."""
        return trained_tokens(self.question.training)

    @property
    def seconds(self) -> float | None:
        """Expected time for those tokens. Part steps count in part, so that two settings can be compared."""
        return seconds_for(self.row, self.question.training, self.tokens)

    @property
    def spare(self) -> Range | None:
        """Usable memory less what nvidia-smi would show, in bytes: negative where that is more."""
        return self.row.spare

    @property
    def notes(self) -> tuple[Caution, ...]:
        """That examples are truncated, where they are."""
        return tuple(filter(None, [truncation(self.question.training)]))

    @property
    def with_full_rows(self) -> "Setting":
        """The same with every example as long as max_length, whatever the data."""
        if self.question.training.data is None:
            return self
        training = replace(self.question.training, data=None)
        return setting(self.model, replace(self.question, training=training), self.gpu, self.assumptions)

    def with_change(self, change: Change) -> "Setting":
        """InvalidSettingError where that can't be asked."""
        return setting(self.model, changed(self.question, change), self.gpu, self.assumptions)


def setting(model: ModelSpec, question: Question, gpu: Gpu | None, assumptions: Assumptions) -> Setting:
    """Ask the question, which has one rank."""
    if len(question.ranks) != 1:
        raise InvalidSettingError("What fits is worked out for one rank. Give exactly one.")
    answer = estimate(model, question, gpu, assumptions)
    return Setting(model=model, question=answer.question, gpu=gpu, assumptions=assumptions, answer=answer)


def changed(question: Question, change: Change) -> Question:
    """The question with these options changed; steps and tokens replace one another."""
    training = {TRAINING[name]: value for name, value in change.items() if name in TRAINING}
    for name, field, other in (("steps", "max_steps", "tokens"), ("tokens", "tokens", "max_steps")):
        if name in change:
            training |= {field: change[name], other: None}
    after = replace(question, training=replace(question.training, **training))
    if "r" in change:
        after = replace(after, ranks=(change["r"],))
    lora = {field: change[name] for name, field in LORA.items() if name in change}
    if lora:
        after = replace(after, lora=replace(after.lora, **lora))
    return after


def keeping_tokens(question: Question, change: Change) -> Change:
    """The change, with steps or tokens added where tokens a step change, so that as much is trained as before."""
    before, after = question.training, changed(question, change).training
    if before.max_steps is None or after.tokens_per_step == before.tokens_per_step:
        return change
    tokens = trained_tokens(before)
    steps, rest = divmod(tokens, after.tokens_per_step)
    return {**change, **({"tokens": tokens} if rest else {"steps": steps})}


def trained_tokens(setup: TrainingSetup) -> int:
    """As asked; one optimizer step's where no length is given. Of data, without padding."""
    return setup.tokens if setup.tokens is not None else setup.total_steps * setup.tokens_per_step


def seconds_for(row: RankEstimate, setup: TrainingSetup, tokens: int) -> float | None:
    """Loading and so many tokens, expected; None where the card's speed is not known."""
    if row.duration is None:
        return None
    data = setup.data
    if setup.data_steps is not None:  # the same examples, however many of their tokens a shorter length keeps
        steps = data.epochs * data.examples / setup.rows_per_step
    else:
        steps = tokens / setup.tokens_per_step
    return row.duration.load.expected + row.duration.step.expected * steps
