"""Checks of a machine with an NVIDIA GPU: driver, card, the build of torch, and what Triton and bitsandbytes need."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rankviz import units
from rankviz.core.cost.stack import PACKING_UNSLOTH_ZOO
from rankviz.core.preflight.facts import Card, Facts, Software, Wanted

State = Literal["ok", "warning", "problem", "not needed"]


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


Version = tuple[int, int]

TURING, BLACKWELL = (7, 5), (10, 0)
CUDA_OF_BLACKWELL = (12, 8)
"""The first CUDA that compiles for compute capability 10.x and 12.x (CUDA 12.8 release notes)."""
CUDA_OF_THOR = (13, 0)
"""The first that compiles for 11.0 (Jetson Thor)."""
CUDA_WITHOUT_VOLTA = (13, 0)
"""CUDA 13 dropped Maxwell, Pascal and Volta (CUDA 13.0 release notes)."""
TORCH_WITHOUT_VOLTA = (2, 11)
"""From this version on, builds for CUDA 12.8 and newer have no Volta (pytorch/pytorch issue 172352)."""


def holds_kernels(architectures: Sequence[str], capability: Version) -> bool:
    """Whether one of torch.cuda.get_arch_list() runs on this GPU: "sm_86" on 8.6 and later 8.x, "compute_86", which the
    driver compiles, on all later GPUs. sm_90a and sm_100f are for their own and for a family; they count as sm_90."""
    for kind, major, minor in (_parts(each) for each in architectures):
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return True
        if kind == "compute" and (major, minor) <= capability:
            return True
    return False


def why_not(card: Card, software: Software) -> str:
    """What this card needs that torch's CUDA is not; empty where the build has kernels for it."""
    cuda, capability = software.torch_cuda, card.capability
    has_volta = cuda < CUDA_OF_BLACKWELL or (cuda < CUDA_WITHOUT_VOLTA and not _from(software, TORCH_WITHOUT_VOLTA))
    if capability < TURING and not has_volta:
        return f"a torch for CUDA {_dotted(cuda)} needs {_dotted(TURING)}"
    least = _least_cuda(capability)
    return (
        f"it needs a torch for CUDA {_dotted(least)} or newer, and this one is for {_dotted(cuda)}"
        if cuda < least
        else ""
    )


def is_published(software: Software) -> bool:
    """Whether this is one of PyTorch's own builds, such as 2.11.0+cu128. Others may hold more or fewer kernels."""
    return re.fullmatch(r"[\d.]+\+cu\d+", software.torch) is not None


def fitting(card: Card, driver_cuda: Version) -> str:
    """Which torch runs on this card with this driver, and where to find it; empty where there is none."""
    least = _least_cuda(card.capability)
    builds = [
        build
        for build in ((12, 6), (12, 9), (13, 0))
        if build >= least
        and build[0] <= driver_cuda[0]  # a driver runs all minor versions of its major one
        and (card.capability >= TURING or build < CUDA_OF_BLACKWELL)
    ]
    # Among those, the oldest suits most drivers and other libraries.
    return f"the torch for CUDA {_dotted(builds[0])}, as PyTorch's installation page shows" if builds else ""


def _least_cuda(capability: Version) -> Version:
    if capability < BLACKWELL:
        return (0, 0)
    return CUDA_OF_THOR if capability[0] == 11 else CUDA_OF_BLACKWELL


def _from(software: Software, version: Version) -> bool:
    found = re.match(r"(\d+)\.(\d+)", software.torch)
    return found is not None and (int(found[1]), int(found[2])) >= version


def _parts(architecture: str) -> tuple[str, int, int]:
    """ "sm_90a" as ("sm", 9, 0), "compute_120" as ("compute", 12, 0)."""
    found = re.match(r"(sm|compute)_(\d+)(\d)", architecture)
    return (found[1], int(found[2]), int(found[3])) if found else ("", 0, 0)


def _dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)


DRIVER_FOR_CUDA = {11: "450", 12: "525", 13: "580"}
"""The oldest Linux driver that runs every CUDA of this major version (NVIDIA, CUDA Compatibility, minor version
compatibility)."""
LEAST_CAPABILITY = (7, 0)
"""Of Triton's kernels, so of Unsloth."""
BUSY_SHARE = 0.1
"""Of the card's memory in the hands of other programs, from which it is worth a warning."""
ON_THE_CPU = "To train on the CPU, set CUDA_VISIBLE_DEVICES= (to nothing)."


def driver(facts: Facts) -> Check:
    """Whether it runs torch's CUDA."""
    driver, needed = facts.driver, facts.software.torch_cuda
    versions = (
        f"Driver {driver.version} runs CUDA up to {dotted(driver.cuda)}, torch {facts.software.torch} is built for "
        f"CUDA {dotted(needed)}"
    )
    if driver.cuda[0] >= needed[0]:
        return Check(name="driver", state="ok", found=f"{versions}.")
    oldest = DRIVER_FOR_CUDA.get(needed[0])
    newer = f"driver {oldest} or newer" if oldest else "the newest driver"
    older = fitting(facts.card, driver.cuda)
    return Check(
        name="driver",
        state="problem",
        found=f"This driver is too old for this torch: {versions}.",
        remedy=f"Install {newer}{f', or {older}' if older else ''}. {ON_THE_CPU}",
    )


def generation(facts: Facts) -> Check:
    """Whether torch and Triton have kernels for the card."""
    card = facts.card
    has = f"{card.name} has compute capability {dotted(card.capability)}"
    if card.capability < LEAST_CAPABILITY:
        return Check(
            name="generation",
            state="problem",
            found=f"{has}; Unsloth's kernels need {dotted(LEAST_CAPABILITY)}.",
            remedy=f"Use a newer GPU. {ON_THE_CPU}",
        )
    other = fitting(card, facts.driver.cuda)
    remedy = f"Install {other}." if other else f"Install the newest driver and torch. {ON_THE_CPU}"
    architectures = next((step.architectures for step in facts.trial if step.architectures), ())
    if architectures:
        if holds_kernels(architectures, card.capability):
            return Check(name="generation", state="ok", found=f"{has}, which this torch supports.")
        return Check(
            name="generation",
            state="problem",
            found=f"{has}; torch {facts.software.torch} has kernels for {', '.join(architectures)} only.",
            remedy=remedy,
        )
    if reason := why_not(card, facts.software):
        published = is_published(facts.software)
        return Check(
            name="generation",
            state="problem" if published else "warning",
            found=f"{has}; {reason}.",
            remedy=remedy
            if published
            else f"This is not one of PyTorch's own builds: `rankviz doctor` tries whether it runs. If not: {remedy}",
        )
    return Check(name="generation", state="ok", found=f"{has}, which this torch supports.")


def memory(facts: Facts) -> Check:
    """The card's memory, and what others hold of it."""
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


def compiler(facts: Facts) -> Check:
    """What Triton compiles with."""
    if facts.software.compiler:
        return Check(name="compiler", state="ok", found=f"Triton can compile with {facts.software.compiler}.")
    return Check(
        name="compiler",
        state="problem",
        found="There is no C compiler, and Triton compiles a small one-off program before the first kernel runs.",
        remedy="Install gcc (Debian, Ubuntu: apt install gcc). If CC is set, it must name one program of this machine.",
    )


def headers(facts: Facts) -> Check:
    """What Triton compiles against."""
    if facts.software.has_headers:
        return Check(name="headers", state="ok", found="Python.h is there, which Triton compiles against.")
    return Check(
        name="headers",
        state="problem",
        found=f"Python.h is not in {facts.software.headers}, and Triton compiles against it.",
        remedy="Install Python's headers (Debian, Ubuntu: apt install python3-dev, of the same version of Python).",
    )


def bitsandbytes(facts: Facts, wanted: Wanted) -> Check:
    """Its native library for torch's CUDA, and whether this training needs it."""
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
        built = ", ".join(dotted(each) for each in software.bitsandbytes_cuda) or "no CUDA"
        return Check(
            name="bitsandbytes",
            state=state,
            found=f"bitsandbytes {software.bitsandbytes} is built for {built}, torch for CUDA "
            f"{dotted(software.torch_cuda)}: 4-bit and 8-bit bases and 8-bit optimizers would fail.",
            remedy=f"Run pip install --upgrade bitsandbytes, {other}",
        )
    return Check(
        name="bitsandbytes",
        state="ok",
        found=f"bitsandbytes {software.bitsandbytes} has a native library for CUDA {software.torch_cuda[0]}.",
    )


def experts(facts: Facts, wanted: Wanted) -> Check | None:
    """Whether the Unsloth installed leaves experts in 16 bit, which an estimate counts in 4; None where it does not."""
    software = facts.software
    packs = not software.unsloth_zoo or _numbers(software.unsloth_zoo) >= PACKING_UNSLOTH_ZOO
    if packs or _numbers(software.transformers) < (5,):
        return None
    if not wanted.has_experts or wanted.framework != "unsloth" or wanted.precision not in ("auto", "nf4", "nf4-dq"):
        return None
    return Check(
        name="experts",
        state="warning",
        found=f"unsloth_zoo {software.unsloth_zoo} with transformers {software.transformers} keeps the experts of "
        "mixture-of-experts models in 16 bit, so they need about four times the memory that an estimate says.",
        remedy=f"Run pip install --upgrade unsloth unsloth_zoo: {dotted(PACKING_UNSLOTH_ZOO)} and newer load them in 4 "
        "bit.",
    )


def _numbers(version: str) -> tuple[int, ...]:
    """ "2026.6.1.post1" as (2026, 6, 1)."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def dotted(version: tuple[int, ...]) -> str:
    """A version as one writes it, such as 12.8."""
    return ".".join(str(part) for part in version)
