"""Checks of a machine with an NVIDIA GPU: driver, card, and what Triton and bitsandbytes need."""

import re

from rankviz import units
from rankviz.core.cost.unsloth import PACKING_UNSLOTH_ZOO
from rankviz.core.preflight import torch_build
from rankviz.core.preflight.check import Check
from rankviz.core.preflight.facts import Facts, Wanted

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
    older = torch_build.fitting(facts.card, driver.cuda)
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
    other = torch_build.fitting(card, facts.driver.cuda)
    remedy = f"Install {other}." if other else f"Install the newest driver and torch. {ON_THE_CPU}"
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
