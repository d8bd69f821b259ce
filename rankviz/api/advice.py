"""The recommended rank, alpha, learning rate and targets; and the chosen settings as a file of a training tool."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.estimates import Estimates
from rankviz.api.forecasts import Forecasts
from rankviz.api.models import Models
from rankviz.api.studies import Studies
from rankviz.api.workspace import Workspace
from rankviz.core.advice.json import AdviceJSON, as_json
from rankviz.core.advice.words import at_recommended, forecast_sentence
from rankviz.core.bounds import named
from rankviz.core.cost.device import card
from rankviz.core.cost.estimate import Fit
from rankviz.core.cost.question import Question, plan_on
from rankviz.core.fit.changes import Setting
from rankviz.core.fit.decide import fit_in_words
from rankviz.core.forecast.bands import RankForecast
from rankviz.core.from_json import shape
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError, LimitError, RunNotFoundError, RunUnreadError

if TYPE_CHECKING:
    from rankviz.api.runs.verdicts import Verdicts
    from rankviz.api.tradeoffs import OwnSweeps
    from rankviz.core.advice.advice import Advice as RankAdvice
    from rankviz.core.advice.regret import Record
    from rankviz.core.advice.use_case import Goal
    from rankviz.core.advice.words import OwnResult
    from rankviz.core.forecast.bands import Forecast

WIDE = ("unsloth", "all-linear", "attention")
"""Presets for "all linear layers", the first that a model and framework take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdviceAnswer:
    """An advice for one model, and what the advised adapter costs."""

    model_id: str
    advice: RankAdvice
    target_modules: str | tuple[str, ...]
    """The preset that stands for all linear layers of this model."""
    target_names: tuple[str, ...]
    """What it reaches."""
    setting: Setting | None
    """Model, rank and GPU of the advised adapter, with its estimate; None of a model that cannot be read."""
    notes: tuple[str, ...]
    forecast: Forecast
    """Of quality by rank."""
    own: OwnResult | None = None
    """Of the sweep of this very model that the trade-off chart goes through too; None where there is none."""

    @property
    def gpu(self) -> str | None:
        return self.setting.gpu.name if self.setting and self.setting.gpu else None

    @property
    def fit(self) -> Fit | None:
        """Fit of the advised adapter; None without a GPU."""
        return self.setting.row.fit if self.setting else None


class Advice:
    """The recommendation."""

    def __init__(
        self,
        workspace: Workspace,
        models: Models,
        studies: Studies,
        estimates: Estimates,
        forecasts: Forecasts,
        own: OwnSweeps,
        verdicts: Verdicts,
    ):
        self._workspace = workspace
        self._models = models
        self._studies = studies
        self._estimates = estimates
        self._forecasts = forecasts
        self._own = own
        self._verdicts = verdicts

    def advise(self, question: Question, goal: Goal, parameters: float | None = None) -> AdviceAnswer:
        """A recommended rank, alpha, learning rate and targets, with reasons and costs. A model that cannot be read has
        no costs; parameters, of such a model, sorts the studies."""
        from rankviz.core.advice.advice import advise
        from rankviz.core.advice.use_case import data_of

        if question.model_id:
            named(question.model_id, "Model")
        question.training.validate()
        goal = goal.about(question.training.data)
        goal.validate()
        unread = self._forecasts.why_no_counts(question.model_id, parameters)
        preset, plan = (WIDE[1], None) if unread else self._wide(self._models.get(question.model_id), question)
        advice = advise(
            self._studies.all(),
            self.record(),
            self._forecasts.subject(question.model_id, goal.use_case, parameters),
            goal,
            data_of(goal, question.training),
            plan.parameters if plan else None,
            self._workspace.assumptions,
            *([lambda line: self._studies.equal_ranks(line, plan)] if plan else []),
        )
        setting = self._setting(question, preset, advice.r) if plan else None
        return AdviceAnswer(
            model_id=setting.model.id if setting else question.model_id,
            advice=advice,
            target_modules=preset,
            target_names=plan.target_names if plan else (),
            setting=setting,
            notes=tuple(setting.notes) if setting else (unread,),
            forecast=self._forecasts.of(question.model_id, goal.use_case, parameters=parameters),
            own=self._own_result(question.model_id) if setting else None,
        )

    def record(self) -> Record:
        """Return how well the advice and fixed ranks have done over the published lines."""
        from rankviz.catalog.measurements import read_forecast
        from rankviz.core.advice.regret import record_of

        return record_of(read_forecast(self._workspace.assets).get("advice"))

    def _setting(self, question: Question, preset: str | tuple[str, ...], r: int) -> Setting:
        """The advised adapter with its estimate."""
        lora = replace(question.lora, target_modules=preset, modules_to_save=())
        wide = replace(question, ranks=(r,), lora=lora, alpha="r")
        return Setting.of(self._estimates.estimate(wide).estimate, r, self._workspace.assumptions)

    def _own_result(self, model: str) -> OwnResult | None:
        """What the verdict on the sweep that leads for a model answers."""
        from rankviz.core.advice.words import OwnResult
        from rankviz.core.runs.words import made_of

        sweep = self._own.leading(model)
        if sweep is None:
            return None
        try:
            judged = self._verdicts.of_sweep(sweep.sweep_id)
        except (LimitError, RunNotFoundError, RunUnreadError):  # the advice needs no verdict, and no run that has gone
            judged = None
        verdict = judged.verdict if judged else None
        return OwnResult(
            recorded=sweep.recorded,
            made_of=made_of(sweep),
            ranks=[rank.r for rank in verdict.ranks] if verdict else [run.request.r for run in sweep.runs],
            best=verdict.best if verdict else None,
            smallest=verdict.smallest_indistinguishable if verdict and not verdict.unknown else None,
        )

    def _wide(self, model: ModelSpec, question: Question) -> tuple[str | tuple[str, ...], AdapterPlan]:
        """The preset that stands for all linear layers here, and what it hits; the question's own where none can."""
        for preset in WIDE:
            try:
                lora = replace(question.lora, target_modules=preset, modules_to_save=())
                plan = plan_on(model, lora, question.training, card(None))
            except InvalidSettingError:
                continue
            return preset, plan
        return question.lora.target_modules, plan_on(model, question.lora, question.training, card(None))


class AdvisedRankForecastJSON(shape(RankForecast)):
    """Shortfall of the recommended rank from the reference rank in published studies, in `unit`."""

    unit: str
    reference_rank: int
    validated: bool
    in_words: str


class AdviceAnswerJSON(AdviceJSON):
    """An advice for one model. `fit` is null without a GPU or without the model's layers, `forecast` where there is
    none for the use case."""

    model_id: str
    gpu: str | None
    fit: Fit | None
    fit_in_words: str
    forecast: AdvisedRankForecastJSON | None
    notes: list[str]


def advice_json(answer: AdviceAnswer) -> AdviceAnswerJSON:
    """As `rankviz advise --json` prints it."""
    forecast, row = answer.forecast, at_recommended(answer.advice, answer.forecast)
    return {
        "model_id": answer.model_id,
        **as_json(answer.advice, answer.target_modules, answer.target_names),
        "gpu": answer.gpu,
        "fit": answer.fit,
        "fit_in_words": fit_in_words(answer.setting) if answer.setting else "",
        "forecast": row
        and {
            "unit": forecast.unit,
            "reference_rank": forecast.reference_rank,
            "validated": forecast.validated,
            **asdict(row),
            "in_words": forecast_sentence(answer.advice, forecast),
        },
        "notes": list(answer.notes),
    }


if TYPE_CHECKING:
    from rankviz.core.advice.use_case import Goal
    from rankviz.export import Written


T4 = "t4"


class Exports:
    """Scripts, notebooks and configuration files."""

    def __init__(self, models: Models, advice: Advice, estimates: Estimates):
        self._models = models
        self._advice = advice
        self._estimates = estimates

    def write(
        self,
        question: Question,
        r: int,
        format_name: str = "script",
        learning_rate: float | None = None,
        goal: Goal | None = None,
    ) -> Written:
        """The adapter at one rank and how to train it, as a file.

        Args:
            question: Its other ranks are ignored.
            r: The rank.
            format_name: One of export.FORMATS: colab, script, notebook, unsloth, trl, peft, adapter-config, axolotl or
                llamafactory. A script and a notebook follow the question's framework.
            learning_rate: None takes the recommended one for the goal, or export.LEARNING_RATE without a goal.
            goal: The use case and its data.
        """
        from rankviz import export

        replace(question, ranks=(r,)).validate()
        rate = learning_rate
        if rate is None:
            rate = self._advice.advise(question, goal).advice.learning_rate if goal else export.LEARNING_RATE
        model = self._models.get(question.model_id)
        notes = (self._on_t4(question, r),) if format_name == "colab" else ()
        return export.write(model, question, r, format_name, rate, notes)

    def _on_t4(self, question: Question, r: int) -> str:
        """What Unsloth takes on Colab's free GPU with these settings, in fp16 where they say bf16."""
        from rankviz.core.fit.decide import fit_in_words
        from rankviz.export.recipe import STEPS

        setup = replace(question.training, framework="unsloth")
        if setup.precision == "bf16":
            setup = replace(setup, precision="fp16")
        if not setup.has_length:
            setup = replace(setup, max_steps=STEPS)
        on_t4 = replace(question, ranks=(r,), gpu=T4, training=setup)
        answer = self._estimates.estimate(on_t4)
        rank, gpu = answer.rank(r), answer.estimate.gpu
        memory = f"{units.memory_size(rank.memory.device)} of {units.memory_size(gpu.usable_bytes)}"
        time = f", {units.time_span(rank.duration.total)}" if rank.duration else ""
        fit = "" if rank.fit == "fits" else f" {fit_in_words(self._estimates.fit(on_t4, r).setting)}"
        return f"Estimate for Colab's free T4: {memory}{time}.{fit}"
