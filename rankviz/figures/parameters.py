"""Where an adapter's parameters are: by module and block. Counted, not measured, so slate."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.lora.plan import AdapterPlan
from rankviz.figures.style import ESTIMATED, Drawing, draw, figure, rgba


class ParametersInfo(NamedTuple):
    """What the map of parameters shows: one row per module, one column per block; 0 where the block lacks it."""

    modules: Sequence[str]
    blocks: Sequence[str]
    parameters: Sequence[Sequence[int]]
    r: int
    source: str = ""
    rows: Sequence[Mapping[str, object]] = ()


def parameters_info(plan: AdapterPlan, r: int) -> ParametersInfo:
    """Adapter parameters at rank r by module and block."""
    grid = plan.by_block(r)
    return ParametersInfo(
        modules=grid.modules,
        blocks=grid.blocks,
        parameters=list(zip(*grid.parameters, strict=True)),
        r=r,
        source="Counted from the model's own layers, by the rules of "
        f"PEFT {PEFT_VERSION} and Unsloth {UNSLOTH_VERSION}.",
        rows=[
            {"block": block, "module": module, "parameters": count}
            for block, counts in zip(grid.blocks, grid.parameters, strict=True)
            for module, count in zip(grid.modules, counts, strict=True)
            if count
        ],
    )


@figure
def parameters_figure(info: ParametersInfo, *, height: int = 340) -> Drawing:
    """An empty cell is a module that the block lacks."""
    every = max(1, -(-len(info.blocks) // 8))
    cells = {
        "type": "heatmap",
        "x": info.blocks,
        "y": info.modules,
        "z": [[value or None for value in row] for row in info.parameters],
        "colorscale": [[0, rgba(ESTIMATED, 0.2)], [1, rgba(ESTIMATED, 0.95)]],
        "zmin": 0,
        "xgap": 1,
        "ygap": 1,
        "customdata": [[f"{value:,}" for value in row] for row in info.parameters],
        "hovertemplate": f"%{{y}}, block %{{x}}<br>%{{customdata}} parameters at r = {info.r}<extra></extra>",
        "hoverongaps": False,
        "colorbar": {"thickness": 8, "outlinewidth": 0, "len": 0.9},
    }
    return draw(
        [cells] if info.modules else [],
        height=height,
        uirevision="modules",
        x={
            "showgrid": False,
            "type": "category",
            "tickangle": 0,
            "tickmode": "array",
            "tickvals": info.blocks[::every],
        },
        y={"showgrid": False, "type": "category", "autorange": "reversed"},
        x_title="block",
        message="" if info.modules else "No module matches these targets.",
    )
