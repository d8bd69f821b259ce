"""Published rank studies as frozen data, their points as lines that may be joined, and what is nearest and counted."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from rankviz.units import count

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


Alpha = Literal["fixed", "r", ""]
ALPHA_WORDS: dict[Alpha, str] = {"fixed": "with alpha fixed", "r": "with alpha = r", "": "without a stated alpha"}
NEAR_RANKS = 4
"""Up to so many times lower or higher, ranks of one line share their learning rates."""


class RateAgainstRank(NamedTuple):
    """Shares of a loss that the learning rate and the rank moved; medians over models."""

    rate: float
    rank: float
    models: int
    reference_learning_rate: float


class TargetsAgainstRank(NamedTuple):
    """Comparisons in which one study has the same base and task with narrow and with wide targets."""

    more_by_targets: int
    comparisons: int


class Share(NamedTuple):
    """Number of comparisons in which something held."""

    count: int
    comparisons: int
    line: Line
    """The longest training of the nearest study."""


class RatesTuned(NamedTuple):
    """The best of the learning rates tried, at ranks near the requested one."""

    ranks: tuple[int, ...]
    low: float
    high: float
    models: int


def kept_by_rank(nearest_first: Sequence[Line]) -> Share | None:
    """Count the lines of forgetting whose smallest rank kept more of the base than the largest."""

    def better(line: Line) -> bool:
        small, large = line.points[0].value, line.points[-1].value
        return small != large and (small > large) is line.first.higher_is_better

    return _share([x for x in nearest_first if x.first.role == "forgetting" and len(x.points) > 1], better)


def short_of_full(nearest_first: Sequence[Line]) -> Share | None:
    """Count the lines whose best rank was worse than full fine-tuning of the same base on the same data."""
    lines = [line for line in nearest_first if line.full is not None and line.first.role == "main"]
    return _share(lines, lambda line: line.short_of_best(line.full.value) < 0)


def _share(lines: Sequence[Line], holds: Callable[[Line], bool]) -> Share | None:
    if not lines:
        return None
    same_pair = [line for line in lines if (line.study, line.model) == (lines[0].study, lines[0].model)]
    return Share(sum(map(holds, lines)), len(lines), same_pair[-1])


def rates_of_line(line: Line, r: int) -> RatesTuned | None:
    """The best learning rates of one tuned line at its ranks up to NEAR_RANKS times below or above r, or else at its
    rank nearest to r; None where the study did not tune them at each rank.

    With alpha / r as the scale, the best rate hardly depends on the rank (LoRA Without Regret, Schulman et al. 2025),
    and a grid of three or four rates, run once, does not place it more exactly than between those ranks' best rates.
    """
    points = [point for point in line.points if point.learning_rate is not None]
    if not line.study.learning_rate_tuned_per_rank or not points:
        return None
    times = {point.rank: max(point.rank / r, r / point.rank) for point in points}
    within = max(NEAR_RANKS, min(times.values()))
    chosen = [point for point in points if times[point.rank] <= within]
    rates = [point.learning_rate for point in chosen]
    return RatesTuned(tuple(point.rank for point in chosen), min(rates), max(rates), 1)


class RateByRank(NamedTuple):
    """The best learning rate at a sweep's highest rank over that at its lowest, for sweeps with one policy of alpha."""

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
"""Up to so many times larger or smaller counts as a similar size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """The model and kind of task for which studies are sorted."""

    names: frozenset[str]
    """The model's id and the name that the user gave, in lower case."""
    model_id: str
    """Empty for a model that could not be read."""
    family: str | None
    parameters: int | None
    """None where nothing says it."""
    task_kinds: tuple[TaskKind, ...]
    """If empty: any study that also has full fine-tuning."""
    expert_rank: int | str = "r"
    """Rank of a mixture's experts, as LoraConfig has it."""


@dataclass(frozen=True, kw_only=True)
class Near:
    """One study of one base model, with its lines and what makes it near."""

    lines: tuple[Line, ...]
    why: tuple[str, ...]
    """Reasons in words; empty where the study has nothing in common with the subject."""
    same_model: bool
    """And the same MoE scheme: r = 16 with shared experts' factors is not r = 16 with a pair for each."""
    same_family: bool
    similar_size: bool
    same_task: bool
    scheme_line: Line | None
    """The first of its lines whose experts are adapted in another way than the subject's."""

    @property
    def line(self) -> Line:
        return self.lines[0]

    @property
    def in_words(self) -> str:
        return ", ".join(self.why) or "no nearer study is published"


def nearest(lines: Sequence[Line], subject: Subject) -> tuple[Near, ...]:
    """Every study and base model of these lines, the nearest first."""
    by_pair: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        by_pair.setdefault((line.study.study_id, line.model.base_model), []).append(line)

    def distance(near: Near) -> tuple:
        size = _times(near.line.model.parameters, subject.parameters)
        return (
            not near.same_model,
            not near.same_family,
            not near.similar_size,
            not near.same_task,
            not near.line.study.learning_rate_tuned_per_rank,
            math.log(size) if size else math.inf,
            near.line.study.study_id,
        )

    return tuple(sorted((_near(tuple(pair), subject) for pair in by_pair.values()), key=distance))


def drawn_lines(evidence: Evidence, methods: Sequence[str], facets: Sequence[Facet]) -> tuple[Line, ...]:
    """Lines of quality that show what rank does: two ranks at least, of these methods, with these targets. Of what was
    added here, every one with these targets."""
    return tuple(
        line
        for line in evidence.lines
        if line.first.role == "main"
        and line.first.facet in facets
        and (line.study.own or (len(line.points) > 1 and line.first.method in methods))
    )


def _near(lines: tuple[Line, ...], subject: Subject) -> Near:
    model, study = lines[0].model, lines[0].study
    named = model.base_model.lower() in subject.names
    scheme = SCHEME_OF_EXPERT_RANK.get(subject.expert_rank, "")
    scheme_line = next((x for x in lines if x.adapts_experts and x.expert_scheme != scheme), None)
    same_shapes = named or model.model_id == subject.model_id
    same_family = same_shapes or model.family == subject.family
    size = _times(model.parameters, subject.parameters)
    similar = size is not None and size <= SIMILAR_SIZE
    same_task = study.task_kind in subject.task_kinds if subject.task_kinds else any(line.full for line in lines)
    why = []
    if same_shapes:
        why.append("the same model" if named else "a model with the same shapes")
    elif same_family:
        why.append(f"the same family ({model.family})")
    if scheme_line and same_shapes:
        why.append(f"but another MoE scheme ({SCHEME_WORDS[scheme_line.expert_scheme]})")
    if similar and not same_shapes:
        why.append(f"a similar size ({count(model.parameters)})")
    if same_task:
        why.append("the same kind of task" if subject.task_kinds else "has full fine-tuning too")
    return Near(
        lines=lines,
        why=tuple(why),
        same_model=same_shapes and scheme_line is None,
        same_family=same_family,
        similar_size=similar,
        same_task=same_task,
        scheme_line=scheme_line,
    )


def _times(parameters: int | None, other: int | None) -> float | None:
    return max(parameters / other, other / parameters) if parameters and other else None
