"""Which rank, alpha, learning rate and targets to take, from studies, data and capacity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rankviz.api.estimates import Estimates
from rankviz.api.forecasts import Forecasts
from rankviz.api.models import Models
from rankviz.api.studies import Studies
from rankviz.api.workspace import Workspace
from rankviz.core.cost.adapter import plan_on
from rankviz.core.cost.device import card
from rankviz.core.cost.estimate import Fit, RankEstimate
from rankviz.core.cost.question import Question
from rankviz.core.fit.setting import Setting
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError, LimitError, RunNotFoundError, RunUnreadError

if TYPE_CHECKING:
    from rankviz.api.runs.own_sweeps import OwnSweeps
    from rankviz.api.runs.verdicts import Verdicts
    from rankviz.core.advice.advice import Advice as RankAdvice
    from rankviz.core.advice.own_words import OwnResult
    from rankviz.core.advice.use_case import Goal
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
    setting: Setting
    """Model, rank and GPU of the advised adapter, with its estimate."""
    forecast: Forecast
    """Of quality by rank, in the unit of the study that leads the advice."""
    own: OwnResult | None = None
    """Of the sweep of this very model that the trade-off chart goes through too; None where there is none."""

    @property
    def gpu(self) -> str | None:
        return self.setting.gpu.name if self.setting.gpu else None

    @property
    def estimate(self) -> RankEstimate:
        """At the advised rank."""
        return self.setting.row

    @property
    def fit(self) -> Fit | None:
        """Whether the advised adapter fits; None without a GPU."""
        return self.estimate.fit


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

    def advise(self, question: Question, goal: Goal) -> AdviceAnswer:
        """A recommended rank, alpha, learning rate and targets, with reasons and confidence."""
        from rankviz.core.advice.advice import advise
        from rankviz.core.advice.use_case import data_of

        question.training.validate()
        goal = goal.about(question.training.data)
        goal.validate()
        model = self._models.get(question.model_id)
        preset, plan = self._wide(model, question)
        advice = advise(
            self._studies.all(),
            self._studies.subject(question.model_id, goal.use_case),
            goal,
            data_of(goal, question.training),
            plan.parameters,
            self._workspace.assumptions,
        )
        lora = replace(question.lora, target_modules=preset, modules_to_save=())
        wide = replace(question, ranks=(advice.r,), lora=lora, alpha="r")
        cost = self._estimates.estimate(wide).estimate
        lead = advice.findings.lead
        return AdviceAnswer(
            model_id=model.id,
            advice=advice,
            target_modules=preset,
            target_names=plan.target_names,
            setting=Setting.of(cost, advice.r, self._workspace.assumptions),
            forecast=self._forecasts.of(question.model_id, goal.use_case, metric=lead.metric if lead else None),
            own=self._own_result(question.model_id),
        )

    def _own_result(self, model: str) -> OwnResult | None:
        """What the verdict on the sweep that leads for a model answers."""
        from rankviz.core.advice.own_words import OwnResult
        from rankviz.core.runs.words.labels import made_of

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
