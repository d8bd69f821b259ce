"""Checks of a machine before it trains: what was found, and what to do about it, each in a sentence.

Covered: the driver against torch's CUDA, the card with its memory and bf16, the C compiler and Python.h that Triton
needs, bitsandbytes' native library, disk, the Hub, and the worker's own trial. Not covered: whether a model fits
(that is the estimate), several GPUs at once, AMD and Intel GPUs beyond their name.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from rankviz import units
from rankviz.core.preflight import gpu
from rankviz.core.preflight.facts import HUB_DISK, Card, Facts, Wanted
from rankviz.core.preflight.gpu import Check, State

BF16_CAPABILITY = (8, 0)
LEAST_DISK_BYTES = units.GB
MAKE_ROOM = "Make room, or move the folder: RANKVIZ_HOME names that of runs, HF_HUB_CACHE that of models."
LOW_DISK_BYTES = 5 * units.GB


def uses_gpu(facts: Facts) -> bool:
    """Whether training runs on an NVIDIA GPU here: there is one, and torch is built for CUDA."""
    return facts.card is not None and facts.software.torch_cuda is not None


def checks(facts: Facts, wanted: Wanted = Wanted()) -> tuple[Check, ...]:  # noqa: B008  frozen
    """All checks, in the order in which training meets them."""
    return tuple(_checks(facts, wanted))


def problems(found: Sequence[Check]) -> tuple[Check, ...]:
    """Checks that would keep a training from running, one for each sentence."""
    return _each_once(found, "problem")


def warnings(found: Sequence[Check]) -> tuple[Check, ...]:
    """Checks that deserve attention before a training, one for each sentence."""
    return _each_once(found, "warning")


def _each_once(found: Sequence[Check], state: State) -> tuple[Check, ...]:
    return tuple({check.sentence: check for check in found if check.state == state}.values())


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
        "torch_cuda": gpu.dotted(facts.software.torch_cuda) if facts.software.torch_cuda else None,
        "checks": [
            {"name": check.name, "state": check.state, "found": check.found, "remedy": check.remedy} for check in found
        ],
    }


def _checks(facts: Facts, wanted: Wanted) -> Iterator[Check]:
    yield _trainer(facts)
    yield _device(facts)
    on_gpu = uses_gpu(facts)
    if on_gpu:
        yield gpu.driver(facts)
        yield gpu.generation(facts)
        yield gpu.memory(facts)
    yield _bf16(facts, wanted)
    if on_gpu:
        yield from (gpu.compiler(facts), gpu.headers(facts), gpu.bitsandbytes(facts, wanted))
        if experts := gpu.experts(facts, wanted):
            yield experts
    else:
        yield _not_on_a_cpu()
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
            full = not disk.path and disk.free_bytes < LEAST_DISK_BYTES
            yield Check(
                name="disk",
                state="problem" if certain else "warning",
                found="The disk of this page is full." if full else f"{found}{needed}.",
                remedy=MAKE_ROOM if disk.path else "Try later." if full else "Choose a smaller base.",
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
