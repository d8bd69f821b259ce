"""Endpoints for what is known of models, of quality by rank, of sweeps, and of trained adapters."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypedDict

from rankviz.api import Api
from rankviz.api.verdicts import SweepVerdictJSON, verdict_json
from rankviz.catalog.models import ModelRow
from rankviz.core.from_json import as_answer, shape
from rankviz.core.runs.words import still_training
from rankviz.core.spectrum import SpectrumJSON, as_json
from rankviz.core.studies.lines import FACETS, LORA_METHODS, AdapterSize, Line
from rankviz.core.studies.nearest import Near
from rankviz.endpoints.gate import FileJSON, file, part
from rankviz.errors import InvalidSettingError


class SpectrumAnswerJSON(SpectrumJSON):
    """A whole adapter, with the requested part of its layers. `rank_for_energy` is by share of all energy,
    `energy_kept` the share by rank; dead modules have no update, faint ones a far smaller one than the others."""

    layers_in_all: int


class ResizedJSON(TypedDict):
    """The resized adapter as a zip that PEFT loads once it is unpacked, and its new size."""

    file: FileJSON
    r: int
    lora_alpha: float
    rank_by_module: dict[str, int]
    energy_kept: float | None
    adapter_parameters: int
    adapter_bytes: int
    adapter_bytes_before: int


def adapter_operations(api: Api) -> Sequence[Callable[..., Any]]:
    def spectrum(adapter: str = "", limit: int = 50, offset: int = 0) -> SpectrumAnswerJSON:
        """Which rank a trained adapter really uses: the singular values of its updates, and what they say.

        Args:
            adapter: The id of a run of yours, a Hub id, sample, or the path of a zip that you uploaded.
            limit: How many updates to list, 1 to 500; all of them set the other values.
            offset: How many to leave out before them.
        """
        part((), limit, offset)
        opened = api.adapters.spectrum(adapter)
        return {**as_json(opened, slice(offset, offset + limit)), "layers_in_all": len(opened.layers)}

    def resize(
        adapter: str = "", r: int | None = None, energy: float | None = None, dtype: str | None = None
    ) -> ResizedJSON:
        """Truncate a trained adapter to a lower rank, as a file to download.

        Args:
            adapter: The id of a run of yours, a Hub id, sample, or the path of a zip that you uploaded.
            r: One rank for all modules, lower than the adapter's.
            energy: Instead of a rank: the share of each module's energy to keep, such as 0.99.
            dtype: fp32, bf16 or fp16; empty leaves it unchanged.
        """
        planned = api.adapters.plan_resize(adapter, r=r, energy=energy, dtype=dtype)
        return {"file": file(api.adapters.zip_resized(adapter, planned)), **planned.as_json()}

    return spectrum, resize


NO_PLACE = "What would decide each pair is left out: this server is busy with others. Ask again in a minute."


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
            why = still_training(api.runs.sweep(sweep_id)) or "No run of this sweep has been evaluated yet."
            raise InvalidSettingError(f"{why} Ask again later.")
        with api.verdicts.saying(answer) as has_place:
            in_words = [*sentences(answer.verdict), *([] if has_place else [NO_PLACE])]
            return {**verdict_json(answer, would_tell=has_place), "in_words": in_words}

    return models, studies, verdict


def _line(near: Near, line: Line, sizes: Sequence[AdapterSize]) -> LineJSON:
    study, first = line.study, line.first
    points = [
        as_answer(PointJSON, point, trainable_parameters=size.parameters)
        for point, size in zip(line.points, sizes, strict=True)
    ]
    return as_answer(
        LineJSON,
        first,
        study_id=study.study_id,
        label=study.label,
        base_model=line.model.base_model,
        why=near.in_words,
        expert_scheme=line.expert_scheme,
        learning_rate=study.learning_rate_label,
        source=study.where,
        caveat=study.caveat,
        points=points,
    )
