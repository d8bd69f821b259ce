"""GPUs, the constants of the formulas, and facts on servers: assets/gpus.json, assumptions.json and serving.json."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rankviz.catalog import read_json, read_rows
from rankviz.catalog.measurements import load_range_evidence
from rankviz.core.accuracy.report import widths
from rankviz.core.cost.setup import Gpu, Price
from rankviz.core.quantity import Assumption, Assumptions, Range
from rankviz.errors import UnknownGpuError

GPUS_FILE = "gpus.json"
ASSUMPTIONS_FILE = "assumptions.json"
SERVING_FILE = "serving.json"
MEMORY_TOLERANCE = 0.1
"""Share by which sizes of one card's memory may differ: GB for GiB is 7 % less, and ECC takes up to 6 %."""
MAKERS = frozenset({"nvidia", "geforce", "tesla"})  # words that some drivers put before the name of a card


@lru_cache(maxsize=8)
def load_gpus(assets: Path) -> tuple[Gpu, ...]:
    """Return all cards of the table, sorted by id, then all Macs, sorted by memory."""
    macs = sorted(read_rows(assets / GPUS_FILE, "macs"), key=lambda row: row["memory_bytes"])
    rows = [*read_rows(assets / GPUS_FILE, "gpus"), *macs]
    made = [row | {"prices": tuple(Price(**price) for price in row["prices"])} for row in rows]
    return tuple(Gpu(**row | {"device_names": tuple(row["device_names"])}) for row in made)


@lru_cache(maxsize=8)
def load_assumptions(assets: Path) -> Assumptions:
    """Return all constants by id, with the widths of bands that the validation computed."""
    return load_constants(assets).with_rows(widths(*load_range_evidence(assets)))


@lru_cache(maxsize=8)
def load_constants(assets: Path) -> Assumptions:
    """Return the constants of assumptions.json, without those that the validation computed."""

    def in_range(value: Any) -> Range:
        return Range(**value) if isinstance(value, dict) else Range(value, value, value)

    constants = {}
    for row in read_rows(assets / ASSUMPTIONS_FILE, "assumptions"):
        without = tuple((origin, in_range(each)) for origin, each in row.get("without", {}).items())
        constants[row["id"]] = Assumption(**row | {"value": in_range(row["value"]), "without": without})
    return Assumptions(constants, load_serving(assets))


@lru_cache(maxsize=8)
def load_serving(assets: Path) -> Mapping[str, Any]:
    """Return serving.json: facts on vLLM, its rules by architecture, and published slow-downs by adapters."""
    facts = read_json(assets / SERVING_FILE)
    return {**facts, "architectures": {row["id"]: row for row in facts["architectures"]}}


def find_gpu(gpus: tuple[Gpu, ...], name: str) -> Gpu:
    """Return the card with this id or name, or the only one that begins so; case and punctuation are ignored."""

    def plain(text: str) -> str:
        return "".join(letter for letter in text.casefold() if letter.isalnum())

    wanted = plain(name)
    if exact := next((gpu for gpu in gpus if wanted in (plain(gpu.id), plain(gpu.name))), None):
        return exact
    begins = [gpu for gpu in gpus if wanted and plain(gpu.name).startswith(wanted)]
    if len(begins) != 1:
        raise UnknownGpuError(name, tuple(gpu.name for gpu in begins or gpus))
    return begins[0]


def gpu_of_device(gpus: tuple[Gpu, ...], device_name: str, memory_bytes: int | None = None) -> Gpu | None:
    """Return the card for a driver's device name ("NVIDIA A100-SXM4-80GB"); None for a card outside the table. A row
    lists the names that drivers give its card. Any other word in a name means another card, with another speed and
    price: Ti, D, Laptop GPU, Max-Q, PCIe, a MIG slice, a vGPU such as A40-48Q. memory_bytes: As the driver reports it;
    a difference above MEMORY_TOLERANCE also means another card."""
    device = _words(device_name)
    for gpu in gpus:
        expected = gpu.usable_bytes or gpu.memory_bytes
        near = abs((memory_bytes or expected) / expected - 1) <= MEMORY_TOLERANCE
        if near and any(device == _words(name) for name in gpu.device_names):
            return gpu
    return None


def gpus_of_model(gpus: Sequence[Gpu], model: str, memory_bytes: int | None = None) -> Sequence[Gpu]:
    """Return the cards that a cloud or scheduler may mean by a model, such as "L4", "A100" or "GeForce-RTX-4090": those
    whose names begin with it. There are several where a card is sold with different memory or in different forms.
    memory_bytes: Memory of the card as sold, where known."""
    words = _words(model)
    return [
        gpu
        for gpu in gpus
        if words and gpu.device_names and _words(gpu.name)[: len(words)] == words
        if memory_bytes is None or abs(gpu.memory_bytes / memory_bytes - 1) <= MEMORY_TOLERANCE
    ]


def environment_of(gpu: Gpu) -> Mapping[str, Any]:
    """Return the environment that a run on a machine with this card would record."""
    memory_bytes = gpu.usable_bytes or gpu.memory_bytes
    return {"device": "cuda", "device_name": gpu.device_names[0], "device_memory_bytes": memory_bytes}


@lru_cache(maxsize=1000)
def _words(name: str) -> tuple[str, ...]:
    plain = "".join(letter if letter.isalnum() else " " for letter in name.casefold())
    return tuple(word for word in plain.split() if word not in MAKERS)
