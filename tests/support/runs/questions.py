"""Questions, sweeps and probes from settings in one flat list, whichever part they belong to."""

from dataclasses import replace
from typing import Any

from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.probe import PROBE_TRAINING, ProbeQuestion
from rankviz.core.runs.request import SHORT_TRAINING, RunRequest, SweepRequest


def _parts(settings: dict[str, Any], training: TrainingSetup, *, own_data: bool = True) -> dict[str, Any]:
    """{"lora", "training", and what belongs to neither}. own_data: whether `data` is the request's, which is a name or
    a file, and not the training's."""
    of_all = {"lora_alpha"} if isinstance(settings.get("lora_alpha"), str) else set()
    own = {name: settings.pop(name) for name in LoraConfig.__dataclass_fields__.keys() - of_all if name in settings}
    names = TrainingSetup.__dataclass_fields__.keys() - ({"data"} if own_data else set())
    trained = {name: settings.pop(name) for name in names if name in settings}
    return {"lora": replace(LoraConfig(), **own), "training": replace(training, **trained), **settings}


def question(model_id: str = "toy/toy-16", **settings: Any) -> Question:
    """At r = 16 unless another rank is given."""
    if not settings.keys() & {"r", "lora_alpha", "ranks"}:
        settings["ranks"] = (16,)
    return Question(model_id=model_id, **_parts(settings, TrainingSetup(), own_data=False))


def sweep(**settings: Any) -> SweepRequest:
    """Of one seed unless others are given."""
    return SweepRequest(**{"seeds": (0,), **_parts(settings, SHORT_TRAINING)})


def run(**settings: Any) -> RunRequest:
    named = {"run_id": "", "sweep_id": "", "created_at": 0, "base": "", "data": ""}
    return RunRequest(**{**named, **_parts(settings, SHORT_TRAINING)})


def probe(model_id: str, **settings: Any) -> ProbeQuestion:
    return ProbeQuestion(model_id=model_id, **_parts(settings, PROBE_TRAINING))
