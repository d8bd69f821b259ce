"""Export: the chosen settings as a file for the tool that trains with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.advice import Advice
from rankviz.api.estimates import Estimates
from rankviz.api.models import Models
from rankviz.core.cost.question import Question

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
