"""Checks of a machine before training. Each result is a sentence, with advice where something has to be done.

Not covered: whether a model fits (see the estimate), several GPUs at once, AMD and Intel GPUs. Facts come from
rankviz.machine and rankviz.hub.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rankviz import units
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.stack import PACKING_UNSLOTH_ZOO

State = Literal["ok", "warning", "problem", "not needed"]
Version = tuple[int, int]

BF16_CAPABILITY = (8, 0)
LEAST_CAPABILITY = (7, 0)
"""Lowest compute capability that Triton's kernels, and so Unsloth, support."""
CUDA_OF_BLACKWELL = (12, 8)
"""First CUDA version that compiles for compute capabilities 10.x and 12.x (CUDA 12.8 release notes)."""
DRIVER_FOR_CUDA = {11: "450", 12: "525", 13: "580"}
"""Oldest Linux driver for each major version of CUDA (NVIDIA, CUDA minor version compatibility)."""
BUSY_SHARE = 0.1
"""Share of the card's memory in use by other programs from which a warning is given."""
LEAST_DISK_BYTES = units.GB
ON_THE_CPU = "To train on the CPU, set CUDA_VISIBLE_DEVICES= (to nothing)."
HUB_DISK = "models from the Hub"
"""Value of `Disk.what` for the disk to which base models are downloaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One NVIDIA GPU as the driver reports it."""

    index: int | None
    """Number in PCI bus order, as nvidia-smi shows it; None for a MIG slice."""
    name: str
    uuid: str
    memory_bytes: int | None
    """Total memory; None where the driver does not say, because the GPU shares the machine's (GB10, Jetson)."""
    used_bytes: int | None
    """Memory in use by all programs; None where not known."""
    capability: Version


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """The NVIDIA driver and the cards that it reports."""

    version: str
    cuda: Version
    """Newest CUDA version that the driver supports."""
    cards: tuple[Card, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Software:
    """Software installed for training, found by reading files without imports. Empty fields mean "not installed"."""

    missing: str = ""
    """Sentence on how to install the trainer; empty where it is installed."""
    torch: str = ""
    torch_cuda: Version | None = None
    """CUDA version that torch was built for; None for a build without CUDA."""
    compiler: str | None = None
    """C compiler that Triton would use."""
    has_headers: bool = False
    """True where Python.h, which Triton compiles against, exists."""
    bitsandbytes: str = ""
    bitsandbytes_cuda: tuple[Version, ...] = ()
    """CUDA versions for which bitsandbytes has native libraries."""
    transformers: str = ""
    unsloth_zoo: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    what: str
    """Kind of files on this disk, such as "runs"."""
    path: str
    """Folder on this disk; empty for visitors of a shared page, who must not see the machine's paths."""
    free_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HubAnswer:
    """Result of contacting the Hugging Face Hub. reason: Why the Hub was not reached."""

    endpoint: str
    reached: bool
    offline: bool = False
    """True where HF_HUB_OFFLINE is set, so that no request was sent."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Result of checking one requirement of training."""

    name: str
    state: State
    found: str
    remedy: str = ""
    """Advice in one or two sentences; empty where nothing has to be done."""

    @property
    def sentence(self) -> str:
        return " ".join(part for part in (self.found, self.remedy) if part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Facts about a machine. None means "not known" or "not looked up"."""

    driver: Driver | None
    card: Card | None
    """Card that training would use; None where there is none, or CUDA_VISIBLE_DEVICES hides all."""
    software: Software
    cpu_name: str
    cpu_count: int
    cpu_bf16: bool | None
    memory_bytes: int
    disks: tuple[Disk, ...] = ()
    hub: HubAnswer | None = None
    trial: Check | None = None
    """Result of a worker process that tried what training needs."""


def uses_gpu(facts: Facts) -> bool:
    """Tell whether training on this machine uses an NVIDIA GPU: a card is visible, and torch is built for CUDA."""
    return facts.card is not None and facts.software.torch_cuda is not None


def problems(checks: Sequence[Check], state: State = "problem") -> tuple[Check, ...]:
    """Return the checks of one state, by default those that prevent training; equal sentences only once."""
    return tuple({check.sentence: check for check in checks if check.state == state}.values())


def as_json(facts: Facts, checks: Sequence[Check]) -> dict[str, Any]:
    """Return the JSON object that `rankviz doctor --json` prints."""
    card = facts.card if uses_gpu(facts) else None
    return {
        "ready": not problems(checks),
        "device": "cuda" if card else "cpu",
        "device_name": card.name if card else facts.cpu_name,
        "device_memory_bytes": card.memory_bytes if card else facts.memory_bytes,
        "driver": facts.driver.version if facts.driver else None,
        "torch": facts.software.torch or None,
        "torch_cuda": dotted(facts.software.torch_cuda) if facts.software.torch_cuda else None,
        "checks": [asdict(check) for check in checks],
    }


ANY_TRAINING = TrainingSetup(precision="auto", optim="auto")


def checks(
    facts: Facts, training: TrainingSetup = ANY_TRAINING, *, has_experts: bool = True, download_bytes: int = 0
) -> tuple[Check, ...]:
    """Return all checks, in the order in which training depends on them.

    Args:
        facts: Known facts about the machine.
        training: The planned training.
        has_experts: True if the base is, or may be, a mixture of experts.
        download_bytes: Bytes of disk that the download of the base may take; 0 without a download.
    """
    software, missing = facts.software, facts.software.missing
    installed = f"The trainer is installed, with torch {software.torch}."
    found: list[Check | None] = [Check("trainer", "problem" if missing else "ok", missing or installed), _device(facts)]
    if uses_gpu(facts):
        found += [*_card(facts), *_libraries(software, training, has_experts)]
    found += [_bf16(facts, training.precision == "bf16"), *(_disk(disk, download_bytes) for disk in facts.disks)]
    found.append(_hub(facts.hub, download_bytes) if facts.hub else None)
    return tuple(filter(None, [*found, facts.trial]))


def _device(facts: Facts) -> Check:
    card, memory = facts.card, units.memory_size(facts.memory_bytes)
    cpu = f"training runs on the CPU: {facts.cpu_name}, {facts.cpu_count} cores, {memory} of memory"
    if uses_gpu(facts):
        remedy = "To use another GPU, set CUDA_VISIBLE_DEVICES to its number." if len(facts.driver.cards) > 1 else ""
        return Check("device", "ok", f"Training runs on the GPU {card.name}.", remedy)
    if card is not None:
        found = f"There is a {card.name}, but torch {facts.software.torch} is built without CUDA, so {cpu}."
        return Check("device", "warning", found, "Install torch for CUDA: pip install --force-reinstall torch")
    if facts.driver is not None and facts.driver.cards:
        remedy = "Unset CUDA_VISIBLE_DEVICES, or set it to the number of one GPU."
        return Check("device", "warning", f"CUDA_VISIBLE_DEVICES hides every GPU of this machine, so {cpu}.", remedy)
    if facts.software.torch_cuda is None:
        return Check("device", "ok", f"There is no NVIDIA GPU here, so {cpu}.")
    remedy = "If this machine has an NVIDIA GPU, install its driver; start a container with --gpus all."
    return Check("device", "warning", f"No NVIDIA driver answers, so {cpu}.", remedy)


def _card(facts: Facts) -> Iterator[Check]:
    """Yield the checks of the driver, the card's generation and its memory."""
    driver, card, needed = facts.driver, facts.card, facts.software.torch_cuda
    versions = (
        f"Driver {driver.version} runs CUDA up to {dotted(driver.cuda)}, torch {facts.software.torch} is built for "
        f"CUDA {dotted(needed)}."
    )
    if driver.cuda[0] >= needed[0]:
        yield Check("driver", "ok", versions)
    else:
        oldest = DRIVER_FOR_CUDA.get(needed[0])
        newer = f"driver {oldest} or newer" if oldest else "the newest driver"
        remedy = f"Install {newer}, or a torch for CUDA {driver.cuda[0]}. {ON_THE_CPU}"
        yield Check("driver", "problem", f"This driver is too old for this torch: {versions}", remedy)
    has = f"{card.name} has compute capability {dotted(card.capability)}"
    if card.capability < LEAST_CAPABILITY:
        needs = f"{has}; Unsloth's kernels need {dotted(LEAST_CAPABILITY)}."
        yield Check("generation", "problem", needs, f"Use a newer GPU. {ON_THE_CPU}")
    elif card.capability >= (10, 0) and needed < CUDA_OF_BLACKWELL:
        found = f"{has}; it needs a torch for CUDA 12.8 or newer, and this one is for {dotted(needed)}."
        remedy = "Install another build of torch, as PyTorch's installation page shows for your driver."
        yield Check("generation", "problem", found, remedy)
    else:
        yield Check("generation", "ok", f"{has}.")
    if card.memory_bytes is None:
        unknown = "The driver does not give this GPU's memory, so RankViz does not say whether a model fits."
        yield Check("GPU memory", "ok", unknown)
    else:
        sizes = units.memory_size(card.memory_bytes), units.memory_size(card.used_bytes)
        is_busy = card.used_bytes > BUSY_SHARE * card.memory_bytes
        remedy = "Estimates assume a free GPU. `nvidia-smi` lists the programs; stop them, or choose less memory."
        found = f"The GPU has {sizes[0]}, of which {sizes[1]} are used now."
        yield Check("GPU memory", "warning" if is_busy else "ok", found, remedy if is_busy else "")


def _libraries(software: Software, training: TrainingSetup, has_experts: bool) -> Iterator[Check]:
    """Yield the checks of the compiler and of bitsandbytes, and a warning where the installed Unsloth keeps experts in
    16 bit, but estimates assume 4 bit."""
    if software.compiler and software.has_headers:
        yield Check("compiler", "ok", f"Triton can compile with {software.compiler}, and Python.h is there.")
    else:
        lacks = "There is no C compiler" if not software.compiler else "Python.h is missing"
        remedy = (
            "Install gcc and Python's headers (Debian, Ubuntu: apt install gcc python3-dev, for this Python). "
            "If CC is set, it must name one program of this machine."
        )
        yield Check("compiler", "problem", f"{lacks}, and Triton compiles before the first kernel runs.", remedy)
    version, cuda = software.bitsandbytes, software.torch_cuda
    quantized = training.precision in ("auto", "nf4", "nf4-dq", "int8")
    # bitsandbytes takes the nearest library of the same major version (cextension.get_cuda_bnb_library_path).
    if any(built[0] == cuda[0] for built in software.bitsandbytes_cuda):
        yield Check("bitsandbytes", "ok", f"bitsandbytes {version} has a native library for CUDA {cuda[0]}.")
    else:
        is_needed = quantized or training.optim in ("auto", "adamw_8bit", "paged_adamw_8bit")
        built = ", ".join(map(dotted, software.bitsandbytes_cuda)) or "no CUDA"
        has = f"bitsandbytes {version} is built for {built}, torch for CUDA {dotted(cuda)}"
        found = f"{has if version else 'bitsandbytes is not installed'}: 4-bit and 8-bit bases and optimizers need it."
        remedy = "Run pip install --upgrade bitsandbytes, or train in bf16 or fp16 with optimizer adamw_torch."
        yield Check("bitsandbytes", "problem" if is_needed else "not needed", found, remedy)
    zoo, transformers = software.unsloth_zoo, software.transformers
    in_16_bit = zoo and numbers(zoo) < PACKING_UNSLOTH_ZOO and numbers(transformers) >= (5,)
    is_wanted = training.framework == "unsloth" and training.precision in ("auto", "nf4", "nf4-dq")
    if has_experts and in_16_bit and is_wanted:
        found = (
            f"unsloth_zoo {zoo} with transformers {transformers} keeps the experts of mixture-of-experts models in 16 "
            "bit, so they need about four times the memory that an estimate says."
        )
        newer = f"{dotted(PACKING_UNSLOTH_ZOO)} and newer load them in 4 bit."
        yield Check("experts", "warning", found, f"Run pip install --upgrade unsloth unsloth_zoo: {newer}")


def _bf16(facts: Facts, is_wanted: bool) -> Check:
    on_gpu = uses_gpu(facts)
    if facts.card.capability >= BF16_CAPABILITY if on_gpu else facts.cpu_bf16:
        return Check("bf16", "ok", f"This {'GPU' if on_gpu else 'CPU'} has bf16.")
    if on_gpu:
        found, remedy = f"{facts.card.name} has no bf16, so training computes in fp16.", "Choose nf4-dq or fp16."
        return Check("bf16", "problem" if is_wanted else "ok", found, remedy if is_wanted else "")
    if facts.cpu_bf16 is None:
        return Check("bf16", "ok", "Whether this CPU has bf16 is not known; fp32 is the default.")
    found, remedy = "This CPU has no bf16 instructions: bf16 runs, but slower than fp32.", "Choose precision fp32."
    return Check("bf16", "warning" if is_wanted else "ok", found, remedy if is_wanted else "")


def _disk(disk: Disk, download_bytes: int) -> Check:
    where = f"{disk.path} ({disk.what})" if disk.path else f"The disk for {disk.what}"
    found, is_full = f"{where} has {units.file_size(disk.free_bytes)} free", disk.free_bytes < LEAST_DISK_BYTES
    is_too_small = disk.what == HUB_DISK and download_bytes > disk.free_bytes
    if is_too_small:
        found += f"; this base may take {units.file_size(download_bytes)}"
    if not (is_full or is_too_small):
        return Check("disk", "ok", f"{found}.")
    state: State = "problem" if is_full else "warning"
    if disk.path:
        folders = "RANKVIZ_HOME names that of runs, HF_HUB_CACHE that of models"
        return Check("disk", state, f"{found}.", f"Make room, or move the folder: {folders}.")
    return Check("disk", state, f"{found}.", "Try later." if is_full else "Choose a smaller base.")


def _hub(hub: HubAnswer, download_bytes: int) -> Check:
    if hub.reached:
        return Check("Hub", "ok", f"The Hugging Face Hub answers ({hub.endpoint}).")
    local = "Bases that are in the cache, folders and the embedded base train without it."
    if hub.offline:
        found, remedy = "The Hub is switched off (HF_HUB_OFFLINE).", f"{local} Unset HF_HUB_OFFLINE to fetch others."
        return Check("Hub", "warning" if download_bytes else "ok", found, remedy)
    found = f"The Hugging Face Hub does not answer ({hub.endpoint}: {hub.reason})."
    return Check("Hub", "warning", found, f"{local} For others, check the network and HTTPS_PROXY.")


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version: "2026.6.1.post1" gives (2026, 6, 1)."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def dotted(version: tuple[int, ...]) -> str:
    """Return a version as text, such as "12.8"."""
    return ".".join(str(part) for part in version)
