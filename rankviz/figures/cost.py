"""Figures of estimates: memory by rank, predicted against measured memory, and parameters by module and block."""

from dataclasses import asdict
from html import escape

from rankviz.core.accuracy.report import AccuracyReport, ReportRow
from rankviz.core.cost.estimate import Estimate, MemoryJSON
from rankviz.core.from_json import as_answer
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.lora.plan import AdapterPlan
from rankviz.figures import style
from rankviz.units import GIB, memory_size, memory_span

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
SYMBOLS = ("circle", "square", "diamond", "triangle-down", "star", "hexagon", "cross", "pentagon")
BOUND_SYMBOL = "triangle-up"
MEASURED_SOURCE = (
    "Measured rows that ship with RankViz, each with its own source, beside RankViz's predictions. Each row is "
    "predicted without the measurements of its own source."
)
SETTING_WORDS = 4


def memory_figure(estimate: Estimate, *, chosen_r: int | None = None, height: int = 340) -> style.Drawing:
    """Draw a stacked bar per rank with its range, and the card's usable memory. chosen_r: the rank to mark."""
    ranks, gpu_name = [rank.r for rank in estimate.ranks], estimate.gpu.name if estimate.gpu else ""
    labels = [f"<b>{r}</b>" if r == chosen_r else str(r) for r in ranks]
    shapes = []
    if estimate.usable_bytes and (usable := estimate.usable_bytes.expected):
        shapes.append(style.level(usable / GIB, style.NEUTRAL, "dash", f"{memory_size(usable)} usable"))
    if chosen_r in ranks:
        shapes.append(style.vertical_line(ranks.index(chosen_r), style.CHOSEN))
    traces = []
    for name, shade in SHADES.items():
        sizes = [getattr(rank.memory, name.replace(" ", "_")) for rank in estimate.ranks]
        trace = {
            "type": "bar",
            "x": labels,
            "y": [size / GIB for size in sizes],
            "name": name,
            "marker": {"color": shade, "line": {"color": style.rgba(style.NEUTRAL, 0.35), "width": 0.5}},
            "customdata": [f"{name}: {memory_size(size)} ({size:,} bytes)" for size in sizes],
            "hovertemplate": "r = %{x}<br>%{customdata}<extra></extra>",
        }
        traces.append(trace)
    ends = [(rank.memory.low / GIB, rank.memory.high / GIB) for rank in estimate.ranks]
    look = {"opacity": 1, "thickness": 1.4, "width": 5}
    on_card = style.scatter(
        labels,
        [(low + high) / 2 for low, high in ends],
        name="range on the card",
        marker={"symbol": "line-ns-open", "size": 9, "color": style.NEUTRAL, "line": {"width": 1.4}},
        error_y=style.bars([(high - low) / 2 for low, high in ends], style.NEUTRAL, **look),
        customdata=[f"{memory_span(rank.memory)} on the card" for rank in estimate.ranks],
        hovertemplate="r = %{x}<br>%{customdata}<extra></extra>",
    )
    return style.draw(
        [*traces, on_card],
        height=height,
        uirevision=f"memory|{gpu_name}",
        x={"type": "category", "showgrid": False},
        y={"rangemode": "tozero"},
        x_title="LoRA rank r",
        y_title="memory, GiB",
        rows=[{"r": rank.r, **as_answer(MemoryJSON, rank.memory)} for rank in estimate.ranks],
        source=f"Memory estimated by RankViz for {estimate.model.id}.",
        shapes=shapes,
        barmode="stack",
        legend=style.LEGEND | {"traceorder": "normal"},
        bargap=0.35,
    )


def parameters_figure(plan: AdapterPlan, r: int, *, height: int = 340) -> style.Drawing:
    """Draw adapter parameters at rank r by module and block; a cell is empty where the block has no such module."""
    grid = plan.by_block(r)
    places = sorted({place for cells in grid.values() for place in cells})
    blocks = ["outside" if tower == 2 else f"{'vision ' * tower}{block}" for tower, block in places]
    rules = f"PEFT {PEFT_VERSION} and Unsloth {UNSLOTH_VERSION}"
    look = {
        "zmin": 0,
        "customdata": [[f"{cells.get(place, 0):,}" for place in places] for cells in grid.values()],
        "hovertemplate": f"%{{y}}, block %{{x}}<br>%{{customdata}} parameters at r = {r}<extra></extra>",
    }
    return style.module_map(
        list(grid),
        blocks,
        [[cells.get(place) or None for place in places] for cells in grid.values()],
        style.ESTIMATED,
        look,
        height=height,
        uirevision="modules",
        message="No module matches these targets.",
        rows=[
            {"block": block, "module": module, "parameters": cells[place]}
            for place, block in zip(places, blocks, strict=True)
            for module, cells in grid.items()
            if place in cells
        ],
        source=f"Counted from the model's own layers, by the rules of {rules}.",
    )


def accuracy_figure(report: AccuracyReport, *, height: int = 460) -> style.Drawing:
    """Draw predicted against measured memory on two logarithmic axes. An open marker does not count, since its setup
    is not fully known. An open triangle that points up is an upper limit: it is right anywhere above the line."""
    points = [row for row in report.rows if row.measured_bytes and row.predicted_bytes]
    sizes = [size / GIB for row in points for size in (row.measured_bytes, row.low, row.high) if size > 0]
    groups: dict[tuple[bool, bool, str], list[ReportRow]] = {}
    for row in points:
        groups.setdefault((not row.scored, row.bound, row.group), []).append(row)
    low, high = (min(sizes) * 0.8, max(sizes) * 1.25) if sizes else (0, 0)
    look = {"line": {"color": style.NEUTRAL, "width": 1.2, "dash": "dash"}, "hoverinfo": "skip", "showlegend": False}
    traces = [style.scatter([low, high], [low, high], mode="lines", name="equal", **look)] if sizes else []
    range_look = {"symmetric": False, "opacity": 0.55, "thickness": 1, "width": 0}
    for number, ((shown_only, bound, group), rows) in enumerate(sorted(groups.items())):
        colour = style.NEUTRAL if shown_only else style.MEASURED
        symbol = BOUND_SYMBOL if bound else SYMBOLS[number % len(SYMBOLS)]
        marker = {"symbol": f"{symbol}-open" if shown_only else symbol, "size": 8, "color": colour}
        above = [(row.high - row.predicted_bytes) / GIB for row in rows]
        below = [(row.predicted_bytes - row.low) / GIB for row in rows]
        trace = style.scatter(
            [row.measured_bytes / GIB for row in rows],
            [row.predicted_bytes / GIB for row in rows],
            name=f"{group}, upper limit" if bound else f"{group}, not counted" if shown_only else group,
            marker=marker | {"line": {"width": 1.2, "color": colour}},
            error_y=style.bars(above, style.ESTIMATED, below=below, **range_look),
            customdata=[_hover(row) for row in rows],
            hovertemplate="%{customdata}<extra></extra>",
        )
        traces.append(trace)
    # A logarithmic axis of few decades has too few ticks of its own.
    ticks = style.ticks_at([(at, f"{at:g}") for at, _ in style.ONE_TWO_FIVE if low <= at <= high]) if sizes else {}
    return style.draw(
        traces,
        height=height,
        uirevision="accuracy",
        x={"type": "log", **ticks},
        y={"type": "log", **ticks},
        x_title="measured, GiB",
        y_title="predicted, GiB",
        message="" if points else "No measured row can be compared.",
        rows=[asdict(row) for row in report.rows],
        source=MEASURED_SOURCE,
    )


def _hover(row: ReportRow) -> str:
    words = escape(row.setting).split(", ")
    lines = [", ".join(words[i : i + SETTING_WORDS]) for i in range(0, len(words), SETTING_WORDS)]
    text = f"measured {memory_size(row.measured_bytes)}, predicted {memory_size(row.predicted_bytes)}"
    if row.bound:
        text = f"measured {memory_size(row.measured_bytes)}; only an upper limit is known, {memory_size(row.high)}"
    return "<br>".join([f"<b>{escape(row.model_id)}</b>", *lines, text])
