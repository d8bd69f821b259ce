"""What a rank costs: memory by component, parameters by module and block. All of it estimated, so all of it slate."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from rankviz.figures.style import CHOSEN, ESTIMATED, NEUTRAL, blank_figure, rgba, say
from rankviz.units import GIB, memory_size


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
) -> go.Figure:
    """A stacked bar a rank against the card's usable memory, each with the band of what the card would show."""
    figure = blank_figure(height=height, uirevision=f"memory|{gpu_name}")
    figure.update_xaxes(title_text="LoRA rank r", type="category", showgrid=False)
    figure.update_yaxes(title_text="memory, GiB", rangemode="tozero")
    if not bars:
        return say(figure, "Memory is not known for this set-up.")
    labels = [f"<b>{bar.r}</b>" if bar.r == chosen_r else str(bar.r) for bar in bars]
    for name, shade in zip(bars[0].components, COMPONENT_SHADES, strict=False):
        figure.add_bar(
            x=labels,
            y=[bar.components[name] / GIB for bar in bars],
            name=name,
            marker={"color": shade, "line": {"color": rgba(NEUTRAL, 0.35), "width": 0.5}},
            customdata=[
                f"{name}: {memory_size(bar.components[name])} ({bar.components[name]:,} bytes)" for bar in bars
            ],
            hovertemplate="r = %{x}<br>%{customdata}<extra></extra>",
        )
    figure.add_scatter(
        x=labels,
        y=[(bar.low + bar.high) / 2 / GIB for bar in bars],
        mode="markers",
        name="range on the card",
        marker={"symbol": "line-ns-open", "size": 9, "color": NEUTRAL, "line": {"width": 1.4}},
        error_y={
            "type": "data",
            "array": [(bar.high - bar.low) / 2 / GIB for bar in bars],
            "color": NEUTRAL,
            "thickness": 1.4,
            "width": 5,
        },
        customdata=[f"{memory_size(bar.low)} to {memory_size(bar.high)} on the card" for bar in bars],
        hovertemplate="r = %{x}<br>%{customdata}<extra></extra>",
    )
    if usable_bytes:
        figure.add_hline(y=usable_bytes / GIB, line={"color": NEUTRAL, "width": 1.4, "dash": "dash"})
        figure.add_annotation(
            x=1,
            xref="paper",
            xanchor="right",
            y=usable_bytes / GIB,
            yanchor="bottom",
            showarrow=False,
            bgcolor="rgba(127,127,127,0.12)",
            text=f"{gpu_name}: {memory_size(usable_bytes)} usable",
        )
    _mark_chosen(figure, [bar.r for bar in bars], chosen_r)
    figure.update_layout(barmode="stack", bargap=0.35, legend={"traceorder": "normal"})
    return figure


def _mark_chosen(figure: go.Figure, ranks: Sequence[int], chosen_r: int) -> None:
    if chosen_r in ranks:
        figure.add_vline(x=ranks.index(chosen_r), line={"color": CHOSEN, "width": 1.2}, layer="below")


def module_figure(
    modules: Sequence[str],
    blocks: Sequence[str],
    parameters: Sequence[Sequence[int]],
    *,
    r: int,
    height: int = 340,
) -> go.Figure:
    """Adapter parameters by module (rows) and block (columns); an empty cell is a module the block lacks."""
    figure = blank_figure(height=height, uirevision="modules")
    every = max(1, -(-len(blocks) // 8))
    figure.update_xaxes(
        title_text="block", showgrid=False, type="category", tickangle=0, tickmode="array", tickvals=blocks[::every]
    )
    figure.update_yaxes(showgrid=False, type="category", autorange="reversed")
    if not modules:
        return say(figure, "No module matches these targets.")
    figure.add_heatmap(
        x=blocks,
        y=modules,
        z=[[value or None for value in row] for row in parameters],
        colorscale=[[0, rgba(ESTIMATED, 0.2)], [1, rgba(ESTIMATED, 0.95)]],
        zmin=0,
        xgap=1,
        ygap=1,
        customdata=[[f"{value:,}" for value in row] for row in parameters],
        hovertemplate="%{y}, block %{x}<br>%{customdata} parameters at r = " + str(r) + "<extra></extra>",
        hoverongaps=False,
        colorbar={"thickness": 8, "outlinewidth": 0, "len": 0.9},
    )
    return figure
