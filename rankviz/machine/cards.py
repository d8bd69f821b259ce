"""NVIDIA GPUs as the driver reports them (NVML, no torch), and which one of them training uses.
torch and NVML number cards alike only under CUDA_DEVICE_ORDER=PCI_BUS_ID, and with several visible cards transformers'
Trainer spreads each batch over all of them. So a worker is started with that order and one card, by its UUID."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rankviz.core.preflight import Card, Driver

VISIBLE, ORDER, PCI = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PCI_BUS_ID"


def read_driver(nvml: Any = None) -> Driver | None:
    """Return the driver and its cards; None where no driver answers. nvml: a module like pynvml."""
    if nvml is None:
        import pynvml as nvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        cuda, cards = nvml.nvmlSystemGetCudaDriverVersion_v2(), []
        for index in range(nvml.nvmlDeviceGetCount()):
            with suppress(nvml.NVMLError):  # one card that has failed hides no other
                handle, memory = nvml.nvmlDeviceGetHandleByIndex(index), None
                with suppress(
                    nvml.NVMLError
                ):  # "Not Supported" where the GPU shares the machine's memory: GB10, Jetson
                    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                known = memory is not None and memory.total > 0
                card = Card(
                    index=index,
                    name=str(nvml.nvmlDeviceGetName(handle)),
                    uuid=str(nvml.nvmlDeviceGetUUID(handle)),
                    memory_bytes=memory.total if known else None,
                    used_bytes=memory.used if known else None,
                    capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
                )
                cards.append(card)
        version = str(nvml.nvmlSystemGetDriverVersion())
        return Driver(version=version, cuda=(cuda // 1000, cuda % 1000 // 10), cards=tuple(cards))
    finally:
        nvml.nvmlShutdown()


def chosen(driver: Driver | None, environ: Mapping[str, str] = os.environ) -> Card | None:
    """Return the card that training uses: the first in CUDA_VISIBLE_DEVICES, else the one with most memory; None where
    there is none, or where all are hidden. Cards are numbered by PCI bus, as in nvidia-smi."""
    return next(iter(usable(driver, environ)), None)


def usable(driver: Driver | None, environ: Mapping[str, str] = os.environ) -> tuple[Card, ...]:
    """Return the cards that workers use at the same time, `chosen` first: those of CUDA_VISIBLE_DEVICES up to the first
    that does not exist, as CUDA reads it; else those alike, for which the page's estimates hold."""
    if driver is None or not driver.cards:
        return ()
    if (wanted := environ.get(VISIBLE)) is None:
        first = max(driver.cards, key=lambda card: card.memory_bytes or 0)
        alike = (first.name, first.memory_bytes)
        return tuple(card for card in driver.cards if (card.name, card.memory_bytes) == alike)
    cards: dict[str, Card] = {}
    for name in map(str.strip, wanted.split(",")):
        if name.startswith("MIG-"):  # the memory of a slice is not looked up
            named = [replace(driver.cards[0], index=None, uuid=name, memory_bytes=None, used_bytes=None)]
        elif name.isdecimal():
            named = [card for card in driver.cards if card.index == int(name)]
        else:  # CUDA takes the beginning of a UUID too, as long as it is the only one
            named = [card for card in driver.cards if name.startswith("GPU-") and card.uuid.startswith(name)]
        if len(named) != 1 or named[0].uuid in cards:
            break
        cards[named[0].uuid] = named[0]
    return tuple(cards.values())


def worker_environment(environ: Mapping[str, str] = os.environ, nvml: Any = None) -> dict[str, str]:
    """Return the variables that show a worker only the card that `chosen` names; empty without a GPU."""
    card = chosen(read_driver(nvml), environ)
    return only(card) if card else {}


def only(card: Card) -> dict[str, str]:
    """Return the environment variables that show a worker no card but this one."""
    return {ORDER: PCI, VISIBLE: card.uuid or str(card.index)}
