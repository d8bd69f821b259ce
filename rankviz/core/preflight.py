"""Checks of a machine before training: each result is a sentence, with advice where something has to be done.

Covered: the driver against torch's CUDA, the card with its memory and bf16, the C compiler and Python.h that Triton
needs, bitsandbytes' native library, disk, the Hub, and the worker's own trial. Not covered: whether a model fits (see
the estimate), several GPUs at once, AMD and Intel GPUs beyond their name. Facts come from rankviz.machine and
rankviz.hub; None means "not known".
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rankviz import units
from rankviz.core.cost.stack import PACKING_UNSLOTH_ZOO

State = Literal["ok", "warning", "problem", "not needed"]
Version = tuple[int, int]

BF16_CAPABILITY = (8, 0)
LEAST_CAPABILITY = (7, 0)
"""Lowest compute capability supported by Triton's kernels, and so by Unsloth."""
CUDA_OF_BLACKWELL = (12, 8)
"""First CUDA version that compiles for compute capability 10.x and 12.x (CUDA 12.8 release notes)."""
DRIVER_FOR_CUDA = {11: "450", 12: "525", 13: "580"}
"""Oldest Linux driver for all versions of a CUDA major version (NVIDIA, CUDA minor version compatibility)."""
BUSY_SHARE = 0.1
"""Share of the card's memory used by other programs, above which a warning is given."""
LEAST_DISK_BYTES = units.GB
ON_THE_CPU = "To train on the CPU, set CUDA_VISIBLE_DEVICES= (to nothing)."


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One NVIDIA GPU as the driver reports it."""

    index: int | None
    """Number in PCI bus order, as in nvidia-smi; None for a MIG slice."""
    name: str
    uuid: str
    memory_bytes: int | None
    """None where the driver does not give it, because the GPU shares the machine's memory (GB10, Jetson)."""
    used_bytes: int | None
    """Memory in use now, by all programs; None where not known."""
    capability: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """The NVIDIA driver and its cards."""

    version: str
    cuda: tuple[int, int]
    """Newest CUDA version that the driver runs."""
    cards: tuple[Card, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Software:
    """Installed software for training, read from files without importing anything."""

    missing: str = ""
    """Sentence on how to install the trainer; empty where it is installed."""
    torch: str = ""
    torch_cuda: tuple[int, int] | None = None
    """CUDA version that torch is built for; None for a build without CUDA."""
    torch_hip: bool = False
    """True if torch is built for AMD GPUs."""
    compiler: str | None = None
    """C compiler that Triton would call; None where there is none."""
    headers: str = ""
    """Folder where Python.h has to be."""
    has_headers: bool = False
    bitsandbytes: str = ""
    bitsandbytes_cuda: tuple[tuple[int, int], ...] = ()
    """CUDA versions of its native libraries."""
    transformers: str = ""
    unsloth_zoo: str = ""


HUB_DISK = "models from the Hub"
"""Value of Disk.what for the disk to which bases are downloaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    what: str
    """Kind of files kept there, such as "runs"."""
    path: str
    """Empty for visitors of a shared page, who must not see the machine's paths."""
    free_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HubAnswer:
    """Result of contacting the Hugging Face Hub. reason: why it was not reached."""

    endpoint: str
    reached: bool
    offline: bool = False
    """True if HF_HUB_OFFLINE is set, so no request was sent."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Result of a worker process that uses what training needs. found: report, or last line of its error."""

    ok: bool
    found: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    driver: Driver | None
    """None where no NVIDIA driver answers."""
    card: Card | None
    """Card that training uses; None where there is none, or CUDA_VISIBLE_DEVICES hides all."""
    software: Software
    cpu_name: str
    cpu_count: int
    cpu_bf16: bool | None
    memory_bytes: int
    disks: tuple[Disk, ...] = ()
    hub: HubAnswer | None = None
    """None where it was not contacted."""
    trial: Trial | None = None
    """None where it was not run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Requirements of a training, as far as the machine matters; the default is any training."""

    precision: str = "auto"
    optim: str = "auto"
    framework: str = "unsloth"
    has_experts: bool = True
    """True if the base is, or may be, a mixture of experts."""
    download_bytes: int = 0
    """Bytes of disk that downloading the base takes; 0 without a download."""
    download_is_certain: bool = False
    """True if download_bytes is the sum of the files' sizes, given by the Hub."""

    @property
    def needs_bitsandbytes(self) -> bool:
        """True if the base is quantized or the optimizer 8-bit, as "auto" may choose on a GPU."""
        quantized = self.precision in ("auto", "nf4", "nf4-dq", "int8")
        return quantized or self.optim in ("auto", "adamw_8bit", "paged_adamw_8bit")


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


def uses_gpu(facts: Facts) -> bool:
    """Tell whether training runs on an NVIDIA GPU here: a card is visible, and torch is built for CUDA."""
    return facts.card is not None and facts.software.torch_cuda is not None


def problems(checks: Sequence[Check], state: State = "problem") -> tuple[Check, ...]:
    """Return the checks that would keep a training from running; of equal sentences only one."""
    return tuple({check.sentence: check for check in checks if check.state == state}.values())


def warnings(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return the checks with a warning; of equal sentences only one."""
    return problems(checks, "warning")


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


def checks(facts: Facts, wanted: Wanted = Wanted()) -> tuple[Check, ...]:
    """Return all checks, in the order in which a training depends on them."""
    return tuple(_checks(facts, wanted))


def _checks(facts: Facts, wanted: Wanted) -> Iterator[Check]:
    missing = facts.software.missing
    installed = f"The trainer is installed, with torch {facts.software.torch}."
    yield Check("trainer", "problem" if missing else "ok", missing or installed)
    yield _device(facts)
    if uses_gpu(facts):
        yield from (_driver(facts), _generation(facts), _memory(facts), _bf16(facts, wanted))
        yield from (_compiler(facts), _headers(facts), _bitsandbytes(facts, wanted))
        yield from _experts(facts, wanted)
    else:
        yield _cpu_bf16(facts, wanted)
        needed = "A C compiler, Python.h and bitsandbytes for CUDA are needed on a GPU only."
        yield Check("GPU libraries", "not needed", needed)
    yield from _disk(facts, wanted)
    if facts.hub is not None:
        yield _hub(facts, wanted)
    if facts.trial is not None:
        remedy = "" if facts.trial.ok else "Training would fail here too. Mend this first."
        yield Check("trial", "ok" if facts.trial.ok else "problem", f"{facts.trial.found}.", remedy)


def _device(facts: Facts) -> Check:
    software, driver, card = facts.software, facts.driver, facts.card
    cpu = (
        f"training runs on the CPU: {facts.cpu_name}, {facts.cpu_count} cores, "
        f"{units.memory_size(facts.memory_bytes)} of memory"
    )
    if driver is None or not driver.cards:
        if software.torch_hip:
            return Check("device", "warning", "torch is built for AMD GPUs, on which RankViz has never been run.")
        if software.torch_cuda is None:
            return Check("device", "ok", f"There is no NVIDIA GPU here, so {cpu}.")
        remedy = "If this machine has an NVIDIA GPU, install its driver; start a container with --gpus all."
        return Check("device", "warning", f"No NVIDIA driver answers, so {cpu}.", remedy)
    if card is None:
        hidden = f"CUDA_VISIBLE_DEVICES hides every GPU of this machine, so {cpu}."
        remedy = "Unset CUDA_VISIBLE_DEVICES, or set it to the number of one GPU."
        return Check("device", "warning", hidden, remedy)
    if software.torch and software.torch_cuda is None:
        found = f"There is a {card.name}, but torch {software.torch} is built without CUDA, so {cpu}."
        return Check("device", "warning", found, "Install torch for CUDA: pip install --force-reinstall torch")
    others, found = len(driver.cards) - 1, f"Training runs on the GPU {card.name}"
    if not others:
        return Check("device", "ok", f"{found}.")
    if card.index is not None:
        plural = "s" if others > 1 else ""
        found += f" (number {card.index}); the other {others} GPU{plural} of this machine stay unused"
    return Check("device", "ok", f"{found}.", "To use another GPU, set CUDA_VISIBLE_DEVICES to its number.")


def _driver(facts: Facts) -> Check:
    driver, needed = facts.driver, facts.software.torch_cuda
    versions = (
        f"Driver {driver.version} runs CUDA up to {dotted(driver.cuda)}, torch {facts.software.torch} is built for "
        f"CUDA {dotted(needed)}."
    )
    if driver.cuda[0] >= needed[0]:
        return Check("driver", "ok", versions)
    oldest = DRIVER_FOR_CUDA.get(needed[0])
    newer = f"driver {oldest} or newer" if oldest else "the newest driver"
    remedy = f"Install {newer}, or a torch for CUDA {driver.cuda[0]}. {ON_THE_CPU}"
    return Check("driver", "problem", f"This driver is too old for this torch: {versions}", remedy)


def _generation(facts: Facts) -> Check:
    card, cuda = facts.card, facts.software.torch_cuda
    has = f"{card.name} has compute capability {dotted(card.capability)}"
    if card.capability < LEAST_CAPABILITY:
        needs = f"{has}; Unsloth's kernels need {dotted(LEAST_CAPABILITY)}."
        return Check("generation", "problem", needs, f"Use a newer GPU. {ON_THE_CPU}")
    if card.capability >= (10, 0) and cuda < CUDA_OF_BLACKWELL:
        found = f"{has}; it needs a torch for CUDA 12.8 or newer, and this one is for {dotted(cuda)}."
        remedy = "Install another build of torch, as PyTorch's installation page shows for your driver."
        return Check("generation", "problem", found, remedy)
    return Check("generation", "ok", f"{has}.")


def _memory(facts: Facts) -> Check:
    card = facts.card
    if card.memory_bytes is None:
        unknown = (
            "The driver does not give this GPU's memory, as for a GPU that shares the machine's memory. Its size "
            "is not known, so RankViz does not say whether a model fits."
        )
        return Check("GPU memory", "ok", unknown)
    sizes = units.memory_size(card.memory_bytes), units.memory_size(card.used_bytes)
    found = f"The GPU has {sizes[0]}, of which {sizes[1]} are used"
    if card.used_bytes <= BUSY_SHARE * card.memory_bytes:
        return Check("GPU memory", "ok", f"{found} now.")
    remedy = "Estimates assume a free GPU. `nvidia-smi` lists the programs; stop them, or choose less memory."
    return Check("GPU memory", "warning", f"{found} by other programs now.", remedy)


def _bf16(facts: Facts, wanted: Wanted) -> Check:
    if facts.card.capability >= BF16_CAPABILITY:
        return Check("bf16", "ok", "The GPU has bf16.")
    found = f"{facts.card.name} has no bf16, so training computes in fp16."
    if wanted.precision == "bf16":
        return Check("bf16", "problem", found, "Choose precision nf4-dq or fp16.")
    return Check("bf16", "ok", found)


def _cpu_bf16(facts: Facts, wanted: Wanted) -> Check:
    if facts.cpu_bf16 is None:
        return Check("bf16", "ok", "Whether this CPU has bf16 is not known; fp32 is the default.")
    if facts.cpu_bf16:
        return Check("bf16", "ok", "This CPU has bf16 or AVX-512, so bf16 is an option.")
    found, is_wanted = "This CPU has no bf16 instructions: bf16 runs, but slower than fp32.", wanted.precision == "bf16"
    return Check("bf16", "warning" if is_wanted else "ok", found, "Choose precision fp32." if is_wanted else "")


def _compiler(facts: Facts) -> Check:
    if facts.software.compiler:
        return Check("compiler", "ok", f"Triton can compile with {facts.software.compiler}.")
    found = "There is no C compiler, and Triton compiles a small one-off program before the first kernel runs."
    remedy = "Install gcc (Debian, Ubuntu: apt install gcc). If CC is set, it must name one program of this machine."
    return Check("compiler", "problem", found, remedy)


def _headers(facts: Facts) -> Check:
    if facts.software.has_headers:
        return Check("headers", "ok", "Python.h is there, which Triton compiles against.")
    found = f"Python.h is not in {facts.software.headers}, and Triton compiles against it."
    remedy = "Install Python's headers (Debian, Ubuntu: apt install python3-dev, of the same version of Python)."
    return Check("headers", "problem", found, remedy)


def _bitsandbytes(facts: Facts, wanted: Wanted) -> Check:
    version, cuda = facts.software.bitsandbytes, facts.software.torch_cuda
    state: State = "problem" if wanted.needs_bitsandbytes else "not needed"
    other = "or train with precision bf16 or fp16 and optimizer adamw_torch."
    if not version:
        found = "bitsandbytes is not installed; 4-bit and 8-bit bases and 8-bit optimizers need it."
        return Check("bitsandbytes", state, found, f"Run pip install bitsandbytes, {other}")
    # bitsandbytes takes the nearest library of the same major version (cextension.get_cuda_bnb_library_path).
    if any(built[0] == cuda[0] for built in facts.software.bitsandbytes_cuda):
        return Check("bitsandbytes", "ok", f"bitsandbytes {version} has a native library for CUDA {cuda[0]}.")
    built = ", ".join(map(dotted, facts.software.bitsandbytes_cuda)) or "no CUDA"
    found = (
        f"bitsandbytes {version} is built for {built}, torch for CUDA {dotted(cuda)}: 4-bit and 8-bit bases and 8-bit "
        "optimizers would fail."
    )
    return Check("bitsandbytes", state, found, f"Run pip install --upgrade bitsandbytes, {other}")


def _experts(facts: Facts, wanted: Wanted) -> Iterator[Check]:
    """Yield a warning where the installed Unsloth keeps experts in 16 bit, while an estimate assumes 4 bit."""
    zoo, transformers = facts.software.unsloth_zoo, facts.software.transformers
    in_16_bit = zoo and _numbers(zoo) < PACKING_UNSLOTH_ZOO and _numbers(transformers) >= (5,)
    is_wanted = wanted.has_experts and wanted.framework == "unsloth" and wanted.precision in ("auto", "nf4", "nf4-dq")
    if in_16_bit and is_wanted:
        found = (
            f"unsloth_zoo {zoo} with transformers {transformers} keeps the experts of mixture-of-experts models in 16 "
            "bit, so they need about four times the memory that an estimate says."
        )
        newer = f"{dotted(PACKING_UNSLOTH_ZOO)} and newer load them in 4 bit."
        yield Check("experts", "warning", found, f"Run pip install --upgrade unsloth unsloth_zoo: {newer}")


def _disk(facts: Facts, wanted: Wanted) -> Iterator[Check]:
    for disk in facts.disks:
        where = f"{disk.path} ({disk.what})" if disk.path else f"The disk for {disk.what}"
        found, download = f"{where} has {units.file_size(disk.free_bytes)} free", 0
        if disk.what == HUB_DISK and wanted.download_bytes > disk.free_bytes:
            download, takes = wanted.download_bytes, "takes" if wanted.download_is_certain else "may take"
            found += f"; this base {takes} {units.file_size(download)}"
        is_full = disk.free_bytes < LEAST_DISK_BYTES
        state: State = "problem" if is_full or (download and wanted.download_is_certain) else "warning"
        if not is_full and not download:
            yield Check("disk", "ok", f"{found}.")
        elif disk.path:
            folders = "RANKVIZ_HOME names that of runs, HF_HUB_CACHE that of models"
            yield Check("disk", state, f"{found}.", f"Make room, or move the folder: {folders}.")
        elif is_full:
            yield Check("disk", state, "The disk of this page is full.", "Try later.")
        else:
            yield Check("disk", state, f"{found}.", "Choose a smaller base.")


def _hub(facts: Facts, wanted: Wanted) -> Check:
    hub, needed = facts.hub, wanted.download_bytes > 0
    if hub.reached:
        return Check("Hub", "ok", f"The Hugging Face Hub answers ({hub.endpoint}).")
    local = "Bases that are in the cache, folders and the embedded base train without it."
    if hub.offline:
        remedy = f"{local} Unset HF_HUB_OFFLINE to fetch others." if needed else local
        return Check("Hub", "warning" if needed else "ok", "The Hub is switched off (HF_HUB_OFFLINE).", remedy)
    found = f"The Hugging Face Hub does not answer ({hub.endpoint}: {hub.reason})."
    return Check("Hub", "warning", found, f"{local} For others, check the network and HTTPS_PROXY.")


def _numbers(version: str) -> tuple[int, ...]:
    """Return "2026.6.1.post1" as (2026, 6, 1)."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def dotted(version: tuple[int, ...]) -> str:
    """Return a version as text, such as "12.8"."""
    return ".".join(str(part) for part in version)
