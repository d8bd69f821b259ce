"""Which published lines are nearest to a model and a use case, and why.

Studies that say more about another run come first: the same model, then its family, then a similar
size, then the same kind of task. Among equals the nearer size comes first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rankviz.core.studies.lines import SCHEME_OF_EXPERT_RANK, SCHEME_WORDS, Evidence, Facet, Line, TaskKind
from rankviz.units import count

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
