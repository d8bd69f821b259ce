"""Endpoints for what is known of models and of quality by rank: models, studies, and the verdict on a sweep."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypedDict

from rankviz.api import Api
from rankviz.api.json.verdicts import SweepVerdictJSON, verdict_json
from rankviz.catalog.models import ModelRow
from rankviz.core.json_shape import shape
from rankviz.core.runs.words.labels import still_training
from rankviz.core.studies.lines import FACETS, LORA_METHODS, AdapterSize, Line
from rankviz.core.studies.nearest import Near
from rankviz.errors import InvalidSettingError
from rankviz.ui.endpoints.results import part

WITHOUT = "What would decide each pair is not told: this server is busy with others. Ask again in a minute."


ModelJSON = shape(ModelRow)


class VerdictAnswerJSON(SweepVerdictJSON):
    """Which ranks of a sweep differ. Differences, `within` and the noise are in `unit`; `in_words` says it all."""

    in_words: list[str]


class PointJSON(TypedDict):
    """One value; the standard error is null where the study has one run, or does not give it."""

    rank: int
    value: float
    standard_error: float | None
    learning_rate: float | None
    trainable_parameters: int | None


class LineJSON(TypedDict):
    """Quality by rank in one study; `why` says what makes the study near. `expert_scheme` is shared-outer (one LoRA
    factor for all experts of a layer) or divided (the rank divided by the active experts); null where each expert has
    the whole rank, or none is adapted."""

    study_id: str
    label: str
    base_model: str
    why: str
    task: str
    metric: str
    higher_is_better: bool
    method: str
    target_modules: str
    expert_scheme: str | None
    learning_rate: str
    source: str
    caveat: str
    points: list[PointJSON]


def operations(api: Api) -> Sequence[Callable[..., Any]]:
    def models(limit: int = 500, offset: int = 0) -> list[ModelJSON]:
        """The base models of the catalogue, with parameter counts from their real layers.

        Args:
            limit: How many, 1 to 500.
            offset: How many to leave out before them.
        """
        return [asdict(row) for row in part(api.models.all(), limit, offset)]

    def studies(model: str = "", use_case: str = "instruction", limit: int = 20, offset: int = 0) -> list[LineJSON]:
        """Quality by rank in published studies, the nearest to a model and a use case first.

        Args:
            model: Any name; it need not be one that can be read.
            use_case: simple, instruction, complex, near-full, pretraining or rl.
            limit: How many lines, 1 to 500.
            offset: How many to leave out before them.
        """
        near = api.studies.near(api.forecasts.subject(model, use_case), LORA_METHODS, FACETS)
        lines = ((each, line) for each in near for line in each.lines)
        return [_line(each, line, api.studies.sizes(line)) for each, line in part(lines, limit, offset)]

    def verdict(sweep_id: str = "", tolerance: str | float | None = None, metric: str = "loss") -> VerdictAnswerJSON:
        """Which ranks of a sweep can be told apart, and the smallest that cannot be told from the best.

        Args:
            sweep_id: From start_sweep or runs.
            tolerance: Differences that do not matter: nats, points, or a text such as "2%" of the gain over the base.
            metric: loss, token_accuracy or exact_match.
        """
        from rankviz.verdict import sentences

        answer = api.verdicts.of_sweep(sweep_id, tolerance, metric)
        if answer is None:
            going = still_training(api.runs.sweep(sweep_id))
            raise InvalidSettingError(f"{going or 'No run of this sweep has been evaluated yet.'} Ask again later.")
        with api.verdicts.saying(answer) as has_place:
            in_words = [*sentences(answer.verdict, answer.borrowed), *([] if has_place else [WITHOUT])]
            return {**verdict_json(answer, would_tell=has_place), "in_words": in_words}

    return models, studies, verdict


def _line(near: Near, line: Line, sizes: Sequence[AdapterSize]) -> LineJSON:
    study, first = line.study, line.first
    return LineJSON(
        study_id=study.study_id,
        label=study.label,
        base_model=line.model.base_model,
        why=near.in_words,
        task=first.task,
        metric=first.metric,
        higher_is_better=first.higher_is_better,
        method=first.method,
        target_modules=first.target_modules,
        expert_scheme=line.expert_scheme,
        learning_rate=study.learning_rate_label,
        source=study.where,
        caveat=study.caveat,
        points=[
            PointJSON(
                rank=point.rank,
                value=point.value,
                standard_error=point.standard_error,
                learning_rate=point.learning_rate,
                trainable_parameters=size.parameters,
            )
            for point, size in zip(line.points, sizes, strict=True)
        ],
    )
