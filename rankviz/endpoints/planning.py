"""Endpoints for planning: what a rank costs and buys, published studies, verdicts, files, and trained adapters."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypedDict

from rankviz.api import Api
from rankviz.api.advice import AdviceAnswerJSON, advice_json
from rankviz.api.estimates import EstimateAnswerJSON, GpuRowJSON, estimate_json
from rankviz.catalog.models import ModelRow
from rankviz.core.advice.use_case import Goal
from rankviz.core.fit import FitJSON
from rankviz.core.fit import as_json as fit_json
from rankviz.core.forecast.bands import ForecastJSON, forecast_json
from rankviz.core.forecast.quick_look import BentForecastJSON, bent_json
from rankviz.core.from_json import as_answer, shape
from rankviz.core.runs.record import still_training
from rankviz.core.serving import ServingJSON
from rankviz.core.spectrum import SpectrumJSON
from rankviz.core.spectrum import as_json as spectrum_json
from rankviz.core.studies.lines import FACETS, LORA_METHODS, Line, Near, QualityPoint
from rankviz.endpoints.gate import FileJSON, file, part
from rankviz.errors import InvalidSettingError
from rankviz.exports import FORMATS
from rankviz.options import EVERY, GRPO, MORE, OPTIONS, SERVED, SERVER, SETUP, question_of, takes
from rankviz.verdict import VerdictJSON, sentences, verdict_json

METRIC = replace(EVERY["metric"], kind=str, default="loss", help="", choices=("loss", "token_accuracy", "exact_match"))
GOAL = replace(EVERY["use_case"], kind=str | None, default=None)
FORMAT = replace(EVERY["format"], choices=tuple(FORMATS))
ANY = EVERY | {"model": replace(OPTIONS["model"], help="Any name; the model need not be readable.")}
PointJSON = shape(QualityPoint, "rank", "value", "standard_error", "learning_rate", "trainable_parameters")


class ForecastAnswerJSON(ForecastJSON):
    """Quality by rank from published studies. `bent` is the forecast from the requested sweep's own runs."""

    bent: BentForecastJSON | None


class ModelsJSON(TypedDict):
    """Models of the catalogue, the best first; `more` counts those after the listed ones, and `in_words` says so
    and what was assumed. `name` is the alias, if one fits the words best."""

    models: list[shape(ModelRow)]
    more: int
    in_words: str


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

    @takes("model", "ranks", "targets", "alpha", *SETUP, *MORE, *GRPO, table=EVERY)
    def estimate(**options: Any) -> EstimateAnswerJSON:
        """Estimate LoRA or QLoRA fine-tuning at one or more ranks: exact trainable parameters and adapter file,
        and ranges for GPU memory (VRAM), training time and cost. Each rank has its fit on the GPU."""
        question, assumed = question_of(options).with_assumed_length()
        return estimate_json(api.estimates.estimate(question), assumed)

    @takes("model", "r", "targets", "alpha", *SETUP, "prices", *MORE, *GRPO, table=EVERY)
    def fit(**options: Any) -> FitJSON:
        """Decide what fits a GPU: the largest rank, batch size and length that fit, what each change of a setting
        saves, the smallest change that makes it fit, the cheapest GPUs that fit, and QLoRA, LoRA and full fine-tuning
        compared."""
        question, assumed = question_of(options).with_assumed_length()
        return fit_json(api.estimates.fit(question, options["r"], options["prices"]), assumed)

    @takes("model", "r", *SERVED, table=EVERY)
    def serving(**options: Any) -> ServingJSON:
        """Count what serving an adapter costs: vLLM's slots and refusals, adapters that fit, merged model, GGUF."""
        load = {name: options[name] for name in SERVER}
        return api.estimates.serving(question_of(options), options["r"], **load)

    @takes(
        *("model", "use_case", "examples", "example_tokens", "forgetting", "targets"),
        *(*SETUP, "longest_tokens", "epochs", "parameters", "expert_rank", *MORE),
        table=ANY,
    )
    def advise(**options: Any) -> AdviceAnswerJSON:
        """Recommend a LoRA rank, alpha, learning rate and target modules for a use case and an amount of data, with
        reasons, and costs if the model can be read."""
        question = question_of(options)
        goal = Goal(use_case=options["use_case"], forgetting=options["forgetting"])
        return advice_json(api.advice.advise(question, goal, options["parameters"]))

    @takes("model", "use_case", "metric", "base", "runs", "parameters", "method", table=ANY)
    def forecast(**options: Any) -> ForecastAnswerJSON:
        """Forecast the quality that a low rank loses: how far each rank falls short of r = 128 in published studies, as
        a band; with runs, a sweep's own forecast too."""
        del options["base"]  # no longer used
        answer, bent = api.studies.forecasts(**options)
        return {**forecast_json(answer), "bent": bent_json(bent) if bent else None}

    @takes(
        *("model", "r", "format", "targets", "alpha", *SETUP, "learning_rate", "use_case"),
        *(*MORE, *GRPO, "loraplus_lr_ratio"),
        table=EVERY | {"use_case": GOAL, "format": FORMAT},
    )
    def export(**options: Any) -> ExportJSON:
        """Write a training script, a notebook or a configuration file (Unsloth, TRL, PEFT, Axolotl, LLaMA-Factory, MLX
        LM) that trains with these settings elsewhere."""
        goal = Goal(use_case=options["use_case"]) if options["use_case"] else None
        rank, kind, rate = options["r"], options["format"], options["learning_rate"]
        written = api.advice.export(question_of(options), rank, kind, rate, goal, options["loraplus_lr_ratio"])
        beside = [TextFileJSON(file_name=name, text=text) for name, text in written.extra_files]
        return ExportJSON(file_name=written.file_name, text=written.text, notes=list(written.notes), beside=beside)

    @takes("limit", "offset", "words", table=EVERY)
    def models(limit: int = 20, offset: int = 0, **options: Any) -> ModelsJSON:
        """Search the base models of the catalogue by words, with parameter counts from their real layers."""
        part((), limit, offset)
        rows, more, note = api.models.search(options["words"], limit, offset)
        return ModelsJSON(models=[asdict(row) for row in rows], more=more, in_words=note)

    def gpus() -> list[GpuRowJSON]:
        """List the GPUs that estimates know: memory, speed, and prices per hour by provider with source and date."""
        return [as_answer(GpuRowJSON, gpu) for gpu in api.workspace.gpus]

    @takes("model", "use_case", "limit", "offset", table=ANY)
    def studies(limit: int = 20, offset: int = 0, **options: Any) -> list[LineJSON]:
        """List published studies of quality by LoRA rank, the nearest to a model and a use case first, with learning
        rates, sources and caveats."""
        near = api.studies.near(api.studies.subject(**options), LORA_METHODS, FACETS)
        lines = ((each, line) for each in near for line in each.lines)
        return [_line(api, *each) for each in part(lines, limit, offset)]

    @takes("sweep_id", "tolerance", "metric", table=EVERY | {"metric": METRIC})
    def verdict(sweep_id: str = "", **options: Any) -> VerdictAnswerJSON:
        """Judge the ranks of a trained sweep by its held-out results: which ranks are better or worse beyond noise, and
        the smallest rank that cannot be told from the best."""
        answer = api.verdicts.of_sweep(sweep_id, options["tolerance"], options["metric"])
        if answer is None:
            why = still_training(api.runs.sweep(sweep_id)) or "No run of this sweep has been evaluated yet."
            raise InvalidSettingError(f"{why} Ask again later.")
        return {"sweep_id": sweep_id, **verdict_json(answer), "in_words": sentences(answer)}

    @takes("adapter", "limit", "offset", table=EVERY)
    def spectrum(adapter: str = "", limit: int = 50, offset: int = 0) -> SpectrumAnswerJSON:
        """Read a trained adapter and say which rank it really uses, by the singular values of its updates."""
        part((), limit, offset)
        opened = api.adapters.spectrum(adapter)
        with api.adapters.looking(opened):
            return {**spectrum_json(opened, slice(offset, offset + limit)), "layers_in_all": len(opened.layers)}

    @takes("adapter", "r", "energy", "dtype", table=EVERY)
    def resize(adapter: str = "", r: int | None = None, **options: Any) -> ResizedJSON:
        """Shrink a trained adapter to a lower rank by truncation, as a file to download. Give a rank or an energy."""
        planned = api.adapters.plan_resize(adapter, r=r, **options)
        return {"file": file(api.adapters.zip_resized(adapter, planned)), **planned.as_json()}

    return estimate, fit, serving, advise, forecast, export, models, gpus, studies, verdict, spectrum, resize


def _line(api: Api, near: Near, line: Line) -> LineJSON:
    sizes = zip(line.points, api.studies.parameters(line), strict=True)
    points = [as_answer(PointJSON, point, trainable_parameters=size) for point, size in sizes]
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
