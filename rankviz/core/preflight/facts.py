"""What is known of a machine before it trains. Gathered by rankviz.machine and rankviz.hub; None is "not known"."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One NVIDIA GPU, or a MIG slice of one, as the driver reports it."""

    index: int | None
    """In the order of the PCI bus, as nvidia-smi counts; None for a MIG slice."""
    name: str
    uuid: str
    memory_bytes: int | None
    """None where the driver does not say it: the GPU shares the machine's memory (GB10, Jetson)."""
    used_bytes: int | None
    """By all programs now."""
    capability: tuple[int, int]
    """CUDA compute capability, such as (8, 9)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """The NVIDIA driver and its cards."""

    version: str
    cuda: tuple[int, int]
    """The newest CUDA that it runs."""
    cards: tuple[Card, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Software:
    """What is installed for training; read from files, nothing imported."""

    missing: str = ""
    """A sentence on how to add the trainer; empty where it is installed."""
    torch: str = ""
    torch_cuda: tuple[int, int] | None = None
    """The CUDA that torch is built for; None is a build without CUDA."""
    torch_hip: bool = False
    """Built for AMD GPUs."""
    compiler: str | None = None
    """The C compiler that Triton would call."""
    headers: str = ""
    """Where Python.h must be."""
    has_headers: bool = False
    bitsandbytes: str = ""
    bitsandbytes_cuda: tuple[tuple[int, int], ...] = ()
    """The CUDA versions that its native libraries are built for."""
    transformers: str = ""
    unsloth_zoo: str = ""


HUB_DISK = "models from the Hub"
"""What is kept on the disk to which bases are downloaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    what: str
    """What is kept there, such as "runs"."""
    path: str
    """Empty for the visitors of a shared page, who see no path of its machine and do not tend it."""
    free_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HubAnswer:
    """Whether the Hugging Face Hub was reached. reason: why not."""

    endpoint: str
    reached: bool
    offline: bool = False
    """Switched off by HF_HUB_OFFLINE, so nothing was sent."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialStep:
    """One step of the trial that a worker process runs: it imports and uses what training uses."""

    name: str
    ok: bool
    found: str
    """What it found, or the first line of the error."""
    seconds: float
    architectures: tuple[str, ...] = ()
    """Of the step that imports torch on a GPU: what torch holds kernels for, such as "sm_90" and "compute_120"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    driver: Driver | None
    """None where no NVIDIA driver answers."""
    card: Card | None
    """The one that training uses; None where there is none, or CUDA_VISIBLE_DEVICES hides all."""
    software: Software
    cpu_name: str
    cpu_count: int
    cpu_bf16: bool | None
    memory_bytes: int
    """Of the machine."""
    available_bytes: int
    disks: tuple[Disk, ...] = ()
    hub: HubAnswer | None = None
    """None where it was not asked."""
    trial: tuple[TrialStep, ...] = ()
    """Empty where it was not run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is to be trained, as far as the machine matters. The default is any training."""

    precision: str = "auto"
    optim: str = "auto"
    framework: str = "unsloth"
    has_experts: bool = True
    """Whether the base is a mixture of experts, or may be."""
    download_bytes: int = 0
    """What the base may take on disk when it is fetched from the Hub; 0 where nothing is fetched."""
    download_is_certain: bool = False
    """Whether these are the sizes of the files that will be fetched, as the Hub gives them."""

    @property
    def needs_bitsandbytes(self) -> bool:
        """On a GPU: for a quantized base or an 8-bit optimizer, which "auto" is there."""
        return self.precision in ("auto", "nf4", "nf4-dq", "int8") or self.optim in (
            "auto",
            "adamw_8bit",
            "paged_adamw_8bit",
        )
