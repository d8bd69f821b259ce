"""What a rank costs: memory by component, parameters by module and block. All of it estimated, so all of it slate."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.figures.style import CHOSEN, ESTIMATED, NEUTRAL, draw, rgba, vertical_line
from rankviz.units import GIB, memory_size

if TYPE_CHECKING:
    import plotly.graph_objects as go


class MemoryBar(NamedTuple):
    """Memory at one rank. components: bytes by name, bottom first; low, high: the band of their sum on the card."""

    r: int
    components: Mapping[str, int]
    low: int
    high: int


# Seven steps of slate that stay apart on white and on the dark page; the order of the stack is the order here.
COMPONENT_SHADES = ("#46556a", "#5f7088", "#7a8ba3", "#95a5ba", "#b0bccd", "#c9d2de", "#e0e6ee")


def memory_figure(
    bars: Sequence[MemoryBar],
    *,
    chosen_r: int,
    usable_bytes: int | None = None,
    gpu_name: str = "",
    height: int = 340,
) -> "go.Figure":
    """A stacked bar a rank against the card's usable memory, each with the band of what the card would show."""
    labels = [f"<b>{bar.r}</b>" if bar.r == chosen_r else str(bar.r) for bar in bars]
    names = list(bars[0].components) if bars else []
    traces = [_component(bars, labels, name, shade) for name, shade in zip(names, COMPONENT_SHADES, strict=False)]
    shapes, notes = [], []
    if usable_bytes:
        shapes.append(
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": usable_bytes / GIB, "y1": usable_bytes / GIB}
            | {"line": {"color": NEUTRAL, "width": 1.4, "dash": "dash"}}
        )
        notes.append(
            {"x": 1, "xref": "paper", "xanchor": "right", "y": usable_bytes / GIB, "yanchor": "bottom"}
            | {"showarrow": False, "bgcolor": rgba(NEUTRAL, 0.2)}
            | {"text": f"{gpu_name}: {memory_size(usable_bytes)} usable"}
        )
    ranks = [bar.r for bar in bars]
    if chosen_r in ranks:
        shapes.append(vertical_line(ranks.index(chosen_r), CHOSEN))
    return draw(
        [*traces, _band(bars, labels)] if bars else [],
        height=height,
        uirevision=f"memory|{gpu_name}",
        x={"type": "category", "showgrid": False},
        y={"rangemode": "tozero"},
        x_title="LoRA rank r",
        y_title="memory, GiB",
        say="" if bars else "Memory is not known for this set-up.",
        shapes=shapes,
        annotations=notes,
        barmode="stack",
        legend_traceorder="normal",
        bargap=0.35,
    )


def _component(bars: Sequence[MemoryBar], labels: Sequence[str], name: str, shade: str) -> dict[str, Any]:
    held = [bar.components[name] for bar in bars]
    return {
        "type": "bar",
        "x": labels,
        "y": [size / GIB for size in held],
        "name": name,
        "marker": {"color": shade, "line": {"color": rgba(NEUTRAL, 0.35), "width": 0.5}},
        "customdata": [f"{name}: {memory_size(size)} ({size:,} bytes)" for size in held],
        "hovertemplate": "r = %{x}<br>%{customdata}<extra></extra>",
    }


def _band(bars: Sequence[MemoryBar], labels: Sequence[str]) -> dict[str, Any]:
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


def module_figure(
    modules: Sequence[str],
    blocks: Sequence[str],
    parameters: Sequence[Sequence[int]],
    *,
    r: int,
    height: int = 340,
) -> "go.Figure":
    """Adapter parameters by module (rows) and block (columns); an empty cell is a module the block lacks."""
    every = max(1, -(-len(blocks) // 8))
    cells = {
        "type": "heatmap",
        "x": blocks,
        "y": modules,
        "z": [[value or None for value in row] for row in parameters],
        "colorscale": [[0, rgba(ESTIMATED, 0.2)], [1, rgba(ESTIMATED, 0.95)]],
        "zmin": 0,
        "xgap": 1,
        "ygap": 1,
        "customdata": [[f"{value:,}" for value in row] for row in parameters],
        "hovertemplate": f"%{{y}}, block %{{x}}<br>%{{customdata}} parameters at r = {r}<extra></extra>",
        "hoverongaps": False,
        "colorbar": {"thickness": 8, "outlinewidth": 0, "len": 0.9},
    }
    return draw(
        [cells] if modules else [],
        height=height,
        uirevision="modules",
        x={"showgrid": False, "type": "category", "tickangle": 0, "tickmode": "array", "tickvals": blocks[::every]},
        y={"showgrid": False, "type": "category", "autorange": "reversed"},
        x_title="block",
        say="" if modules else "No module matches these targets.",
    )
