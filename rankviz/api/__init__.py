"""All operations of RankViz, which the page, the HTTP endpoints and the command line call.

    api = Api()
    api.estimates.estimate(Question(model_id="Qwen/Qwen3-4B", ranks=(8, 16)))

`estimate` does this in one line. Nothing is computed here. Each group of operations is imported and made at its first
use, so an estimate from the command line loads only the core and one model's row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.api.workspace import ASSETS, EMBEDDED, Part, Workspace

if TYPE_CHECKING:
    from rankviz.api.adapters import Adapters
    from rankviz.api.advice import Advice
    from rankviz.api.data import Data
    from rankviz.api.engines import Engines
    from rankviz.api.estimates import EstimateAnswer, Estimates
    from rankviz.api.machine import Machine
    from rankviz.api.models import Models
    from rankviz.api.runs import Runs
    from rankviz.api.studies import Studies
    from rankviz.api.verdicts import Verdicts

__all__ = ["ASSETS", "EMBEDDED", "Api", "Workspace", "estimate"]


class Api:
    """All operations on one runs folder.

    Args:
        home: The runs folder; None for RANKVIZ_HOME, or ~/.rankviz.
        assets: Folder of the data that RankViz ships.
        shared: True where others use the page, as on a Space; then only uploads and the runs folder are read. None to
            read this from the settings.
    """

    models: Models = Part("api.models.Models")
    data: Data = Part("api.data.Data")
    estimates: Estimates = Part("api.estimates.Estimates")
    studies: Studies = Part("api.studies.Studies")
    advice: Advice = Part("api.advice.Advice")
    runs: Runs = Part("api.runs.Runs")
    engines: Engines = Part("api.engines.Engines")
    verdicts: Verdicts = Part("api.verdicts.Verdicts")
    adapters: Adapters = Part("api.adapters.Adapters")
    machine: Machine = Part("api.machine.Machine")

    def __init__(self, home: Path | None = None, assets: Path = ASSETS, shared: bool | None = None):
        self.workspace = Workspace(home, assets, shared)


def estimate(model_id: str, ranks: Sequence[int] | int | None = None, **settings: Any) -> EstimateAnswer:
    """Estimate a fine-tuning of a model: exact adapter sizes, and ranges for memory, time and cost.

        rankviz.estimate("Qwen/Qwen3-4B", ranks=[8, 16], precision="bf16", max_steps=500).to_frame()

    Args:
        model_id: A catalogue id, a Hub id, a folder or a config.json.
        ranks: LoRA ranks, 1 to 1024, or one; 32 where none is given.
        settings: As in `Question.of`, such as target_modules, per_device_train_batch_size, examples and gpu; for GRPO
            method="grpo" and its settings, such as num_generations, or a dict grpo of them. The default GPU is that
            of the command line; None gives no time, cost or fit. Without steps, tokens or epochs the training has
            1,000 steps, or 1 epoch where examples are given, and a note says so.
    """
    from rankviz.core.cost.question import Question
    from rankviz.options import OPTIONS

    question = Question.of(model_id, ranks, **{"gpu": OPTIONS["gpu"].default, **settings})
    question, assumed = question.with_assumed_length()
    answer = Api().estimates.estimate(question)
    notes = (*filter(None, [assumed]), *answer.estimate.notes)
    return replace(answer, estimate=replace(answer.estimate, notes=notes))
