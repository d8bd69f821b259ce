"""`rankviz spectrum` and `rankviz resize`."""

from pathlib import Path
from typing import Annotated

import typer

from rankviz import units
from rankviz.api import Api
from rankviz.cli.shared import Force, Json, Plot, check, plot_spectrum, print_json, table
from rankviz.units import rounded_percent as percent

Adapter = Annotated[
    str,
    typer.Argument(help="A folder, a zip, a .safetensors beside its config, a run's id, a Hub id, or sample."),
]


def spectrum(adapter: Adapter, plot: Plot = None, force: Force = False, as_json: Json = False) -> None:
    """Show which rank a trained adapter really uses."""
    from rankviz.core.spectrum import SHARES, grid, in_words, spread
    from rankviz.core.spectrum import as_json as as_dict

    check(plot, force=force)
    spectrum = Api().adapters.spectrum(adapter)
    if plot:
        plot_spectrum(plot, spectrum)
    if as_json:
        return print_json(as_dict(spectrum))
    cells = grid(spectrum)
    print(in_words(spectrum))
    rows = []
    for name in cells.rows:
        layers = cells.row(name)
        used = [layer for layer in layers if not layer.is_dead]
        rows.append(
            [
                name,
                str(len(layers)),
                _span([layer.r for layer in layers]),
                *(_span([layer.rank_for(share) for layer in used]) for share in SHARES),
                *(
                    f"{over.median:.1f}" if (over := spread(layers, measure)) else "–"
                    for measure in ("effective_rank", "stable_rank")
                ),
                str(len(layers) - len(used)),
            ]
        )
    size = f"{units.file_size(spectrum.file_bytes)} in {spectrum.dtype}"
    steps = f", {units.counted(spectrum.training_steps, 'step')}" if spectrum.training_steps else ""
    table(
        f"{spectrum.name}: {units.counted(len(spectrum.layers), 'update')}, r = {spectrum.r}, {size}{steps}",
        [
            "Module",
            "Updates",
            "r",
            *(f"Rank for {percent(share, 0)}" for share in SHARES),
            "Effective rank",
            "Stable rank",
            "No update",
        ],
        rows,
        notes=list(spectrum.notes),
    )


def _span(values: list[int]) -> str:
    if not values:
        return "–"
    return str(values[0]) if min(values) == max(values) else f"{min(values)} – {max(values)}"


def resize(
    adapter: Adapter,
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder for the resized adapter.")],
    r: Annotated[int | None, typer.Option("-r", "--rank", help="One rank for all modules.")] = None,
    energy: Annotated[
        float | None, typer.Option(help="Instead of a rank: share of each module's energy to keep, such as 0.99.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16; unchanged by default.")] = None,
    as_json: Json = False,
) -> None:
    """Truncate a trained adapter to a lower rank; PEFT loads the result."""
    api = Api()
    planned = api.adapters.plan_resize(adapter, r=r, energy=energy, dtype=dtype)
    folder = api.adapters.resize(adapter, planned, output)
    ranks = sorted(planned.by_module.values())
    if as_json:
        return print_json(
            {
                "output": str(folder),
                "r": planned.ranks.r,
                "lora_alpha": planned.ranks.lora_alpha,
                "rank_by_module": dict(planned.by_module),
                "energy_kept": planned.energy_kept,
                "adapter_parameters": planned.parameters,
                "adapter_bytes": planned.file_bytes,
                "adapter_bytes_before": planned.file_bytes_before,
            }
        )
    kept = f"{100 * planned.energy_kept:.2f} % of the update's energy kept" if planned.energy_kept is not None else ""
    print(
        f"{folder}: r = {_span(ranks)}, {planned.parameters:,} parameters, "
        f"{units.file_size(planned.file_bytes)} (before {units.file_size(planned.file_bytes_before)})"
        + (f", {kept}." if kept else ".")
    )
    for note in api.adapters.spectrum(adapter).notes:
        print(f"- {note}")
