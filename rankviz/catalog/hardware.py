"""GPUs and the constants of the formulas, read from assets/gpus.json and assets/assumptions.json.

Reading trusts the files: `tools.asset_schema` checks them in the tests. A row that cannot be read at all is still
an AssetError that names it.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rankviz.catalog.measurements import load_range_evidence
from rankviz.core.accuracy.report import widths
from rankviz.core.cost.assumptions import Assumption, Assumptions
from rankviz.core.cost.setup import Gpu, Price
from rankviz.core.quantity import Range
from rankviz.errors import AssetError, UnknownGpuError

GPUS_FILE = "gpus.json"
ASSUMPTIONS_FILE = "assumptions.json"
ENDS = ("low", "expected", "high")
MEMORY_TOLERANCE = 0.1
"""Nominal sizes are 7 % below the driver's (GB against GiB), and ECC takes up to 6 % of it."""
MAKERS = frozenset({"nvidia", "geforce", "tesla"})
"""Words that some drivers put before the name of a card and others do not."""


@lru_cache(maxsize=8)
def load_gpus(assets: Path) -> tuple[Gpu, ...]:
    """All cards, sorted by id."""
    return tuple(_gpu(row) for row in read_rows(assets / GPUS_FILE, "gpus"))


@lru_cache(maxsize=8)
def load_assumptions(assets: Path) -> Assumptions:
    """All constants, by id, and the widths of bands that the validation gives."""
    return load_constants(assets).with_rows(widths(*load_range_evidence(assets)))


@lru_cache(maxsize=8)
def load_constants(assets: Path) -> Assumptions:
    """What assumptions.json holds, without anything from the validation."""
    rows = read_rows(assets / ASSUMPTIONS_FILE, "assumptions")
    return Assumptions({row["id"]: _assumption(row) for row in rows})


def find_gpu(gpus: tuple[Gpu, ...], name: str) -> Gpu:
    """The card with this id or name, or the only one whose name begins with it; case and punctuation do not matter."""
    plain = _plain(name)
    for gpu in gpus:
        if plain in (_plain(gpu.id), _plain(gpu.name)):
            return gpu
    begins = [gpu for gpu in gpus if plain and _plain(gpu.name).startswith(plain)]
    if len(begins) != 1:
        raise UnknownGpuError(name, tuple(gpu.name for gpu in begins or gpus))
    return begins[0]


def gpu_of_device(gpus: tuple[Gpu, ...], device_name: str, memory_bytes: int | None = None) -> Gpu | None:
    """The card that a driver's device name means ("NVIDIA A100-SXM4-80GB"); None if the table does not have it.

    A row has the names that drivers give its card. Any other word makes another card, with another speed and price:
    Ti, D, Laptop GPU, Max-Q, PCIe, a MIG slice, a vGPU such as A40-48Q.

    memory_bytes: as the driver reports it. A card whose memory is more than MEMORY_TOLERANCE from the row's is another
    one too.
    """
    device = _words(device_name)
    for gpu in gpus:
        usable = gpu.usable_bytes or gpu.memory_bytes
        fits = memory_bytes is None or abs(memory_bytes / usable - 1) <= MEMORY_TOLERANCE
        if fits and any(device == _words(name) for name in gpu.device_names):
            return gpu
    return None


def gpus_of_model(gpus: Sequence[Gpu], model: str, memory_bytes: int | None = None) -> Sequence[Gpu]:
    """The cards that a model may mean as clouds and schedulers name it, which is the beginning of a card's name: "L4",
    "A100", "GeForce-RTX-4090". Several where it is sold with more than one memory or in more than one form.

    memory_bytes: of the card as sold, where it is known.
    """
    words = _words(model)
    return [
        gpu
        for gpu in gpus
        if words
        and gpu.device_names
        and _words(gpu.name)[: len(words)] == words
        and (memory_bytes is None or abs(gpu.memory_bytes / memory_bytes - 1) < MEMORY_TOLERANCE)
    ]


def environment_of(gpu: Gpu) -> Mapping[str, Any]:
    """What a run on a machine with this card would find."""
    memory_bytes = gpu.usable_bytes or gpu.memory_bytes
    return {"device": "cuda", "device_name": gpu.device_names[0], "device_memory_bytes": memory_bytes}


def read_rows(path: Path, key: str) -> list[dict]:
    """The list under the file's one key."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))[key]
    except FileNotFoundError:
        raise AssetError(f"{path.name}: no such file in {path.parent}; restore it from the repository.") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise AssetError(
            f"{path.name}: not a JSON object with a list {key!r} ({error}); repair or restore it."
        ) from None


@lru_cache(maxsize=1000)
def _words(name: str) -> tuple[str, ...]:
    plain = "".join(letter if letter.isalnum() else " " for letter in name.casefold())
    return tuple(word for word in plain.split() if word not in MAKERS)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def in_one_form(row: dict) -> dict:
    """A row of assumptions.json with its value as low, expected and high; a single number is all three."""
    rest = dict(row)
    ends = [rest.pop(name, None) for name in ENDS]
    value = rest.pop("value", None)
    if (value is None) == (None in ends) or (value is not None and ends != [None] * len(ENDS)):
        raise ValueError("give either value, or low, expected and high")
    without = tuple(
        (origin, each if isinstance(each, dict) else dict.fromkeys(ENDS, each))
        for origin, each in rest.pop("without", {}).items()
    )
    return {**rest, "value": dict(zip(ENDS, ends if value is None else [value] * len(ENDS), strict=True))} | (
        {"without": without} if without else {}
    )


def _gpu(row: dict) -> Gpu:
    try:
        lists = {
            "prices": tuple(Price(**price) for price in row["prices"]),
            "device_names": tuple(row["device_names"]),
        }
        return Gpu(**{**row, **lists})
    except (KeyError, TypeError) as error:
        raise _unreadable(GPUS_FILE, row, error) from None


def _assumption(row: dict) -> Assumption:
    try:
        fields = in_one_form(row)
        without = tuple((origin, Range(**each)) for origin, each in fields.get("without", ()))
        return Assumption(**{**fields, "value": Range(**fields["value"]), "without": without})
    except (TypeError, ValueError) as error:
        raise _unreadable(ASSUMPTIONS_FILE, row, error) from None


def _unreadable(file: str, row: dict, error: Exception) -> AssetError:
    name = row.get("id", "?") if isinstance(row, dict) else row
    return AssetError(f"{file}: row {name!r} cannot be read ({error}); give it the fields that its neighbours have.")
