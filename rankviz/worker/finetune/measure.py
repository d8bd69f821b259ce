"""Measures a model on the held-out rows: its loss, exact matches, and answers that are kept as text."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rankviz.core.runs.events import Answered, Evaluated
from rankviz.core.runs.stages import answering, counting_exact
from rankviz.core.runs.timing.sweep_time import SHOWN_SECONDS
from rankviz.worker.finetune.answers import exact_matches, shown_answers
from rankviz.worker.finetune.data import Question, ShownQuestion, SweepData
from rankviz.worker.finetune.evaluation import evaluate
from rankviz.worker.processor import ProcessorClock
from rankviz.worker.settings import Settings
from rankviz.worker.stages import Stages


@dataclass(frozen=True, slots=True)
class HeldOutMeasure:
    """The held-out rows of a sweep, and how a model answers them."""

    tokenizer: Any
    data: SweepData
    settings: Settings
    questions: Mapping[int, Question]
    """Held-out prompts to be answered, by place; none where exact match was not requested."""
    shown: Mapping[int, ShownQuestion]
    """Held-out prompts whose answers are kept as text, by place."""

    def answer(self, model: Any, evaluation: Evaluated, stages: Stages) -> Answered:
        """The texts of `shown`. evaluation: of the same model, just before; answering may take as long."""
        stages.begin(answering(len(self.shown)))
        started = time.monotonic()
        answers = shown_answers(
            model,
            self.tokenizer,
            self.shown,
            autocast=self.settings.mixed_precision,
            cached=not self.settings.cuda,
            seconds=max(SHOWN_SECONDS, evaluation.seconds),
            progress=stages.progress,
        )
        return Answered(time=time.time(), when=evaluation.when, answers=answers, seconds=time.monotonic() - started)

    def evaluate(self, model: Any, when: str, stages: Stages) -> Evaluated:
        """Loss and token accuracy, and exact matches where they were requested. when: "before" or "after"."""
        autocast = self.settings.mixed_precision
        clock = ProcessorClock()
        evaluation = evaluate(
            model,
            self.data.held_out,
            when=when,
            pad_token_id=self.tokenizer.pad_token_id,
            autocast=autocast,
            progress=stages.progress,
        )
        evaluation = replace(evaluation, **clock.read().fields)
        if not self.questions:
            return evaluation
        stages.begin(counting_exact(len(self.questions)))
        started = time.monotonic()
        matches = exact_matches(
            model,
            self.tokenizer,
            self.questions,
            examples=len(self.data.held_out),
            autocast=autocast,
            cached=not self.settings.cuda,
            progress=stages.progress,
        )
        return replace(
            evaluation,
            time=time.time(),
            example_exact_matches=matches,
            exact_match_seconds=time.monotonic() - started,
        )
