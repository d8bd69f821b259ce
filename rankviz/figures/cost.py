"""Figures of estimates: memory by component and rank, and adapter parameters by module and block."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rankviz.core.cost.estimate import Estimate, RankEstimate, memory_json
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.lora.plan import AdapterPlan
from rankviz.figures.style import (
    CHOSEN,
    ESTIMATED,
    LEGEND,
    NEUTRAL,
    Drawing,
    Rows,
    bars,
    draw,
    figure,
    heatmap,
    level,
    map_axes,
    rgba,
    scatter,
    vertical_line,
)
from rankviz.units import GIB, memory_size

SHADES = {
    "base weights": "#46556a",
    "adapter": "#5f7088",
    "gradients": "#7a8ba3",
    "optimizer": "#95a5ba",
    "activations": "#b0bccd",
    "logits": "#c9d2de",
    "other": "#e0e6ee",
}
"""Shade of slate by memory component, in the order of the stack; all differ on a white and on a dark page."""


class MemoryInfo(NamedTuple):
    """Content of the memory figure. usable_bytes: GPU memory that a program can use, None without a GPU."""

    ranks: Sequence[RankEstimate] = ()
    chosen_r: int | None = None
    usable_bytes: float | None = None
    gpu_name: str = ""
    source: str = ""
    rows: Rows = ()


def memory_info(estimate: Estimate, *, chosen_r: int | None = None) -> MemoryInfo:
    """Return memory by component at every rank of an estimate."""
    return MemoryInfo(
        ranks=estimate.ranks,
        chosen_r=chosen_r,
        usable_bytes=estimate.usable_bytes.expected if estimate.usable_bytes else None,
        gpu_name=estimate.gpu.name if estimate.gpu else "",
        source=f"Memory estimated by RankViz for {estimate.model.id}.",
        rows=[{"r": rank.r, **memory_json(rank.memory)} for rank in estimate.ranks],
    )


@figure
def memory_figure(info: MemoryInfo, *, height: int = 340) -> Drawing:
    """Draw one stacked bar per rank with its range of device memory, and the card's usable memory as a line."""
    ranks, usable = [rank.r for rank in info.ranks], info.usable_bytes
    labels = [f"<b>{r}</b>" if r == info.chosen_r else str(r) for r in ranks]
    shapes, notes = [], []
    if usable:
        shapes.append(level(usable / GIB, NEUTRAL, "dash", layer="above"))
        place = {"x": 1, "xref": "paper", "xanchor": "right", "y": usable / GIB, "yanchor": "bottom"}
        words = f"{info.gpu_name}: {memory_size(usable)} usable"
        notes.append(place | {"showarrow": False, "bgcolor": rgba(NEUTRAL, 0.2), "text": words})
    if info.chosen_r in ranks:
        shapes.append(vertical_line(ranks.index(info.chosen_r), CHOSEN))
    traces = [_component(info.ranks, labels, *named) for named in SHADES.items()]
    return draw(
        [*traces, _range(info.ranks, labels)] if ranks else [],
        height=height,
        uirevision=f"memory|{info.gpu_name}",
        x={"type": "category", "showgrid": False},
        y={"rangemode": "tozero"},
        x_title="LoRA rank r",
        y_title="memory, GiB",
        message="" if ranks else "The memory of this setup is not known.",
        shapes=shapes,
        annotations=notes,
        barmode="stack",
        legend=LEGEND | {"traceorder": "normal"},
        bargap=0.35,
    )


def _component(ranks: Sequence[RankEstimate], labels: Sequence[str], name: str, shade: str) -> dict[str, Any]:
    sizes = [getattr(rank.memory, name.replace(" ", "_")) for rank in ranks]
    return {
        "type": "bar",
        "x": labels,
        "y": [size / GIB for size in sizes],
        "name": name,
        "marker": {"color": shade, "line": {"color": rgba(NEUTRAL, 0.35), "width": 0.5}},
        "customdata": [f"{name}: {memory_size(size)} ({size:,} bytes)" for size in sizes],
        "hovertemplate": "r = %{x}<br>%{customdata}<extra></extra>",
    }


def _range(ranks: Sequence[RankEstimate], labels: Sequence[str]) -> dict[str, Any]:
    ends = [(rank.memory.low, rank.memory.high) for rank in ranks]
    middles = [(low + high) / 2 / GIB for low, high in ends]
    look, gib = {"color": NEUTRAL, "thickness": 1.4, "width": 5}, [(low / GIB, high / GIB) for low, high in ends]
    return scatter(
        labels,
        middles,
        name="range on the card",
        marker={"symbol": "line-ns-open", "size": 9, "color": NEUTRAL, "line": {"width": 1.4}},
        error_y=bars(middles, gib, NEUTRAL, **look),
        customdata=[f"{memory_size(low)} to {memory_size(high)} on the card" for low, high in ends],
        hovertemplate="r = %{x}<br>%{customdata}<extra></extra>",
    )


class ParametersInfo(NamedTuple):
    """Content of the map of parameters, by module (row) and block (column); 0 where the block has no such module."""

    modules: Sequence[str]
    blocks: Sequence[str]
    parameters: Sequence[Sequence[int]]
    r: int
    source: str = ""
    rows: Rows = ()


def parameters_info(plan: AdapterPlan, r: int) -> ParametersInfo:
    """Return the adapter parameters at rank r by module and block."""
    grid = plan.by_block(r)
    places = sorted({place for cells in grid.values() for place in cells})
    blocks = ["outside" if tower == 2 else f"{'vision ' * tower}{block}" for tower, block in places]
    rules = f"PEFT {PEFT_VERSION} and Unsloth {UNSLOTH_VERSION}"
    return ParametersInfo(
        modules=list(grid),
        blocks=blocks,
        parameters=[[cells.get(place, 0) for place in places] for cells in grid.values()],
        r=r,
        source=f"Counted from the model's own layers, by the rules of {rules}.",
        rows=[
            {"block": block, "module": module, "parameters": cells[place]}
            for place, block in zip(places, blocks, strict=True)
            for module, cells in grid.items()
            if place in cells
        ],
    )


@figure
def parameters_figure(info: ParametersInfo, *, height: int = 340) -> Drawing:
    """Draw adapter parameters by module and block; a cell is empty where the block has no such module."""
    cells = heatmap(
        info.blocks,
        info.modules,
        [[value or None for value in row] for row in info.parameters],
        ESTIMATED,
        zmin=0,
        customdata=[[f"{value:,}" for value in row] for row in info.parameters],
        hovertemplate=f"%{{y}}, block %{{x}}<br>%{{customdata}} parameters at r = {info.r}<extra></extra>",
    )
    return draw(
        [cells] if info.modules else [],
        height=height,
        uirevision="modules",
        **map_axes(info.blocks),
        x_title="block",
        message="" if info.modules else "No module matches these targets.",
    )
