"""Which rank, alpha, learning rate and targets to take, from studies, data and capacity."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rankviz.api.estimates import Estimates
from rankviz.api.models import Models
from rankviz.api.studies import Studies
from rankviz.api.workspace import Workspace
from rankviz.core.cost.question import Question, lora_config
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

if TYPE_CHECKING:
    from rankviz.core.advice.use_case import Goal

WIDE = ("unsloth", "all-linear", "attention")
"""Presets for "all linear layers", the first that a model and framework take."""


class Advice:
    """The recommendation."""

    def __init__(self, workspace: Workspace, models: Models, studies: Studies, estimates: Estimates):
        self._workspace = workspace
        self._models = models
        self._studies = studies
        self._estimates = estimates

    def advise(self, question: Question, goal: Goal) -> dict[str, Any]:
        """Which rank, alpha, learning rate and targets to take, why, how sure, and what would change it."""
        from rankviz.core.advice.advice import advise
        from rankviz.core.advice.json import as_json
        from rankviz.core.advice.use_case import data_of
        from rankviz.core.advice.words import fit_in_words

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
        wide = replace(question, ranks=(advice.r,), targets=preset, modules_to_save=(), alpha="r")
        said = self._estimates.estimate(wide)
        fit = {
            "gpu": said["gpu"],
            "fit": said["ranks"][0]["fit"],
            "fit_in_words": fit_in_words(said["ranks"][0], said["gpu"]),
        }
        return {"model_id": model.id, **as_json(advice, preset, plan.target_names), **fit}

    def _wide(self, model: ModelSpec, question: Question) -> tuple[str | tuple[str, ...], AdapterPlan]:
        """The preset that stands for all linear layers here, and what it hits; the question's own where none can."""
        for preset in WIDE:
            try:
                plan = resolve(model, replace(lora_config(question, 16), target_modules=preset, modules_to_save=()))
            except InvalidSettingError:
                continue
            return preset, plan
        return question.targets, resolve(model, lora_config(question, 16))
