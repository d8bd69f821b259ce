"""The recommended rank, alpha, learning rate and targets; and the chosen settings as a file of a training tool."""

import shlex
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

from rankviz import exports, units
from rankviz.api.workspace import Operations
from rankviz.catalog.studies import forecast_of_all, read_forecast
from rankviz.core.advice import words
from rankviz.core.advice.advice import Alternative, Capacity, RankAdvice, Record, advise
from rankviz.core.advice.use_case import DataAmount, Goal, data_of, use_case
from rankviz.core.bounds import named
from rankviz.core.cost.estimate import Estimate, Fit, any_rank
from rankviz.core.cost.notes import truncation
from rankviz.core.cost.predict import with_images
from rankviz.core.cost.question import Question, plan_on
from rankviz.core.cost.setup import Gpu, TrainingData, card
from rankviz.core.fit import FITTING, fit_in_words
from rankviz.core.forecast.bands import GRID, KIND_OF_USE_CASE, Forecast, RankForecast
from rankviz.core.from_json import as_answer, build, shape
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import brief
from rankviz.core.runs.record import made_of
from rankviz.core.studies.lines import RL, RatesTuned
from rankviz.errors import InvalidSettingError, LimitError, RankVizError, RunNotFoundError, RunUnreadError
from rankviz.exports import Written
from rankviz.exports.recipe import FRAMEWORKS, STEPS

WIDE = ("unsloth", "all-linear", "attention")
"""Presets for "all linear layers", best first; the first that model and framework allow is used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdviceAnswer:
    """The advice for one model, with the cost of the advised adapter."""

    __repr__ = brief

    model_id: str
    advice: RankAdvice
    training_data: TrainingData | None
    target_modules: str | tuple[str, ...]
    """Preset that means all linear layers of this model; the question's own targets where no preset is allowed."""
    target_names: tuple[str, ...]
    setting: Estimate | None
    """The advised adapter with its estimate; None without costs, and where the model cannot be read."""
    notes: tuple[str, ...]
    forecast: Forecast
    """Quality by rank in published studies."""
    own: str = ""
    """One sentence with the verdict on the model's sweep in the trade-off chart; empty without a sweep."""


class Advice(Operations):
    """Recommended settings, the record of earlier recommendations, and files that train with chosen settings."""

    def advise(
        self, question: Question, goal: Goal, parameters: float | None = None, *, costs: bool = True
    ) -> AdviceAnswer:
        """Return a recommended rank, alpha, learning rate and targets, with reasons, and with costs if the model can
        be read. parameters: size of a model that cannot be read, by which studies are sorted. costs: False for advice
        without `setting`."""
        if question.model_id:
            named(question.model_id, "Model")
        question.training.validate()
        use_case(goal.use_case)  # raises for an unknown one
        unread = self._api.studies.why_no_counts(question.model_id, parameters)
        preset, plan = (WIDE[1], None) if unread else self._wide(self._api.models.get(question.model_id), question)
        advice = advise(
            self._api.studies.all(),
            self.record(),
            self._api.studies.subject(question.model_id, goal.use_case, parameters, question.lora.expert_rank),
            goal,
            data_of(question.training),
            plan.parameters if plan else None,
            self._workspace.assumptions,
            *([lambda line: self._api.studies.equal_ranks(line, plan)] if plan else []),
        )
        setting = self.recommended(question, advice.r, preset) if plan and costs else None
        notes = tuple(filter(None, [unread]))
        if setting:
            assumed = self._workspace.references.model(question.model_id).note
            notes = tuple(filter(None, [assumed, truncation(setting.question.training)]))
        if setting and goal.use_case == RL and not question.training.grpo and not (setting.gpu and setting.gpu.is_mac):
            gpu = f" --gpu {setting.gpu.id}" if setting.gpu else ""
            notes += (
                "Memory and time here are of supervised training. Of reinforcement learning, with the program that "
                f"generates: rankviz estimate {shlex.quote(question.model_id)} -r {advice.r}{gpu} --method grpo.",
            )
        return AdviceAnswer(
            model_id=setting.model.id if setting else question.model_id,
            advice=advice,
            training_data=question.training.data,
            target_modules=preset,
            target_names=plan.target_names if plan else (),
            setting=setting,
            notes=notes,
            forecast=forecast_of_all(self._workspace.assets, "score", KIND_OF_USE_CASE[goal.use_case], GRID),
            own=self._own_result(question.model_id) if plan and not advice.case.r_range else "",
        )

    def recommended(self, question: Question, r: int, targets: str | tuple[str, ...]) -> Estimate:
        """Return the estimate of the question with the recommended rank, alpha and target modules."""
        lora = replace(question.lora, target_modules=targets)
        return self._api.estimates.estimate(replace(question, ranks=(r,), lora=lora, lora_alpha="r")).estimate

    def record(self) -> Record:
        """Return how well the advice and fixed ranks did on the published studies."""
        return _record(self._workspace.assets)

    def _own_result(self, model: str) -> str:
        """Return one sentence with the verdict on the first of `own_sweeps`; empty without a sweep."""
        sweep = next(iter(self._api.studies.own_sweeps(model)), None)
        if sweep is None:
            return ""
        from rankviz.verdict import headline

        result = "no verdict yet."
        with suppress(LimitError, RunNotFoundError, RunUnreadError):  # the advice needs no verdict
            if verdict := self._api.verdicts.of_sweep(sweep.sweep_id):
                result = headline(verdict, self._api.verdicts.decide(sweep.sweep_id))
        whose = "A recorded sweep" if sweep.recorded else "Your newest sweep"
        return f"{whose} of this model ({made_of(sweep)}): {result}"

    def _wide(self, model: ModelSpec, question: Question) -> tuple[str | tuple[str, ...], AdapterPlan]:
        """Return preset and plan of all linear layers of a model; the question's targets if no preset is allowed."""
        for preset in WIDE:
            try:
                lora = replace(question.lora, target_modules=preset, modules_to_save=())
                plan = plan_on(model, lora, question.training, card(None))
            except InvalidSettingError:
                continue
            return preset, plan
        return question.lora.target_modules, plan_on(model, question.lora, question.training, card(None))

    def export(
        self,
        question: Question,
        r: int,
        format_name: str = "script",
        learning_rate: float | None = None,
        goal: Goal | None = None,
        loraplus_lr_ratio: float | None = None,
    ) -> Written:
        """Return a file that trains an adapter with these settings elsewhere.

        Args:
            question: The settings; its ranks are ignored.
            r: The rank.
            format_name: One of exports.FORMATS. A script and a notebook use the question's framework.
            learning_rate: None for the rate recommended for the goal, for GRPO always of reinforcement learning;
                without a goal, exports.LEARNING_RATE.
            goal: The use case.
            loraplus_lr_ratio: LoRA+: learning rate of lora_B over that of lora_A; None for plain LoRA.
        """
        replace(question, ranks=(r,)).validate()
        rate = learning_rate
        if rate is None:
            usual = self.advise(question, goal, costs=False).advice.learning_rate if goal else exports.LEARNING_RATE
            rate = use_case(RL).learning_rate if question.training.grpo else usual
        model = self._api.models.get(question.model_id)
        notes = tuple(filter(None, [self._workspace.references.model(question.model_id).note]))
        gpu, trains = self._api.estimates.gpu_of(question), getattr(exports.FORMATS.get(format_name), "trains", True)
        if gpu is not None and gpu.is_mac and trains and format_name != "mlx":
            notes += ("This file trains on a card with CUDA, not on a Mac: choose the format mlx for MLX LM.",)
        if question.training.images is not None and trains:
            with_images(model, question.training, text_only=question.lora.text_only)
            raise InvalidSettingError(
                "RankViz writes no file that trains on images: its scripts, notebooks and configurations train on "
                "text. Leave the images out, or choose the format adapter-config, which holds the adapter alone."
            )
        if format_name == "colab":  # memory and time on its free GPU, with Unsloth, and fp16 in place of bf16
            setup = replace(question.training, framework="unsloth")
            if setup.precision == "bf16":
                setup = replace(setup, precision="fp16")
            if not setup.has_length:
                setup = replace(setup, max_steps=STEPS)
            on_t4 = replace(question, ranks=(r,), gpu="t4", training=setup)
            answer = self._api.estimates.estimate(on_t4)
            rank, usable = answer.rank(r), answer.estimate.gpu.usable_bytes
            memory = f"{units.memory_size(rank.memory.device)} of {units.memory_size(usable)}"
            time = f", {units.time_span(rank.duration.total)}" if rank.duration else ""
            fit = "" if rank.fit == "fits" else f" {fit_in_words(answer.estimate)}"
            notes = (*notes, f"Estimate for Colab's free T4: {memory}{time}.{fit}")
        elif trains and gpu is not None and not gpu.is_mac and format_name in exports.FORMATS:
            notes = (*notes, *self._fit_of_file(model, question, r, exports.FORMATS[format_name], gpu))
        if question.training.grpo and format_name in exports.GRPO_FORMATS:
            framework = exports.FORMATS[format_name].framework(model, question)
            setup = replace(question.training, framework=framework)
            on = None if gpu and gpu.is_mac else gpu
            at = any_rank(model, replace(question, ranks=(r,), training=setup), on, self._workspace.assumptions).at
            notes += tuple(filter(None, [at(r).refused]))
        return exports.write(model, question, r, format_name, rate, notes, loraplus_lr_ratio)

    def _fit_of_file(self, model: ModelSpec, question: Question, r: int, chosen: exports.Format, gpu: Gpu) -> list[str]:
        """Return a note where the format trains with another framework, for which the GPU may be too small."""
        framework = chosen.framework(model, question)
        if framework in (question.training.framework, "mlx"):
            return []
        with suppress(InvalidSettingError):  # exports.write raises those of the export
            made = exports.recipe(model, question, r, framework=framework, tool=chosen.tool)
            lora, precision = made.lora, made.training.precision
            if not made.names_experts:
                lora = replace(lora, moe_scheme="default", target_modules=(made.trained or made.plan).target_names)
            if precision == "bf16" and not card(gpu).has_bf16:
                precision = "fp16"
            setup = replace(question.training, framework=framework, precision=precision)
            row = self._api.estimates.estimate(replace(question, ranks=(r,), lora=lora, training=setup)).rank(r)
            if row.fit not in FITTING and not row.refused:
                name = f"{chosen.tool}, estimated as {FRAMEWORKS[framework]}," if chosen.tool else FRAMEWORKS[framework]
                needs = units.memory_span(row.memory.fullest_band) + " on each GPU" * (setup.gpus > 1)
                verdict = "does not fit" if row.fit == "does_not_fit" else "may not fit"
                return [f"With {name} this needs {needs}: it {verdict} the {gpu.name}."]
        return []

    def export_of(self, sweep_id: str, r: int, format_name: str) -> Written:
        """Return a file that trains rank r elsewhere with the base, data, settings and best learning rate of a sweep,
        or that merges its adapter. Data that is gone is left out; a sample is named as in assets/data."""
        has_rank = [run for run in self._api.runs.sweep(sweep_id).runs if run.request.r == r]
        best = min(has_rank, key=lambda run: run.loss_or_inf, default=None)
        run = best.request if best else self._api.runs.added_request(sweep_id, r, needs_data=False)
        training = run.training
        with suppress(RankVizError):
            data = self._api.data.measure(run.data, run.columns).training
            of_sample = next((each.file for each in self._api.data.samples() if each.id == run.data), None)
            training = replace(training, data=replace(data, file_name=data.file_name or of_sample))
        question = Question(model_id=run.base, lora=run.lora, training=training)
        return self.export(question, r, format_name, learning_rate=run.learning_rate)


@lru_cache(maxsize=4)
def _record(assets: Path) -> Record:
    forecast = read_forecast(assets)
    counts = {"targets": forecast["counts"]["targets_against_rank"], "rates": forecast["counts"]["rates_tuned"]}
    return build(Record, forecast["advice"] | counts)


class NearStudyJSON(TypedDict):
    """A published study; `why` lists its similarities to this model and task. Where the study adapts experts in another
    way, `equal_ranks` gives for each of its ranks the rank here that trains as many parameters."""

    study_id: str
    base_model: str
    why: list[str]
    learning_rate: str
    source: str | None
    caveat: str
    equal_ranks: dict[str, float] | None


class AdvisedRankForecastJSON(shape(RankForecast)):
    """Shortfall of the recommended rank from the reference rank in published studies, in `unit`."""

    unit: str
    reference_rank: int
    validated: bool
    in_words: str


class GoalJSON(TypedDict):
    """The use case, the training data (examples; mean tokens of one), and whether the base must keep its abilities."""

    use_case: str
    examples: int | None
    example_tokens: int | None
    forgetting: bool


class AdviceAnswerJSON(TypedDict):
    """The recommended settings for one model, as numbers and sentences, with their reasons. If `r_range` is given,
    studies disagree, and the range is recommended instead of `r`. `confidence`, `lead`, `general` and `rank_enough` are
    always null: no data gives the right rank of one model, no study leads, and counts of models for which a rank was
    enough did not hold for publications that were left out. `regret` compares such advice with other rules, on
    published studies. `capacity` is null if the model's layers are not known, `fit` also without a GPU, and `forecast`
    if the use case has none."""

    model_id: str
    use_case: str
    goal: GoalJSON
    r: int
    r_range: list[int] | None
    lora_alpha: int
    learning_rate: float
    learning_rate_best: shape(RatesTuned) | None
    learning_rates_to_try: list[float]
    target_modules: str
    target_names: list[str]
    take: str
    because: str
    sentence: str
    then: list[str]
    general: None
    lead: None
    reasons: list[shape(words.Reason)]
    confidence: str | None
    confidence_in_words: str
    regret: list[shape(Alternative)]
    would_change: list[str]
    steps: list[dict[str, str | int]]
    capacity: shape(Capacity) | None
    data: shape(DataAmount)
    rank_enough: None
    nearest: list[NearStudyJSON]
    gpu: str | None
    fit: Fit | None
    fit_in_words: str
    forecast: AdvisedRankForecastJSON | None
    notes: list[str]


def advice_json(answer: AdviceAnswer) -> AdviceAnswerJSON:
    """Return the answer as the JSON of `rankviz advise --json`."""
    advice, forecast, setting = answer.advice, answer.forecast, answer.setting
    data = answer.training_data or TrainingData()
    row = None if advice.case.r_range else next((row for row in forecast.ranks if row.r == advice.r), None)
    nearest = []
    for near in advice.shown:
        study = near.line.study
        equal = {str(r): x for r, x in advice.equal_ranks.get(study.study_id, {}).items()} or None
        about = {"base_model": near.line.model.base_model, "why": near.why, "learning_rate": study.learning_rate_label}
        nearest.append(as_answer(NearStudyJSON, study, **about, equal_ranks=equal))
    of_forecast = {name: getattr(forecast, name) for name in ("unit", "reference_rank", "validated")}
    return as_answer(
        AdviceAnswerJSON,
        answer,
        **{name: getattr(advice, name) for name in ("r", "lora_alpha", "learning_rate", "capacity", "data")},
        use_case=advice.case.name,
        goal=as_answer(GoalJSON, advice.goal, examples=data.examples, example_tokens=data.mean_tokens),
        r_range=advice.case.r_range,
        learning_rate_best=advice.rates,
        learning_rates_to_try=advice.learning_rates,
        take=words.take(advice),
        because=words.because(advice),
        sentence=f"{words.take(advice)}. Reason: {words.because(advice)}.",
        then=words.main_sentences(advice)[1:],
        **dict.fromkeys(("general", "lead", "confidence", "rank_enough")),
        reasons=[*words.reasons(advice)],
        confidence_in_words=words.confidence_in_words(advice),
        regret=advice.record.alternatives,
        would_change=words.would_change(advice),
        steps=[{"why": "forgetting", "before": advice.case.r, "after": advice.r}] * (advice.r < advice.case.r),
        nearest=nearest,
        gpu=setting.gpu.name if setting and setting.gpu else None,
        fit=setting.row.fit if setting else None,
        fit_in_words=fit_in_words(setting) if setting else "",
        forecast=row and {**of_forecast, **asdict(row), "in_words": words.forecast_sentence(forecast, advice.r)},
    )
