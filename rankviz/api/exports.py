"""Export: the chosen settings as a file for the tool that trains with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rankviz.api.advice import Advice
from rankviz.api.models import Models
from rankviz.core.cost.question import Question

if TYPE_CHECKING:
    from rankviz.core.advice.use_case import Goal
    from rankviz.export import Form, Written


class Exports:
    """Scripts, notebooks and configuration files."""

    def __init__(self, models: Models, advice: Advice):
        self._models = models
        self._advice = advice

    def write(
        self,
        question: Question,
        r: int,
        format_name: str = "script",
        learning_rate: float | None = None,
        goal: Goal | None = None,
        form: Form = "",
    ) -> Written:
        """The adapter at one rank and how to train it, as a file.

        Args:
            question: Its other ranks are ignored.
            r: The rank.
            format_name: One of export.FORMATS: colab, script, notebook, unsloth, trl, peft, adapter-config, axolotl or
                llamafactory. A script and a notebook follow the question's framework.
            learning_rate: None takes the recommended one for the goal, or export.LEARNING_RATE without a goal.
            goal: The use case and its data.
            form: How the rows of the data look, if it is known: messages, prompt-completion, instruction or text.
        """
        from rankviz import export

        replace(question, ranks=(r,)).validate()
        rate = learning_rate
        if rate is None:
            rate = self._advice.advise(question, goal).advice.learning_rate if goal else export.LEARNING_RATE
        return export.write(self._models.get(question.model_id), question, r, format_name, rate, form)
