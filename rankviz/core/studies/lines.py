"""Published studies of rank as frozen data: points joined to lines, their distance from a model, and counts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

from rankviz.units import count

RL = "rl"
"""Reinforcement learning: name of a kind of task and of a use case."""
TaskKind = Literal["simple", "instruction", "complex", "pretraining", "rl"]
Role = Literal["main", "detail", "forgetting", "cost"]
"""What a point shows. "main": the quality in the study's chart. "detail": its other metrics, shorter trainings, and
learning rates that were not the best of their rank. "forgetting": abilities of the base. "cost": no quality."""
ExpertScheme = Literal["shared-outer", "divided"]
SCHEME_WORDS: dict[ExpertScheme | None, str] = {
    None: "each expert has the whole rank, or none is adapted",
    "shared-outer": "all experts of a layer share one LoRA factor, as in Tinker",
    "divided": "each expert has the rank divided by the number of active experts",
}
"""Clause on each way to adapt experts; None is the default of PEFT and Unsloth, without expert_rank."""
SCHEME_LABELS: dict[ExpertScheme, str] = {"shared-outer": "experts share a factor", "divided": "experts at r / active"}
SCHEME_OF_EXPERT_RANK: dict[int | str, str | None] = {"r": None, "r/active": "divided"}
"""Published scheme that equals a value of expert_rank; other values equal no published scheme."""
Facet = Literal["attention and mlp", "attention", "mlp", "other", "not stated", "all weights", "none"]
FACETS: tuple[Facet, ...] = ("attention and mlp", "attention", "mlp", "other", "not stated", "all weights", "none")
"""Parts of the blocks that have adapters; "all weights" is full fine-tuning, "none" the untrained base."""
FULL = "full"
LOSSES = ("test_nll", "val_loss", "eval_loss", "train_nll_unseen_batches")
"""Metrics that are a language model's loss per token, on text that it was not trained on."""
LABEL_LENGTH = 30
LEAST = 1e-9
"""Smallest best value by which other values are divided to give shares."""
LORA_METHODS = ("lora", "rslora", "dora")


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A published study: where its points come from, how it tuned, and caveats."""

    study_id: str
    label: str
    citation: str
    source: str | None
    """Link to the study; None for files added on this page, and where no public page is known."""
    licence: str
    task_kind: TaskKind | None
    examples: int | None
    """Number of training examples, as the study states it; None where it does not."""
    learning_rate_tuned_per_rank: bool
    learning_rate_tuned_per_method: bool
    learning_rate_and_alpha_policy: str
    caveat: str
    checked: str
    expert_scheme: ExpertScheme | None = None
    """Scheme by which experts are adapted; None where each expert has the full rank, or none is adapted."""
    own: bool = False
    """True for a study added on this page, which is drawn with the published ones but never counted."""

    @property
    def counted(self) -> bool:
        """True where counts over published studies include it; studies without a kind of task are only drawn."""
        return not self.own and self.task_kind is not None

    @property
    def where(self) -> str:
        """Link to the source, or the reason why there is none."""
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
    """Base model that a study trained."""

    base_model: str
    """Name of the model in the study."""
    model_id: str | None
    """Id of the catalogue's model with the same shapes; None where there is none."""
    family: str
    parameters: int | None
    source: str
    checked: str
    has_experts: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityPoint:
    """One published value of quality. None means "not stated"."""

    study_id: str
    base_model: str
    task: str
    metric: str
    higher_is_better: bool
    role: Role
    method: str
    target_modules: str
    """Target modules as the study names them."""
    facet: Facet
    rank: int | None
    """Rank of the adapter; None for full fine-tuning and the untrained base."""
    lora_alpha: float | None
    learning_rate: float | None
    learning_rates_tried: int | None
    value: float
    standard_error: float | None
    """Standard error of the value; None for a single run, or where the study gives no spread."""
    base_value: float | None = None
    reference_learning_rate: float | None
    value_at_reference_rate: float | None
    """Value of this rank at the untuned reference_learning_rate; None where the study does not have it."""
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
        """True where the metric is a loss per token, which is compared as a share of the best loss."""
        return self.metric in LOSSES

    def better_than(self, other: "QualityPoint") -> bool:
        return self.value > other.value if self.higher_is_better else self.value < other.value


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points of one study that a chart joins, the smallest rank first. full: Full fine-tuning on the same data at its
    best learning rate; None where the study has none."""

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
        """The best point; of equal values that of the smallest rank."""
        sign = -1 if self.first.higher_is_better else 1
        return min(self.points, key=lambda point: (sign * point.value, point.rank))

    @property
    def adapts_experts(self) -> bool:
        """True for a mixture of experts whose adapters are not on attention alone."""
        return self.model.has_experts and self.first.facet != "attention"

    @property
    def expert_scheme(self) -> ExpertScheme | None:
        """Scheme by which experts are adapted, if not PEFT's default; equal ranks then differ in parameters."""
        return self.study.expert_scheme if self.adapts_experts else None

    @property
    def has_shares(self) -> bool:
        """True where values can be divided by the best value, which must not be 0."""
        return abs(self.best.value) >= LEAST

    def short_of_best(self, value: float) -> float:
        """Return how much worse a value is than the best rank's, as a share of the best. Requires has_shares."""
        gap = self.best.value - value if self.first.higher_is_better else value - self.best.value
        return gap / abs(self.best.value)


class Evidence:
    """All published and added points, with their studies and base models."""

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
        """All points that have a rank, joined to lines, in the order of the points."""
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
        """Lines of published studies, over which counts are made."""
        return tuple(line for line in self.lines if line.study.counted)


def _compared(point: QualityPoint) -> tuple:
    return (point.study_id, point.base_model, point.task, point.metric, point.duration, point.run_date)


def facet_of(parts: Sequence[str]) -> Facet:
    """Return the name for adapters on these parts of the blocks."""
    blocks = set(parts) & {"attention", "mlp"}
    if blocks == {"attention", "mlp"}:
        return "attention and mlp"
    return blocks.pop() if blocks and set(parts) == blocks else "other"


SHORT_NAMES = ("q", "k", "v", "o", "gate", "up", "down")


def module_names(target_modules: str) -> tuple[str, ...]:
    """Return the module names in a study's words, such as "q,v" or "q_proj,v_proj"; empty for other words."""
    names = tuple(f"{name}_proj" if name in SHORT_NAMES else name for name in target_modules.split(","))
    return names if all(name.endswith("_proj") for name in names) else ()


Alpha = Literal["fixed", "r", ""]
ALPHA_WORDS: dict[Alpha, str] = {"fixed": "with alpha fixed", "r": "with alpha = r", "": "without a stated alpha"}
NEAR_RANKS = 4
"""Ratio of ranks up to which best learning rates of a line are taken together."""


class Share(NamedTuple):
    """Result of counting a statement: it was true in `count` of `comparisons`."""

    count: int
    comparisons: int
    line: Line
    """Line to cite: the longest training of the nearest study."""


@dataclass(frozen=True, slots=True)
class RatesTuned:
    """Lowest and highest of the best learning rates at ranks near a rank. of: One base model, or all models."""

    ranks: tuple[int, ...]
    low: float
    high: float
    models: int
    of: str = "all models"


def rates_of_line(line: Line, r: int) -> RatesTuned | None:
    """Return the best learning rates of a line at ranks within a factor NEAR_RANKS of r, or else at its rank nearest to
    r; None unless the study tuned the rate at each rank. With the scale alpha / r, the best rate hardly depends on the
    rank (LoRA Without Regret, Schulman et al. 2025), and a grid of three or four rates does not locate it better than
    this range."""
    points = [point for point in line.points if point.learning_rate is not None]
    if not line.study.learning_rate_tuned_per_rank or not points:
        return None
    times = {point.rank: max(point.rank / r, r / point.rank) for point in points}
    within = max(NEAR_RANKS, min(times.values()))
    chosen = [point for point in points if times[point.rank] <= within]
    rates = [point.learning_rate for point in chosen]
    return RatesTuned(tuple(point.rank for point in chosen), min(rates), max(rates), 1, line.model.base_model)


class RateByRank(NamedTuple):
    """Best learning rate at the highest rank of a sweep over that at its lowest, for sweeps with one alpha rule."""

    alpha: Alpha
    sweeps: int
    median: float
    low: float
    high: float

    @property
    def in_words(self) -> str:
        which = f"{self.sweeps} sweeps" if self.sweeps > 1 else "one sweep"
        times = f"{self.median:.2g} times" if self.median != 1 else "equal to"
        spread = f" (median; {self.low:.2g} to {self.high:.2g} times)" if self.sweeps > 1 else ""
        return (
            f"In {which} {ALPHA_WORDS[self.alpha]}, the best learning rate at the highest rank was {times} that at the "
            f"lowest{spread}."
        )


SIMILAR_SIZE = 2.0
"""Ratio of parameters up to which two models count as of similar size."""


class Subject(NamedTuple):
    """The model and kind of task from which distances of studies are measured."""

    names: frozenset[str]
    """Id of the model and the name that the user typed, in lower case."""
    model_id: str
    """Id of the model; empty for a model that could not be read."""
    family: str | None
    parameters: int | None
    task_kinds: tuple[TaskKind, ...]
    """Kinds of study that apply; empty for all studies that include full fine-tuning."""
    expert_rank: int | str = "r"
    """Rank of each expert, as in LoraConfig."""


class Near(NamedTuple):
    """One base model of one study, with its lines and how it resembles the subject."""

    lines: tuple[Line, ...]
    why: tuple[str, ...]
    """Phrases on what the study and the subject have in common; empty where nothing."""
    same_family: bool
    scheme_line: Line | None
    """First line in which experts are adapted by another scheme than the subject's; None without one. Such a study does
    not count as of the same model: r = 16 shared by all experts is not r = 16 for each expert."""
    order: tuple
    """Distance from the subject, as a key to sort by."""

    @property
    def line(self) -> Line:
        return self.lines[0]

    @property
    def in_words(self) -> str:
        return ", ".join(self.why) or "no nearer study is published"


def nearest(lines: Sequence[Line], subject: Subject) -> tuple[Near, ...]:
    """Return each pair of study and base model among these lines, the nearest to the subject first."""
    by_pair: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        by_pair.setdefault((line.study.study_id, line.model.base_model), []).append(line)
    return tuple(sorted((_near(tuple(pair), subject) for pair in by_pair.values()), key=lambda near: near.order))


def drawn_lines(evidence: Evidence, methods: Sequence[str], facets: Sequence[Facet]) -> tuple[Line, ...]:
    """Return lines that show the effect of rank on quality: with at least two ranks, one of the methods and one of the
    facets. Lines of a study added on this page need only the facets."""
    return tuple(
        line
        for line in evidence.lines
        if line.first.role == "main"
        and line.first.facet in facets
        and (line.study.own or (len(line.points) > 1 and line.first.method in methods))
    )


@lru_cache(maxsize=32)
def nearest_drawn(
    evidence: Evidence, subject: Subject, methods: tuple[str, ...], facets: tuple[Facet, ...]
) -> tuple[Near, ...]:
    """Return `nearest` of `drawn_lines`."""
    return nearest(drawn_lines(evidence, methods, facets), subject)


@lru_cache(maxsize=32)
def kept_by_rank(evidence: Evidence, subject: Subject) -> Share | None:
    """Count the published lines on forgetting in which the smallest rank kept more of the base's abilities than the
    largest; the share's line is of the study and model that are nearest to the subject."""
    lines = [line for line in evidence.published if line.first.role == "forgetting" and len(line.points) > 1]
    if not lines:
        return None
    count = sum(line.points[0].better_than(line.points[-1]) for line in lines)
    return Share(count, len(lines), nearest(lines, subject)[0].lines[-1])


def _near(lines: tuple[Line, ...], subject: Subject) -> Near:
    model, study = lines[0].model, lines[0].study
    named = model.base_model.lower() in subject.names
    scheme = SCHEME_OF_EXPERT_RANK.get(subject.expert_rank, "")
    scheme_line = next((x for x in lines if x.adapts_experts and x.expert_scheme != scheme), None)
    same_shapes = named or model.model_id == subject.model_id
    same_family, size = same_shapes or model.family == subject.family, math.inf
    if model.parameters and subject.parameters:
        size = max(model.parameters / subject.parameters, subject.parameters / model.parameters)
    same_task = study.task_kind in subject.task_kinds if subject.task_kinds else any(line.full for line in lines)
    why = []
    if same_shapes:
        why.append("the same model" if named else "a model with the same shapes")
    elif same_family:
        why.append(f"the same family ({model.family})")
    if scheme_line and same_shapes:
        why.append(f"but another MoE scheme ({SCHEME_WORDS[scheme_line.expert_scheme]})")
    if size <= SIMILAR_SIZE and not same_shapes:
        why.append(f"a similar size ({count(model.parameters)})")
    if same_task:
        why.append("the same kind of task" if subject.task_kinds else "has full fine-tuning too")
    near = same_shapes and scheme_line is None, same_family, size <= SIMILAR_SIZE, same_task
    order = *(not each for each in (*near, study.learning_rate_tuned_per_rank)), size, study.study_id
    return Near(lines, tuple(why), same_family, scheme_line, order)
