"""RankViz: what a LoRA rank costs, and what it buys.

import rankviz

answer = rankviz.estimate("Qwen/Qwen3-4B", ranks=[8, 16], gpu="L4", max_steps=1000)
answer.to_frame()
for rank in answer.estimate.ranks:
    print(rank.r, rank.adapter_parameters, rank.memory.device)
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Api": "rankviz.api",
    "Goal": "rankviz.core.advice.use_case",
    "Grpo": "rankviz.core.cost.setup",
    "LoraConfig": "rankviz.core.lora.config",
    "Question": "rankviz.core.cost.question",
    "SweepRequest": "rankviz.core.runs.request",
    "TrainingData": "rankviz.core.cost.setup",
    "TrainingSetup": "rankviz.core.cost.setup",
    "estimate": "rankviz.api",
}
__all__ = ["Api", "Goal", "Grpo", "LoraConfig", "Question", "SweepRequest", "TrainingData", "TrainingSetup", "estimate"]


def __getattr__(name: str) -> Any:
    """Import a name of `_HOMES` at its first use, so that `import rankviz.core` does not load the whole package."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rankviz' has no attribute {name!r}")
