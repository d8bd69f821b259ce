"""Endpoints for planning: what a rank costs and buys, published studies, verdicts, files, and trained adapters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypedDict

from rankviz.api import Api
from rankviz.api.advice import AdviceAnswerJSON, advice_json
from rankviz.api.estimates import EstimateAnswerJSON, estimate_json
from rankviz.catalog.models import ModelRow
from rankviz.core.advice.use_case import Goal
from rankviz.core.fit import FitJSON
from rankviz.core.fit import as_json as fit_json
from rankviz.core.forecast.bands import ForecastJSON, forecast_json
from rankviz.core.forecast.quick_look import BentForecastJSON, bent_json
from rankviz.core.from_json import as_answer, shape
from rankviz.core.runs.words import still_training
from rankviz.core.spectrum import SpectrumJSON
from rankviz.core.spectrum import as_json as spectrum_json
from rankviz.core.studies.lines import FACETS, LORA_METHODS, Line, Near
from rankviz.endpoints.gate import FileJSON, file, part
from rankviz.errors import InvalidSettingError
from rankviz.options import DATA, EVERY, GRPO, IMAGES, OPTIONS, SETUP, SEVERAL, UNSLOTH, Option, question_of, takes
from rankviz.verdict import VerdictJSON, sentences, verdict_json

MORE = (*UNSLOTH, *DATA, *IMAGES, "text_only", "expert_rank", *GRPO)
METRIC = Option("metric", str, "loss", "loss, token_accuracy or exact_match.")
ANY = EVERY | {"model": replace(OPTIONS["model"], help="Any name; the model need not be readable.")}
ModelJSON = shape(ModelRow)


class ForecastAnswerJSON(ForecastJSON):
    """Quality by rank from published studies. `bent` is the forecast from the requested sweep's own runs."""

    bent: BentForecastJSON | None


class TextFileJSON(TypedDict):
    """Name and text of a file."""

    file_name: str
    text: str


class ExportJSON(TextFileJSON):
    """A file, notes on it, and further files that it needs beside it."""

    notes: list[str]
    beside: list[TextFileJSON]


class VerdictAnswerJSON(VerdictJSON):
    """Verdict on the ranks of a sweep, `in_words` in sentences. Differences, `within` and the noise are in `unit`."""

    sweep_id: str
    in_words: list[str]


class PointJSON(TypedDict):
    """One value of a study. The standard error is null where the study has one run or gives no error."""

    rank: int
    value: float
    standard_error: float | None
    learning_rate: float | None
    trainable_parameters: int | None


class LineJSON(TypedDict):
    """Quality by rank in one study; `why` says what makes the study near. `expert_scheme` is shared-outer (one LoRA
    factor for all experts of a layer), divided (the rank divided by the active experts), or null (the whole rank for
    each expert, or no adapted experts)."""

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


class SpectrumAnswerJSON(SpectrumJSON):
    """An adapter, with the requested part of its layers. `rank_for_energy` is the rank by share of all energy,
    `energy_kept` the share by rank. Dead modules have no update, faint modules a far smaller one than the others."""

    layers_in_all: int


class ResizedJSON(TypedDict):
    """The resized adapter as a zip, which PEFT loads once it is unpacked, and its new size."""

    file: FileJSON
    r: int
    lora_alpha: float
    rank_by_module: dict[str, int]
    energy_kept: float | None
    adapter_parameters: int
    adapter_bytes: int
    adapter_bytes_before: int


def planning(api: Api) -> Sequence[Callable[..., Any]]:
    """Return the endpoints. A missing model is an empty text by default, so that the answer is RankViz's error in
    words: for a missing argument, Gradio's has none."""

    @takes("model", "ranks", "targets", "alpha", *SETUP, *MORE, *SEVERAL)
    def estimate(**options: Any) -> EstimateAnswerJSON:
        """Exact adapter numbers, and ranges for memory, time and money."""
        question, assumed = question_of(options).with_assumed_length()
        return _with_note(estimate_json(api.estimates.estimate(question)), assumed)

    @takes("model", "r", "targets", "alpha", *SETUP, "prices", *MORE, *SEVERAL, table=EVERY)
    def fit(**options: Any) -> FitJSON:
        """Settings that fit, effects of changes, the smallest change that fits, and the cheapest GPUs that fit."""
        question, assumed = question_of(options).with_assumed_length()
        return _with_note(fit_json(api.estimates.fit(question, options["r"], options["prices"])), assumed)

    @takes(
        *("model", "use_case", "examples", "example_tokens", "forgetting", "targets"),
        *(*SETUP, "longest_tokens", "epochs", "parameters", "expert_rank"),
        table=ANY,
    )
    def advise(**options: Any) -> AdviceAnswerJSON:
        """A recommended rank, alpha, learning rate and targets, with reasons, and costs if the model can be read."""
        question, _ = question_of(options).with_assumed_length()
        goal = Goal(use_case=options["use_case"], forgetting=options["forgetting"])
        return advice_json(api.advice.advise(question, goal, options["parameters"]))

    @takes("model", "use_case", "metric", "base", "runs", "parameters", "method", table=ANY)
    def forecast(**options: Any) -> ForecastAnswerJSON:
        """Forecast how far each rank falls short of r = 128 in published studies; with runs, a sweep's own forecast
        too."""
        asked = {name: options[name] for name in ("model", "use_case", "metric", "runs", "parameters", "method")}
        answer, bent = api.studies.forecasts(**asked)
        return {**forecast_json(answer), "bent": bent_json(bent) if bent else None}

    @takes(
        *(
            "model",
            "r",
            "format",
            "targets",
            "alpha",
            *SETUP,
            "learning_rate",
            "use_case",
            *MORE,
            "loraplus_lr_ratio",
            *SEVERAL,
        ),
        table=EVERY,
    )
    def export(use_case: str | None = None, **options: Any) -> ExportJSON:
        """A script, a notebook or a configuration file that trains with these settings elsewhere."""
        goal = Goal(use_case=use_case) if use_case else None
        rank, kind, rate = options["r"], options["format"], options["learning_rate"]
        written = api.advice.export(question_of(options), rank, kind, rate, goal, options["loraplus_lr_ratio"])
        beside = [TextFileJSON(file_name=name, text=text) for name, text in written.extra_files]
        return ExportJSON(file_name=written.file_name, text=written.text, notes=list(written.notes), beside=beside)

    @takes("limit", "offset", table=EVERY)
    def models(limit: int = 500, offset: int = 0) -> list[ModelJSON]:
        """The base models of the catalogue, with parameter counts from their real layers."""
        return [asdict(row) for row in part(api.models.all(), limit, offset)]

    @takes("model", "use_case", "limit", "offset", table=ANY)
    def studies(limit: int = 20, offset: int = 0, **options: Any) -> list[LineJSON]:
        """Quality by rank in published studies, the nearest to a model and a use case first."""
        near = api.studies.near(api.studies.subject(**options), LORA_METHODS, FACETS)
        lines = ((each, line) for each in near for line in each.lines)
        return [_line(each, line, api.studies.parameters(line)) for each, line in part(lines, limit, offset)]

    @takes("sweep_id", "tolerance", "metric", table=EVERY | {"metric": METRIC})
    def verdict(sweep_id: str = "", **options: Any) -> VerdictAnswerJSON:
        """Ranks of a sweep that can be told apart, and the smallest rank that cannot be told from the best."""
        answer = api.verdicts.of_sweep(sweep_id, options["tolerance"], options["metric"])
        if answer is None:
            why = still_training(api.runs.sweep(sweep_id)) or "No run of this sweep has been evaluated yet."
            raise InvalidSettingError(f"{why} Ask again later.")
        return {"sweep_id": sweep_id, **verdict_json(answer), "in_words": sentences(answer)}

    @takes("adapter", "limit", "offset", table=EVERY)
    def spectrum(adapter: str = "", limit: int = 50, offset: int = 0) -> SpectrumAnswerJSON:
        """Ranks that a trained adapter really uses: the singular values of its updates, and what they say."""
        part((), limit, offset)
        opened = api.adapters.spectrum(adapter)
        with api.adapters.looking(opened):
            return {**spectrum_json(opened, slice(offset, offset + limit)), "layers_in_all": len(opened.layers)}

    @takes("adapter", "r", "energy", "dtype", table=EVERY)
    def resize(adapter: str = "", r: int | None = None, **options: Any) -> ResizedJSON:
        """Truncate a trained adapter to a lower rank, as a file to download. Give a rank or an energy."""
        planned = api.adapters.plan_resize(adapter, r=r, **options)
        return {"file": file(api.adapters.zip_resized(adapter, planned)), **planned.as_json()}

    return estimate, fit, advise, forecast, export, models, studies, verdict, spectrum, resize


def _with_note(answer: Mapping[str, Any], assumed: str) -> Any:
    return {**answer, "notes": [*filter(None, [assumed]), *answer["notes"]]}


def _line(near: Near, line: Line, sizes: Sequence[int | None]) -> LineJSON:
    points = [
        as_answer(PointJSON, point, trainable_parameters=size) for point, size in zip(line.points, sizes, strict=True)
    ]
    return as_answer(
        LineJSON,
        line.first,
        study_id=line.study.study_id,
        label=line.study.label,
        base_model=line.model.base_model,
        why=near.in_words,
        expert_scheme=line.expert_scheme,
        learning_rate=line.study.learning_rate_label,
        source=line.study.where,
        caveat=line.study.caveat,
        points=points,
    )
