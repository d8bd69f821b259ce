"""`--plot FILE`: what a command computed, as a figure in a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankviz.cli.shared import require_new

if TYPE_CHECKING:
    from rankviz.core.cost.estimate import Estimate
    from rankviz.core.forecast.decision import Decision
    from rankviz.core.runs.record import Sweep
    from rankviz.core.spectrum import Spectrum
    from rankviz.verdict import Verdict

Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Also write a figure: FILE.html, FILE.png or FILE.svg."),
]


def check(plot: Path | None, *, force: bool) -> None:
    """Refuse a file that cannot be written or is there already, before the command does its work."""
    if plot:
        from rankviz.figures import plot_file

        require_new(plot_file(plot), force=force)


def plot_estimate(plot: Path, estimate: "Estimate", basis: str) -> None:
    """Memory by component over rank. basis: what the estimate rests on, in a sentence."""
    from rankviz.figures import memory_figure, memory_info, write_figure

    info = memory_info(estimate)
    title = f"Memory by component and rank: {estimate.model.id}"
    _written(write_figure(memory_figure(info), plot, title=title, source=f"{info.source} {basis}"))


def plot_sweep(plot: Path, sweep: "Sweep", verdict: "Verdict | None", decision: "Decision | None" = None) -> None:
    """Quality against adapter size; of a fast curve or a quick look the loss by rank, with the forecast of decision."""
    from rankviz import figures
    from rankviz.core.runs.words import sweep_title

    title = sweep_title(sweep)
    if any(run.cuts for run in sweep.runs):
        info = figures.rank_curve_info(sweep, verdict, forecast=decision.forecast if decision else None)
        figure, source = figures.rank_curve_figure(info), info.source
    else:
        info = figures.tradeoff_info([sweep])
        figure, source = figures.tradeoff_figure(info), " ".join(info.notes)
    _written(figures.write_figure(figure, plot, title=title, source=source))


def plot_spectrum(plot: Path, spectrum: "Spectrum") -> None:
    """Singular values of the module that needs the highest rank, and of the same module in other blocks."""
    from rankviz.figures import spectrum_figure, spectrum_info, write_figure

    info = spectrum_info(spectrum)
    _written(write_figure(spectrum_figure(info), plot, title=f"Singular values: {spectrum.name}", source=info.source))


def _written(path: Path) -> None:
    print(f"Plot: {path}", file=sys.stderr)
