"""Checks of a machine before it trains: what was found, and what to do about it, each in a sentence.

Covered: the driver against torch's CUDA, the card with its memory and bf16, the C compiler and Python.h that Triton
needs, bitsandbytes' native library, disk, the Hub, and the worker's own trial. Not covered: whether a model fits
(that is the estimate), several GPUs at once, AMD and Intel GPUs beyond their name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rankviz import units
from rankviz.core.preflight import torch_build
from rankviz.core.preflight.facts import HUB_DISK, Card, Facts, Wanted

State = Literal["ok", "warning", "problem", "not needed"]

DRIVER_FOR_CUDA = {11: "450", 12: "525", 13: "580"}
"""The oldest Linux driver that runs every CUDA of this major version (NVIDIA, CUDA Compatibility, minor version
compatibility)."""
LEAST_CAPABILITY = (7, 0)
"""Of Triton's kernels, so of Unsloth."""
BF16_CAPABILITY = (8, 0)
BUSY_SHARE = 0.1
"""Of the card's memory in the hands of other programs, from which it is worth a warning."""
LEAST_DISK_BYTES = units.GB
LOW_DISK_BYTES = 5 * units.GB
ON_THE_CPU = "To train on the CPU, set CUDA_VISIBLE_DEVICES= (to nothing)."


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    name: str
    state: State
    found: str
    """One sentence."""
    remedy: str = ""
    """What to do, in one or two sentences; empty where there is nothing to do."""

    @property
    def sentence(self) -> str:
        return " ".join(part for part in (self.found, self.remedy) if part)


def uses_gpu(facts: Facts) -> bool:
    """Whether training runs on an NVIDIA GPU here: there is one, and torch is built for CUDA."""
    return facts.card is not None and facts.software.torch_cuda is not None


def checks(facts: Facts, wanted: Wanted = Wanted()) -> tuple[Check, ...]:  # noqa: B008  frozen
    """All checks, in the order in which training meets them."""
    return tuple(_checks(facts, wanted))


def problems(found: Sequence[Check]) -> tuple[Check, ...]:
    """Those that would keep a training from running."""
    return tuple(check for check in found if check.state == "problem")


def warnings(found: Sequence[Check]) -> tuple[Check, ...]:
    return tuple(check for check in found if check.state == "warning")


def as_json(facts: Facts, found: Sequence[Check]) -> dict[str, Any]:
    """What `rankviz doctor --json` prints."""
    card = facts.card if uses_gpu(facts) else None
    return {
        "ready": not problems(found),
        "device": "cuda" if card else "cpu",
        "device_name": card.name if card else facts.cpu_name,
        "device_memory_bytes": card.memory_bytes if card else facts.memory_bytes,
        "driver": facts.driver.version if facts.driver else None,
        "torch": facts.software.torch or None,
        "torch_cuda": _dotted(facts.software.torch_cuda) if facts.software.torch_cuda else None,
        "checks": [
            {"name": check.name, "state": check.state, "found": check.found, "remedy": check.remedy} for check in found
        ],
    }


def _checks(facts: Facts, wanted: Wanted) -> Iterator[Check]:
    yield _trainer(facts)
    yield _device(facts)
    gpu = uses_gpu(facts)
    if gpu:
        yield _driver(facts)
        yield _generation(facts)
        yield _memory(facts)
    yield _bf16(facts, wanted)
    yield from (_compiler(facts), _headers(facts), _bitsandbytes(facts, wanted)) if gpu else (_not_on_a_cpu(),)
    yield from _disk(facts, wanted)
    if facts.hub is not None:
        yield _hub(facts, wanted)
    for step in facts.trial:
        yield Check(
            name=f"trial: {step.name}",
            state="ok" if step.ok else "problem",
            found=f"{step.found} ({units.duration(step.seconds)}).",
            remedy="" if step.ok else "Training would fail here too. Mend this first.",
        )


def _trainer(facts: Facts) -> Check:
    if facts.software.missing:
        return Check(name="trainer", state="problem", found=facts.software.missing)
    return Check(name="trainer", state="ok", found=f"The trainer is installed, with torch {facts.software.torch}.")


def _device(facts: Facts) -> Check:
    software, driver, card = facts.software, facts.driver, facts.card
    cpu = (
        f"training runs on the CPU: {facts.cpu_name}, {facts.cpu_count} cores, "
        f"{units.memory_size(facts.memory_bytes)} of memory"
    )
    if driver is None or not driver.cards:
        if software.torch_hip:
            return Check(
                name="device",
                state="warning",
                found="torch is built for AMD GPUs, on which RankViz has never been run.",
            )
        if software.torch_cuda is not None:
            return Check(
                name="device",
                state="warning",
                found=f"No NVIDIA driver answers, so {cpu}.",
                remedy="If this machine has an NVIDIA GPU, install its driver; start a container with --gpus all.",
            )
        return Check(name="device", state="ok", found=f"There is no NVIDIA GPU here, so {cpu}.")
    if card is None:
        return Check(
            name="device",
            state="warning",
            found=f"CUDA_VISIBLE_DEVICES hides every GPU of this machine, so {cpu}.",
            remedy="Unset CUDA_VISIBLE_DEVICES, or set it to the number of one GPU.",
        )
    if software.torch and software.torch_cuda is None:
        return Check(
            name="device",
            state="warning",
            found=f"There is a {card.name}, but torch {software.torch} is built without CUDA, so {cpu}.",
            remedy="Install torch for CUDA: pip install --force-reinstall torch",
        )
    if facts.other_order:
        return Check(
            name="device",
            state="warning",
            found=f"RankViz does not use CUDA_DEVICE_ORDER={facts.other_order}: it numbers GPUs as nvidia-smi does, so "
            f"training runs on the GPU {card.name}{_number(card)}.",
            remedy="If you meant another GPU, set CUDA_VISIBLE_DEVICES to its UUID (`nvidia-smi -L` lists them).",
        )
    others = len(driver.cards) - 1
    found = f"Training runs on the GPU {card.name}"
    if others:
        plural = "s" if others > 1 else ""
        return Check(
            name="device",
            state="ok",
            found=f"{found}{_number(card)}; the other {others} GPU{plural} of this machine stay unused."
            if card.index is not None
            else f"{found}.",
            remedy="To use another GPU, set CUDA_VISIBLE_DEVICES to its number.",
        )
    return Check(name="device", state="ok", found=f"{found}.")


def _number(card: Card) -> str:
    return f" (number {card.index})" if card.index is not None else ""


def _driver(facts: Facts) -> Check:
    driver, needed = facts.driver, facts.software.torch_cuda
    versions = (
        f"Driver {driver.version} runs CUDA up to {_dotted(driver.cuda)}, torch {facts.software.torch} is built for "
        f"CUDA {_dotted(needed)}"
    )
    if driver.cuda[0] >= needed[0]:
        return Check(name="driver", state="ok", found=f"{versions}.")
    oldest = DRIVER_FOR_CUDA.get(needed[0])
    newer = f"driver {oldest} or newer" if oldest else "the newest driver"
    older = torch_build.command(facts.card, driver.cuda)
    return Check(
        name="driver",
        state="problem",
        found=f"This driver is too old for this torch: {versions}.",
        remedy=f"Install {newer}{f', or a torch for an older CUDA: {older}' if older else ''}. {ON_THE_CPU}",
    )


def _generation(facts: Facts) -> Check:
    card = facts.card
    has = f"{card.name} has compute capability {_dotted(card.capability)}"
    if card.capability < LEAST_CAPABILITY:
        return Check(
            name="generation",
            state="problem",
            found=f"{has}; Unsloth's kernels need {_dotted(LEAST_CAPABILITY)}.",
            remedy=f"Use a newer GPU. {ON_THE_CPU}",
        )
    install = torch_build.command(card, facts.driver.cuda)
    remedy = f"Install another torch: {install}" if install else f"Install the newest driver and torch. {ON_THE_CPU}"
    architectures = next((step.architectures for step in facts.trial if step.architectures), ())
    if architectures:
        if torch_build.holds_kernels(architectures, card.capability):
            return Check(name="generation", state="ok", found=f"{has}, which this torch supports.")
        return Check(
            name="generation",
            state="problem",
            found=f"{has}; torch {facts.software.torch} has kernels for {', '.join(architectures)} only.",
            remedy=remedy,
        )
    if reason := torch_build.why_not(card, facts.software):
        published = torch_build.is_published(facts.software)
        return Check(
            name="generation",
            state="problem" if published else "warning",
            found=f"{has}; {reason}.",
            remedy=remedy
            if published
            else f"This is not one of PyTorch's own builds: `rankviz doctor` tries whether it runs. If not: {remedy}",
        )
    return Check(name="generation", state="ok", found=f"{has}, which this torch supports.")


def _memory(facts: Facts) -> Check:
    card = facts.card
    if card.memory_bytes is None:
        return Check(
            name="GPU memory",
            state="ok",
            found="The driver does not give this GPU's memory, as for a GPU that shares the machine's memory. Its size "
            "is not known, so RankViz does not say whether a model fits.",
        )
    found = (
        f"The GPU has {units.memory_size(card.memory_bytes)}, of which {units.memory_size(card.used_bytes)} are used"
    )
    if card.used_bytes > BUSY_SHARE * card.memory_bytes:
        return Check(
            name="GPU memory",
            state="warning",
            found=f"{found} by other programs now.",
            remedy="Estimates assume a free GPU. `nvidia-smi` lists the programs; stop them, or choose less memory.",
        )
    return Check(name="GPU memory", state="ok", found=f"{found} now.")


def _bf16(facts: Facts, wanted: Wanted) -> Check:
    if not uses_gpu(facts):
        if facts.cpu_bf16 is None:
            return Check(name="bf16", state="ok", found="Whether this CPU has bf16 is not known; fp32 is the default.")
        if facts.cpu_bf16:
            return Check(name="bf16", state="ok", found="This CPU has bf16 or AVX-512, so bf16 is an option.")
        state = "warning" if wanted.precision == "bf16" else "ok"
        return Check(
            name="bf16",
            state=state,
            found="This CPU has no bf16 instructions: bf16 runs, but slower than fp32.",
            remedy="Choose precision fp32." if state == "warning" else "",
        )
    if facts.card.capability >= BF16_CAPABILITY:
        return Check(name="bf16", state="ok", found="The GPU has bf16.")
    refused = wanted.precision == "bf16"
    return Check(
        name="bf16",
        state="problem" if refused else "ok",
        found=f"{facts.card.name} has no bf16, so training computes in fp16.",
        remedy="Choose precision nf4-dq or fp16." if refused else "",
    )


def _compiler(facts: Facts) -> Check:
    if facts.software.compiler:
        return Check(name="compiler", state="ok", found=f"Triton can compile with {facts.software.compiler}.")
    if facts.software.wrong_cc is not None:
        return Check(
            name="compiler",
            state="problem",
            found=f"CC={facts.software.wrong_cc} names no program of this machine, and Triton compiles with CC alone "
            "where it is set.",
            remedy="Unset CC, or set it to one compiler without arguments, such as /usr/bin/gcc.",
        )
    return Check(
        name="compiler",
        state="problem",
        found="There is no C compiler, and Triton compiles a small one-off program before the first kernel runs.",
        remedy="Install gcc (Debian, Ubuntu: apt install gcc), or name your compiler in CC.",
    )


def _headers(facts: Facts) -> Check:
    if facts.software.has_headers:
        return Check(name="headers", state="ok", found="Python.h is there, which Triton compiles against.")
    return Check(
        name="headers",
        state="problem",
        found=f"Python.h is not in {facts.software.headers}, and Triton compiles against it.",
        remedy="Install Python's headers (Debian, Ubuntu: apt install python3-dev, of the same version of Python).",
    )


def _bitsandbytes(facts: Facts, wanted: Wanted) -> Check:
    software = facts.software
    state = "problem" if wanted.needs_bitsandbytes else "not needed"
    other = "or train with precision bf16 or fp16 and optimizer adamw_torch."
    if not software.bitsandbytes:
        return Check(
            name="bitsandbytes",
            state=state,
            found="bitsandbytes is not installed; 4-bit and 8-bit bases and 8-bit optimizers need it.",
            remedy=f"Run pip install bitsandbytes, {other}",
        )
    # bitsandbytes takes the nearest library of the same major version (cextension.get_cuda_bnb_library_path).
    if not any(built[0] == software.torch_cuda[0] for built in software.bitsandbytes_cuda):
        built = ", ".join(_dotted(each) for each in software.bitsandbytes_cuda) or "no CUDA"
        return Check(
            name="bitsandbytes",
            state=state,
            found=f"bitsandbytes {software.bitsandbytes} is built for {built}, torch for CUDA "
            f"{_dotted(software.torch_cuda)}: 4-bit and 8-bit bases and 8-bit optimizers would fail.",
            remedy=f"Run pip install --upgrade bitsandbytes, {other}",
        )
    return Check(
        name="bitsandbytes",
        state="ok",
        found=f"bitsandbytes {software.bitsandbytes} has a native library for CUDA {software.torch_cuda[0]}.",
    )


def _not_on_a_cpu() -> Check:
    return Check(
        name="GPU libraries",
        state="not needed",
        found="A C compiler, Python.h and bitsandbytes for CUDA are needed on a GPU only.",
    )


def _disk(facts: Facts, wanted: Wanted) -> Iterator[Check]:
    for disk in facts.disks:
        where = f"{disk.path} ({disk.what})" if disk.path else f"The disk for {disk.what}"
        found = f"{where} has {units.file_size(disk.free_bytes)} free"
        download = wanted.download_bytes if disk.what == HUB_DISK else 0
        if disk.free_bytes < max(LEAST_DISK_BYTES, download):
            short = download > disk.free_bytes
            takes = "takes" if wanted.download_is_certain else "may take"
            needed = f"; this base {takes} {units.file_size(download)}" if short else ""
            certain = disk.free_bytes < LEAST_DISK_BYTES or (short and wanted.download_is_certain)
            yield Check(
                name="disk",
                state="problem" if certain else "warning",
                found=f"{found}{needed}.",
                remedy="Make room, or move the folder: RANKVIZ_HOME names that of runs, HF_HOME that of models.",
            )
        elif disk.free_bytes < LOW_DISK_BYTES:
            yield Check(name="disk", state="ok", found=f"{found}, enough for small models only.")
        else:
            yield Check(name="disk", state="ok", found=f"{found}.")


def _hub(facts: Facts, wanted: Wanted) -> Check:
    hub, needed = facts.hub, wanted.download_bytes > 0
    if hub.reached:
        return Check(name="Hub", state="ok", found=f"The Hugging Face Hub answers ({hub.endpoint}).")
    local = "Bases that are in the cache, folders and the embedded base train without it."
    if hub.offline:
        return Check(
            name="Hub",
            state="warning" if needed else "ok",
            found="The Hub is switched off (HF_HUB_OFFLINE).",
            remedy=f"{local} Unset HF_HUB_OFFLINE to fetch others." if needed else local,
        )
    return Check(
        name="Hub",
        state="warning",
        found=f"The Hugging Face Hub does not answer ({hub.endpoint}: {hub.reason}).",
        remedy=f"{local} For others, check the network and HTTPS_PROXY.",
    )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(str(part) for part in version)
