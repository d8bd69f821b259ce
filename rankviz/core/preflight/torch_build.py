"""Which GPUs a build of torch holds kernels for, and which build to install for a GPU.

From the architectures that torch itself names where a process has imported it, else from the CUDA it is built for
(table of PyTorch's RELEASE.md, "PyTorch CUDA Support Matrix"; tests/core/preflight/test_torch_build.py compares it with
the table in the installed torch). Not covered: builds for ARM, which leave out some GPUs that those for x86 have.
"""

import re
from collections.abc import Sequence

from rankviz.core.preflight.facts import Card, Software

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
