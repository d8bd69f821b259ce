"""Export: the chosen settings as a file for the tool that trains with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rankviz.api.models import Models
from rankviz.api.workspace import Workspace
from rankviz.core.cost.question import Question

if TYPE_CHECKING:
    from rankviz.export import Written


class Exports:
    """Scripts, notebooks and configuration files."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models

    def write(
        self, question: Question, r: int, format_name: str = "script", learning_rate: float | None = None
    ) -> Written:
        """The adapter at one rank and how to train it, as a file.

        Args:
            question: Its other ranks are ignored.
            r: The rank.
            format_name: One of export.FORMATS: script, notebook, unsloth, trl, peft, adapter-config, axolotl or
                llamafactory. The first two follow the question's framework.
            learning_rate: None takes export.LEARNING_RATE.
        """
        from rankviz import export

        replace(question, ranks=(r,)).validate()
        rate = export.LEARNING_RATE if learning_rate is None else learning_rate
        return export.write(self._models.get(question.model_id), question, r, format_name, rate)
