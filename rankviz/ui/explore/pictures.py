"""Explore's two estimated pictures: memory by component and rank, parameters by module and block."""

from typing import Any, NamedTuple

from rankviz.api import Api
from rankviz.api.json import estimate_json
from rankviz.core.accuracy.similar import in_words
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.export.recipe import FRAMEWORKS
from rankviz.figures import MemoryBar, memory_figure, module_figure
from rankviz.ui.parts import question
from rankviz.ui.parts.charts import chart_value

MEMORY_HEIGHT = 340
COMPONENTS = {
    "base weights": "base_weights",
    "adapter": "adapter",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
    "logits": "logits",
    "other": "other",
}


class Pictures(NamedTuple):
    memory: str
    modules: str


def pictures(api: Api, **values: Any) -> Pictures:
    asked = question.ask(values)
    r = values["r"]
    answer = api.estimates.estimate(asked)
    return Pictures(
        memory=memory_chart(estimate_json(answer), r, in_words(answer.evidence)),
        modules=module_chart(api.estimates.adapter(asked, r).plan.by_block(r), r),
    )


def memory_chart(said: dict[str, Any], r: int, basis: str) -> str:
    rows, usable = said["ranks"], said["usable_bytes"]
    bars = [
        MemoryBar(
            r=row["r"],
            components={label: row["memory_bytes"][name] for label, name in COMPONENTS.items()},
            low=row["memory_bytes"]["low"],
            high=row["memory_bytes"]["high"],
        )
        for row in rows
    ]
    figure = memory_figure(
        bars,
        chosen_r=r,
        usable_bytes=usable["expected"] if usable else None,
        gpu_name=said["gpu"] or "",
        height=MEMORY_HEIGHT,
    )
    return chart_value(
        figure,
        [{"r": row["r"], **row["memory_bytes"]} for row in rows],
        file="memory",
        source=f"Estimated for {said['model_id']} trained with {FRAMEWORKS[said['framework']]}. " + basis,
    )


def module_chart(grid: Any, r: int) -> str:
    """grid: a core.lora.resolve.BlockGrid, a row a block; the picture has a row a module."""
    by_module = [[row[i] for row in grid.parameters] for i in range(len(grid.modules))]
    figure = module_figure(grid.modules, grid.blocks, by_module, r=r, height=MEMORY_HEIGHT)
    rows = [
        {"block": block, "module": module, "parameters": count}
        for block, counts in zip(grid.blocks, grid.parameters, strict=True)
        for module, count in zip(grid.modules, counts, strict=True)
        if count
    ]
    source = f"Counted from the model's own layers by the rules of PEFT {PEFT_VERSION} and Unsloth {UNSLOTH_VERSION}."
    return chart_value(figure, rows, file="modules", source=source)
