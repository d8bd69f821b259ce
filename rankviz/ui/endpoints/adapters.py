"""Endpoints for trained adapters: the spectrum of one, and the same adapter at a lower rank."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from rankviz.api import Api
from rankviz.core.spectrum import SpectrumJSON, as_json
from rankviz.ui.endpoints.results import FileJSON, check_part, file


class SpectrumAnswerJSON(SpectrumJSON):
    """A whole adapter, with as many of its layers as were asked for. `rank_for_energy` is by share of all energy,
    `energy_kept` the share by rank; dead modules have no update, faint ones a far smaller one than the others."""

    layers_in_all: int


class ResizedJSON(TypedDict):
    """The resized adapter as a zip that PEFT loads once it is unpacked, and what became of it."""

    file: FileJSON
    r: int
    lora_alpha: float
    rank_by_module: dict[str, int]
    energy_kept: float | None
    adapter_parameters: int
    adapter_bytes: int
    adapter_bytes_before: int


def operations(api: Api) -> Sequence[Callable[..., Any]]:
    def spectrum(adapter: str = "", limit: int = 50, offset: int = 0) -> SpectrumAnswerJSON:
        """Which rank a trained adapter really uses: the singular values of its updates, and what they say.

        Args:
            adapter: The id of a run of yours, a Hub id, sample, or the path of a zip that you uploaded.
            limit: How many updates to list, 1 to 500; all of them set the other values.
            offset: How many to leave out before them.
        """
        check_part(limit, offset)
        opened = api.adapters.spectrum(adapter)
        return {**as_json(opened, slice(offset, offset + limit)), "layers_in_all": len(opened.layers)}

    def resize(
        adapter: str = "", r: int | None = None, energy: float | None = None, dtype: str | None = None
    ) -> ResizedJSON:
        """Truncate a trained adapter to a lower rank, as a file to download.

        Args:
            adapter: The id of a run of yours, a Hub id, sample, or the path of a zip that you uploaded.
            r: One rank for all modules, lower than the adapter's.
            energy: Instead of a rank: the share of each module's energy to keep, such as 0.99.
            dtype: fp32, bf16 or fp16; empty leaves it unchanged.
        """
        planned = api.adapters.plan_resize(adapter, r=r, energy=energy, dtype=dtype)
        return ResizedJSON(
            file=file(api.adapters.zip_resized(adapter, planned)),
            r=planned.ranks.r,
            lora_alpha=planned.ranks.lora_alpha,
            rank_by_module=dict(planned.by_module),
            energy_kept=planned.energy_kept,
            adapter_parameters=planned.parameters,
            adapter_bytes=planned.file_bytes,
            adapter_bytes_before=planned.file_bytes_before,
        )

    return spectrum, resize
