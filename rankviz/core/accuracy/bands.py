"""What measured rows say about an estimate: how far off it was, source by source, and how wide its band must be.

Rows from one source share their mistakes, so the source (`MeasuredRow.origin`) is the unit, not the row. With e the
error of a setting as a share of what is modelled (activations and logits; what is counted has errors in bytes), s² the
mean over G sources of a source's mean e², the half-width is

    t(95 %, G) · s

the error that nine in ten new sources would stay under, were they like these; t is Student's with G degrees of
freedom (the mean error is taken as zero, so none is used up). One source alone makes that 6.3 s; but no kind with
measurements gets a wider band than one without any, unless its own errors are larger. For time, e is the logarithm of
measured over expected, and the range is expected times and over exp(t · s).

Nothing else is fitted. A setting that no scored row is like takes the widths of assumptions.json. How well such bands
hold on a source that has not been seen is counted in left_out.py.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rankviz.core.accuracy.evidence import AccuracyByKind, KindAccuracy
from rankviz.core.accuracy.report import Score

if TYPE_CHECKING:
    from rankviz.core.accuracy.predicted import PredictedRow  # it loads the whole memory model

STUDENT_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""Student's t, two-sided 90 %, for 1 to 10 degrees of freedom."""


def half_width(errors_by_origin: dict[str, Sequence[float]], unmeasured: float = math.inf) -> float:
    """t(95 %, G) · s, from the errors of each source's settings.

    unmeasured: the half-width of a kind that nobody measured. Measurements do not make it wider than that, unless one
    of them was further off.
    """
    worst = max(abs(error) for errors in errors_by_origin.values() for error in errors)
    means = [sum(error * error for error in errors) / len(errors) for errors in errors_by_origin.values()]
    groups = len(means)
    by_spread = STUDENT_95[min(groups, len(STUDENT_95)) - 1] * math.sqrt(sum(means) / groups)
    return min(by_spread, max(unmeasured, worst))


def evidence_of(predictions: Sequence[PredictedRow]) -> AccuracyByKind:
    """What each band rests on."""
    return AccuracyByKind(
        static=static_evidence(predictions),
        memory=memory_evidence(predictions),
        lower=lower_evidence(predictions),
        time=time_evidence(predictions),
    )


def memory_evidence(predictions: Iterable[PredictedRow]) -> tuple[KindAccuracy, ...]:
    """For each kind of setting that scored rows were measured in."""
    scored = [p for p in predictions if p.scored]
    return _evidence(
        scored,
        kind=lambda p: p.stack.kind,
        error=lambda p: (p.row.measured_bytes - p.predicted.expected) / max(1.0, p.working_bytes),
        share=lambda p: p.error,
    )


def lower_evidence(predictions: Iterable[PredictedRow]) -> tuple[KindAccuracy, ...]:
    """The same for rows that are shown and not counted, bounds left out. No band rests on it."""
    return _evidence(
        [p for p in predictions if p.predicted and not p.scored and not p.bound],
        kind=lambda p: p.stack.kind,
        error=lambda p: (p.row.measured_bytes - p.predicted.expected) / max(1.0, p.working_bytes),
        share=lambda p: p.error,
    )


def time_evidence(predictions: Iterable[PredictedRow]) -> tuple[KindAccuracy, ...]:
    """For transformers' operators and for fused ones."""
    return _evidence(
        [p for p in predictions if p.seconds],
        kind=lambda p: p.stack.time_kind,
        error=lambda p: math.log(p.row.measured_seconds_per_step / p.seconds.expected),
        share=lambda p: p.seconds.expected / p.row.measured_seconds_per_step - 1,
        unmeasured="time-width-unmeasured",
    )


def static_evidence(predictions: Iterable[PredictedRow]) -> tuple[KindAccuracy, ...]:
    """Of what is counted: weights, adapter and states, where memory was read before the first step. In bytes: what is
    missing are workspaces and small tensors, as much beside a large base as beside a small one."""
    return _evidence(
        [p for p in predictions if p.scored and p.loaded_bytes and p.row.loaded_bytes and _offered(p)],
        kind=lambda p: "static",
        error=lambda p: p.row.loaded_bytes - p.loaded_bytes,
        share=lambda p: p.loaded_bytes / p.row.loaded_bytes - 1,
        unmeasured="width-static-unmeasured",
    )


def _offered(p: PredictedRow) -> bool:
    """RankViz estimates no base in GPTQ's format, so its errors widen no band."""
    return p.row.precision != "gptq-int4"


def _evidence(
    predictions: Iterable[PredictedRow],
    *,
    kind: Callable[[PredictedRow], str],
    error: Callable[[PredictedRow], float],
    share: Callable[[PredictedRow], float],
    unmeasured: str = "width-unmeasured",
) -> tuple[KindAccuracy, ...]:
    by_kind: dict[str, list[PredictedRow]] = defaultdict(list)
    for prediction in predictions:
        by_kind[kind(prediction)].append(prediction)
    evidence = []
    for name, members in sorted(by_kind.items()):
        errors: dict[str, list[float]] = defaultdict(list)
        for members_of_setting in by_setting(members).values():
            origin = members_of_setting[0].row.origin
            errors[origin].append(math.sqrt(_mean(error(p) ** 2 for p in members_of_setting)))
        evidence.append(
            KindAccuracy(
                kind=name,
                half_width=half_width(errors, members[0].stack.assume.value(unmeasured)),
                groups=tuple(sorted(errors)),
                settings=sum(len(each) for each in errors.values()),
                mean_abs_error=mean_over_settings(members, lambda p: abs(share(p))),
            )
        )
    return tuple(evidence)


def by_setting(predictions: Iterable[PredictedRow]) -> dict[tuple, list[PredictedRow]]:
    """Rows that repeat one setting, together."""
    groups: dict[tuple, list[PredictedRow]] = defaultdict(list)
    for prediction in predictions:
        groups[prediction.row.setting].append(prediction)
    return groups


def mean_over_settings(predictions: Iterable[PredictedRow], figure: Callable[[PredictedRow], float]) -> float:
    """Each setting weighs the same, however often it was repeated."""
    return _mean(_mean(figure(p) for p in members) for members in by_setting(predictions).values())


def scores(predictions: Iterable[PredictedRow], name_of: Callable[[PredictedRow], str]) -> tuple[Score, ...]:
    """Of any rows with a prediction, by a name of theirs, the name with most rows first."""
    groups: dict[str, list[PredictedRow]] = defaultdict(list)
    for prediction in predictions:
        groups[name_of(prediction)].append(prediction)
    return tuple(score(name, members) for name, members in sorted(groups.items(), key=lambda item: -len(item[1])))


def score(name: str, members: Sequence[PredictedRow]) -> Score:
    """Of any rows with a prediction."""
    return Score(
        group=name,
        rows=len(members),
        settings=len(by_setting(members)),
        mean_abs_error=mean_over_settings(members, lambda p: abs(p.error)),
        worst_error=max((p.error for p in members), key=abs),
        inside_band=mean_over_settings(members, lambda p: p.inside),
        mean_half_width=mean_over_settings(
            members, lambda p: (p.predicted.high - p.predicted.low) / 2 / p.predicted.expected
        ),
    )


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)
