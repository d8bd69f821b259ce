"""Published rank studies as frozen data, and their points as lines that may be joined.

Points come from assets/evidence/ or from result files that someone added; nothing here reads a file. A line holds what
may be compared: one study, base model, task, metric, method, targets, length, table and run date.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

RL = "rl"
"""Reinforcement learning: the kind of task and the use case."""
TaskKind = Literal["simple", "instruction", "complex", "pretraining", "rl"]
Role = Literal["main", "detail", "forgetting", "cost"]
"""main: the quality that a study is drawn by. detail: its other metrics, shorter trainings than those that it is drawn
by, and learning rates that were not the best of their rank. forgetting: what the base could do before. cost: no quality
at all."""
ExpertScheme = Literal["shared-outer", "divided"]
SCHEME_WORDS: dict[ExpertScheme | None, str] = {
    None: "each expert has the whole rank, or none is adapted",
    "shared-outer": "all experts of a layer share one LoRA factor, as in Tinker",
    "divided": "each expert has the rank divided by the number of active experts",
}
"""Ways to adapt experts; None is PEFT's and Unsloth's without expert_rank."""
SCHEME_LABELS: dict[ExpertScheme, str] = {
    "shared-outer": "experts share a factor",
    "divided": "experts at r / active",
}
"""For a legend."""
SCHEME_OF_EXPERT_RANK: dict[int | str, str | None] = {"r": None, "r/active": "divided"}
"""Which scheme an expert_rank is; any other is no published one."""
Facet = Literal["attention and mlp", "attention", "mlp", "other", "not stated", "all weights", "none"]
FACETS: tuple[Facet, ...] = ("attention and mlp", "attention", "mlp", "other", "not stated", "all weights", "none")
"""Which part of the blocks has adapters; "all weights" is full fine-tuning, "none" the base as it was."""
FULL = "full"
LOSSES = ("test_nll", "val_loss", "eval_loss", "train_nll_unseen_batches")
"""Metrics that are a language model's loss per token on text that it has not trained on. Not among them: a classifier's
loss, and the loss on text that is trained on again."""
LABEL_LENGTH = 30
"""Characters of a study's label, at most."""
LEAST = 1e-9
"""Smallest best value of which other values are given as shares."""
ROUNDING = 1e-12
"""Largest distance of a share from the tolerance that it should equal."""
LORA_METHODS = ("lora", "rslora", "dora")


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A published study: source of its points, tuning policy and caveats."""

    study_id: str
    label: str
    """A few words, for a legend."""
    citation: str
    source: str | None
    """A link; None for files that were added here, and where no public page is known."""
    licence: str
    task_kind: TaskKind | None
    examples: int | None
    """Examples trained on, as the study says, rounded; None where it does not."""
    learning_rate_tuned_per_rank: bool
    learning_rate_tuned_per_method: bool
    learning_rate_and_alpha_policy: str
    caveat: str
    checked: str
    expert_scheme: ExpertScheme | None = None
    """Scheme by which it adapts the experts of a mixture; None where each has the whole rank, or none is adapted."""
    own: bool = False
    """Added here: drawn beside the published ones, but never counted with them."""

    @property
    def counted(self) -> bool:
        """True if counts over published studies include it. A study without a kind of task (images) is only drawn."""
        return not self.own and self.task_kind is not None

    @property
    def where(self) -> str:
        """The link, or why there is none."""
        return self.source or ("added here" if self.own else "no public page known")

    @property
    def learning_rate_label(self) -> str:
        if self.learning_rate_tuned_per_rank:
            return "learning rate tuned at each rank"
        if self.learning_rate_tuned_per_method:
            return "learning rate tuned per method, not per rank"
        if "not stated" in self.learning_rate_and_alpha_policy:
            return "learning-rate policy not stated"
        return "learning rate not tuned per rank"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudiedModel:
    """A study's base model."""

    base_model: str
    """Name that the study gives it."""
    model_id: str | None
    """The catalogue row with its shapes; None where there is none."""
    family: str
    parameters: int | None
    source: str
    checked: str
    has_experts: bool = False
    """True for a mixture of experts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityPoint:
    """One value of one study. None is "not stated"."""

    study_id: str
    base_model: str
    task: str
    metric: str
    higher_is_better: bool
    role: Role
    method: str
    target_modules: str
    """Targets in the study's own words."""
    facet: Facet
    rank: int | None
    """None for full fine-tuning and the untuned base."""
    lora_alpha: float | None
    learning_rate: float | None
    learning_rates_tried: int | None
    value: float
    standard_error: float | None
    """None: one run, or a spread that the study does not give."""
    base_value: float | None = None
    """This metric of the base before training."""
    reference_learning_rate: float | None
    value_at_reference_rate: float | None
    """Value of this rank at a rate that was not tuned, where the study has both."""
    trainable_parameters: int | None
    adapter_bytes: int | None
    peak_memory_bytes: int | None
    train_seconds: float | None
    duration: str
    table: str
    experiment: str
    run_date: str

    @property
    def is_loss(self) -> bool:
        """True if it may be compared with other losses per token, as a share."""
        return self.metric in LOSSES

    def better_than(self, other: "QualityPoint") -> bool:
        return self.value > other.value if self.higher_is_better else self.value < other.value


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points that a line may join, smallest rank first, with the full fine-tuning beside them where there is one: of
    several learning rates the best."""

    study: Study
    model: StudiedModel
    points: tuple[QualityPoint, ...]
    full: QualityPoint | None = None

    @property
    def first(self) -> QualityPoint:
        return self.points[0]

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(point.rank for point in self.points)

    @cached_property
    def best(self) -> QualityPoint:
        """The best point; of equal values the smaller rank."""
        sign = -1 if self.first.higher_is_better else 1
        return min(self.points, key=lambda point: (sign * point.value, point.rank))

    @property
    def adapts_experts(self) -> bool:
        """True for a mixture with targets beyond attention."""
        return self.model.has_experts and self.first.facet != "attention"

    @property
    def expert_scheme(self) -> ExpertScheme | None:
        """Scheme of its experts, where that is another than PEFT's and Unsloth's without expert_rank: then
        its parameters at a rank are not those of the same rank."""
        return self.study.expert_scheme if self.adapts_experts else None

    @property
    def one_run(self) -> bool:
        return all(point.standard_error is None for point in self.points)

    @property
    def has_shares(self) -> bool:
        """True if values can be given as shares of the best, which 0 has none of."""
        return abs(self.best.value) >= LEAST

    def short_of_best(self, value: float) -> float:
        """Return the distance of a value from the best rank's, as a share of it; above 0 is worse. Only where the
        line has shares."""
        gap = self.best.value - value if self.first.higher_is_better else value - self.best.value
        return gap / abs(self.best.value)


class AdapterSize(NamedTuple):
    """Size of the adapter of a point; None is "not known". computed: not stated by the study, but counted from the
    base's layers."""

    parameters: int | None
    file_bytes: int | None
    computed: bool


class Evidence:
    """All points with their studies and base models."""

    def __init__(self, studies: Iterable[Study], models: Iterable[StudiedModel], points: Iterable[QualityPoint]):
        self.studies = {study.study_id: study for study in studies}
        self.models = {model.base_model: model for model in models}
        self.points = tuple(points)

    def plus(self, other: "Evidence") -> "Evidence":
        return Evidence(
            [*self.studies.values(), *other.studies.values()],
            [*other.models.values(), *self.models.values()],
            [*self.points, *other.points],
        )

    def without(self, study_id: str) -> "Evidence":
        return Evidence(
            (study for study in self.studies.values() if study.study_id != study_id),
            self.models.values(),
            (point for point in self.points if point.study_id != study_id),
        )

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Every line that has a rank, in the order of the points."""
        by_line: dict[tuple, list[QualityPoint]] = {}
        full: dict[tuple, QualityPoint] = {}
        for point in self.points:
            if point.rank is not None:
                by_line.setdefault((*_compared(point), point.method, point.target_modules, point.table), []).append(
                    point
                )
            elif point.method == FULL:
                known = full.setdefault(_compared(point), point)
                if point.better_than(known):
                    full[_compared(point)] = point
        return tuple(
            Line(
                study=self.studies[points[0].study_id],
                model=self.models[points[0].base_model],
                points=tuple(sorted(points, key=lambda point: point.rank)),
                full=full.get(_compared(points[0])),
            )
            for points in by_line.values()
        )

    @cached_property
    def published(self) -> tuple[Line, ...]:
        """The lines that counts are made over."""
        return tuple(line for line in self.lines if line.study.counted)


def _compared(point: QualityPoint) -> tuple:
    return (point.study_id, point.base_model, point.task, point.metric, point.duration, point.run_date)


def facet_of(parts: Sequence[str]) -> Facet:
    """The facet of adapters on these parts of a model (core.model.spec.LayerPart)."""
    blocks = set(parts) & {"attention", "mlp"}
    if blocks == {"attention", "mlp"}:
        return "attention and mlp"
    return blocks.pop() if blocks and set(parts) == blocks else "other"


SHORT_NAMES = ("q", "k", "v", "o", "gate", "up", "down")


def module_names(target_modules: str) -> tuple[str, ...]:
    """ "q,v" or "q_proj,v_proj" as module names; empty where a study uses other words."""
    names = tuple(f"{name}_proj" if name in SHORT_NAMES else name for name in target_modules.split(","))
    return names if all(name.endswith("_proj") for name in names) else ()
