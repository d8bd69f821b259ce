"""The share of a trained adapter's energy that each rank keeps: of all updates together, and of the weakest module."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rankviz.core.spectrum import NEARLY_ALL, Spectrum, spaced
from rankviz.figures.style import CHOSEN, MEASURED, SMALL, Drawing, draw, figure, rgba, vertical_line
from rankviz.units import rounded_percent as percent

FEW = 32
"""Up to this rank the axis is linear; above, in powers of two."""
MOST_RANKS = 256
"""That are drawn: of a higher rank, some are left out, evenly on the axis."""


class EnergyInfo(NamedTuple):
    """What the figure of energy by rank shows, in percent."""

    ranks: Sequence[int] = ()
    """Empty for an adapter without any update."""
    kept: Sequence[float] = ()
    """Of all updates together."""
    weakest: Sequence[float] = ()
    """Of the module that keeps least."""
    r: int | None = None
    """A rank to truncate to."""
    left_out: int = 0
    """Ranks that are not drawn."""
    source: str = ""
    rows: Sequence[Mapping[str, object]] = ()


def energy_info(spectrum: Spectrum, *, r: int | None = None) -> EnergyInfo:
    """Energy kept at each rank from 1 to the trained one."""
    if not spectrum.kept[-1]:
        return EnergyInfo()
    ranks = spaced(spectrum.r, MOST_RANKS, always=[r] if r and r < spectrum.r else ())
    kept = [spectrum.energy_kept(k) for k in ranks]
    weakest = [spectrum.weakest(k) for k in ranks]
    return EnergyInfo(
        ranks=ranks,
        kept=[100 * share for share in kept],
        weakest=[100 * share for share in weakest],
        r=r if r and r < spectrum.r else None,
        left_out=spectrum.r - len(ranks),
        source=f"Spectrum of the adapter {spectrum.name}.",
        rows=[
            {"r": k, "energy_kept": share, "weakest_module": least}
            for k, share, least in zip(ranks, kept, weakest, strict=True)
        ],
    )


@figure
def energy_figure(info: EnergyInfo, *, height: int = 300) -> Drawing:
    """Two measured lines by rank, the rank to truncate to, and where nearly all of the energy is. A click on a point
    reports its rank."""
    lines = [
        _line(info.ranks, info.weakest, "the module that keeps least", rgba(MEASURED, 0.45), 1.2),
        _line(info.ranks, info.kept, "all updates", MEASURED, 2),
    ]
    look = {"height": height, "uirevision": "energy"}
    drawn = f" ({len(info.ranks)} of {len(info.ranks) + info.left_out:,} ranks drawn)" if info.left_out else ""
    titles = {"x_title": f"rank after truncation{drawn}", "y_title": "energy kept"}
    if not info.ranks:
        return draw([], x={}, y={}, message="No module has an update.", **look, **titles)
    label = {"text": percent(NEARLY_ALL, 0), "x": 1, "xref": "paper", "xanchor": "right", "showarrow": False}
    return draw(
        lines,
        x={"showgrid": False, **_ticks(info.ranks[-1])},
        y={"range": [min(info.weakest) - 3, 101.5], "ticksuffix": " %"},
        shapes=[_nearly_all(), *([vertical_line(info.r, CHOSEN)] if info.r else [])],
        annotations=[label | {"y": 100 * NEARLY_ALL, "yanchor": "top", "font": {"size": SMALL}}],
        showlegend=True,
        **look,
        **titles,
    )


def _ticks(highest: int) -> dict[str, Any]:
    if highest <= FEW:
        return {"dtick": 1 if highest <= FEW // 2 else 4, "range": [0.5, highest + 0.5]}
    powers = [2**k for k in range(highest.bit_length())]
    return {"type": "log", "tickvals": powers, "ticktext": [str(power) for power in powers]}


def _nearly_all() -> dict[str, Any]:
    at = 100 * NEARLY_ALL
    line = {"color": rgba(MEASURED, 0.5), "width": 1, "dash": "dot"}
    return {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": at, "y1": at, "line": line, "layer": "below"}


def _line(ranks: Sequence[int], shares: Sequence[float], name: str, colour: str, width: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": list(ranks),
        "y": list(shares),
        "customdata": [f"r{k}" for k in ranks],
        "mode": "lines+markers",
        "name": name,
        "line": {"color": colour, "width": width},
        "marker": {"size": 3 + 2 * width, "color": colour},
        "hovertemplate": f"r = %{{x}}: {name}: %{{y:.2f}} %<extra></extra>",
    }
