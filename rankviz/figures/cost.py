"""What a rank costs in memory, by component, and where an adapter's parameters are. Estimated, so slate."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rankviz.core.cost.estimate import Estimate, memory_json
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.lora.plan import AdapterPlan
from rankviz.figures.style import CHOSEN, ESTIMATED, LEGEND, NEUTRAL, Drawing, draw, figure, rgba, vertical_line
from rankviz.units import GIB, memory_size


class MemoryBar(NamedTuple):
    """Memory at one rank. components: bytes by name, bottom first; low, high: the range of their sum on the card."""

    r: int
    components: Mapping[str, int]
    low: int
    high: int


class MemoryInfo(NamedTuple):
    """What the memory figure shows. usable_bytes: what a program can use of the card."""

    bars: Sequence[MemoryBar] = ()
    chosen_r: int | None = None
    usable_bytes: float | None = None
    gpu_name: str = ""
    source: str = ""
    rows: Sequence[Mapping[str, object]] = ()


COMPONENTS = {
    "base weights": "base_weights",
    "adapter": "adapter",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
    "logits": "logits",
    "other": "other",
}
"""By the name in the legend; the order of the stack is the order here."""
COMPONENT_SHADES = ("#46556a", "#5f7088", "#7a8ba3", "#95a5ba", "#b0bccd", "#c9d2de", "#e0e6ee")
"""Seven steps of slate that differ on white and on the dark page, one per component."""


def memory_info(estimate: Estimate, *, chosen_r: int | None = None) -> MemoryInfo:
    """Memory by component at every rank of an estimate."""
    usable, gpu = estimate.usable_bytes, estimate.gpu
    return MemoryInfo(
        bars=[
            MemoryBar(
                r=rank.r,
                components={label: getattr(rank.memory, name) for label, name in COMPONENTS.items()},
                low=rank.memory.low,
                high=rank.memory.high,
            )
            for rank in estimate.ranks
        ],
        chosen_r=chosen_r,
        usable_bytes=usable.expected if usable else None,
        gpu_name=gpu.name if gpu else "",
        source=f"Memory estimated by RankViz for {estimate.model.id}.",
        rows=[{"r": rank.r, **memory_json(rank.memory)} for rank in estimate.ranks],
    )


@figure
def memory_figure(info: MemoryInfo, *, height: int = 340) -> Drawing:
    """One stacked bar per rank against the card's usable memory, with the range of what the card would show."""
    bars, usable = info.bars, info.usable_bytes
    labels = [f"<b>{bar.r}</b>" if bar.r == info.chosen_r else str(bar.r) for bar in bars]
    traces = [_component(bars, labels, *named) for named in zip(COMPONENTS, COMPONENT_SHADES, strict=True)]
    shapes, notes = [], []
    if usable:
        shapes.append(
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": usable / GIB, "y1": usable / GIB}
            | {"line": {"color": NEUTRAL, "width": 1.4, "dash": "dash"}}
        )
        notes.append(
            {"x": 1, "xref": "paper", "xanchor": "right", "y": usable / GIB, "yanchor": "bottom"}
            | {"showarrow": False, "bgcolor": rgba(NEUTRAL, 0.2)}
            | {"text": f"{info.gpu_name}: {memory_size(usable)} usable"}
        )
    ranks = [bar.r for bar in bars]
    if info.chosen_r in ranks:
        shapes.append(vertical_line(ranks.index(info.chosen_r), CHOSEN))
    return draw(
        [*traces, _range(bars, labels)] if bars else [],
        height=height,
        uirevision=f"memory|{info.gpu_name}",
        x={"type": "category", "showgrid": False},
        y={"rangemode": "tozero"},
        x_title="LoRA rank r",
        y_title="memory, GiB",
        message="" if bars else "The memory of this setup is not known.",
        shapes=shapes,
        annotations=notes,
        barmode="stack",
        legend=LEGEND | {"traceorder": "normal"},
        bargap=0.35,
    )


def _component(bars: Sequence[MemoryBar], labels: Sequence[str], name: str, shade: str) -> dict[str, Any]:
    sizes = [bar.components[name] for bar in bars]
    return {
        "type": "bar",
        "x": labels,
        "y": [size / GIB for size in sizes],
        "name": name,
        "marker": {"color": shade, "line": {"color": rgba(NEUTRAL, 0.35), "width": 0.5}},
        "customdata": [f"{name}: {memory_size(size)} ({size:,} bytes)" for size in sizes],
        "hovertemplate": "r = %{x}<br>%{customdata}<extra></extra>",
    }


def _range(bars: Sequence[MemoryBar], labels: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": labels,
        "y": [(bar.low + bar.high) / 2 / GIB for bar in bars],
        "mode": "markers",
        "name": "range on the card",
        "marker": {"symbol": "line-ns-open", "size": 9, "color": NEUTRAL, "line": {"width": 1.4}},
        "error_y": {
            "type": "data",
            "array": [(bar.high - bar.low) / 2 / GIB for bar in bars],
            "color": NEUTRAL,
            "thickness": 1.4,
            "width": 5,
        },
        "customdata": [f"{memory_size(bar.low)} to {memory_size(bar.high)} on the card" for bar in bars],
        "hovertemplate": "r = %{x}<br>%{customdata}<extra></extra>",
    }


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
