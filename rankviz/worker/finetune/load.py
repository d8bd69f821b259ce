"""Loads the base with Unsloth, and says what is wrong where that fails. Importing this module imports Unsloth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import unsloth

# isort: split
import torch
from huggingface_hub.constants import HF_HUB_CACHE

from rankviz import units
from rankviz.core.lora.config import LoraConfig
from rankviz.errors import GatedModelError, HubUnavailableError, InvalidSettingError, UnknownModelError
from rankviz.worker import device
from rankviz.worker.downloads import HubDownload, hub_weight_bytes
from rankviz.worker.finetune.base import Base
from rankviz.worker.finetune.weights import weights_followed
from rankviz.worker.settings import Settings
from rankviz.worker.stages import UNWATCHED, Stages

UNSLOTHS_OWN = LoraConfig()
"""Its class, and all of the checkpoint."""


def load_base(
    base: Base,
    settings: Settings,
    on_resolved: Callable[[str], None] = lambda name: None,
    lora: LoraConfig = UNSLOTHS_OWN,
    stages: Stages = UNWATCHED,
) -> tuple[Any, Any]:
    """(model, tokenizer).

    on_resolved: told the folder or repository that is loaded. On a GPU, Unsloth takes a quantized copy of many bases
    from another repository, such as unsloth/Llama-3.1-8B-unsloth-bnb-4bit for meta-llama/Llama-3.1-8B.
    stages: get how much of a download has come, and how many tensors are loaded.
    """
    download = HubDownload(stages, Path(HF_HUB_CACHE), hub_weight_bytes)

    def resolved(name: str) -> None:
        on_resolved(name)
        if not base.is_local:
            download.of(name)

    resolved(base.name)
    # The CPU backend loads what it was given, and does not know these arguments.
    telling = {"on_model_resolved": resolved, "text_only": lora.text_only} if settings.cuda else {}
    try:
        with stages.watched(download.look), weights_followed(stages):
            return getattr(unsloth, lora.unsloth_class).from_pretrained(
                base.name,
                max_seq_length=settings.training.max_length,
                dtype=settings.dtype_name and getattr(torch, settings.dtype_name),
                load_in_4bit=settings.training.precision == "nf4-dq",
                load_in_8bit=settings.training.precision == "int8",
                use_gradient_checkpointing=settings.gradient_checkpointing,
                **settings.placement,
                **telling,
            )
    except Exception as error:
        if (explained := explain_failure(error, base, settings)) is None:
            raise
        raise explained from error


def explain_failure(error: Exception, base: Base, settings: Settings) -> Exception | None:
    """The same error in one sentence, decided by what caused it; None where it needs no other words."""
    from httpx import TransportError
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in device.causes(error))

    if device.ran_out_of_memory(error):
        return InvalidSettingError(_too_large(base, settings)) if settings.cuda else None
    if base.is_local:
        return None
    if caused_by(GatedRepoError):
        return GatedModelError(base.name)
    if caused_by(RepositoryNotFoundError):
        return UnknownModelError(base.name, reason="and none on the Hub")
    if caused_by(LocalEntryNotFoundError, OfflineModeIsEnabled, TransportError, ConnectionError, TimeoutError):
        return HubUnavailableError(
            f"{base.name!r} could not be fetched from the Hub: no answer. Check the network and try again, or choose a "
            "folder. `rankviz doctor` says whether the Hub answers."
        )
    if caused_by(HfHubHTTPError):
        return HubUnavailableError(
            f"{base.name!r} could not be fetched: the Hub answered with an error. Try again, or choose a folder."
        )
    if any(isinstance(cause, OSError) and cause.errno is not None for cause in device.causes(error)):
        return None  # a full disk, a file that may not be read: the system's own words say it
    # transformers says so with an OSError that no system call has numbered.
    if caused_by(EntryNotFoundError, OSError):
        return UnknownModelError(base.name, reason="and its repository on the Hub holds no model to load")
    return None


def _too_large(base: Base, settings: Settings) -> str:
    free, total = torch.cuda.mem_get_info()
    others = total - free - torch.cuda.memory_reserved()
    used = f"; other programs use {units.memory_size(others)}" if others > units.GIB / 4 else ""
    smaller = "" if settings.training.precision == "nf4-dq" else "precision nf4-dq, "
    return (
        f"{base.name!r} does not fit this GPU: its memory of {units.memory_size(total)} ran out while the base was "
        f"loaded in {settings.training.precision}{used}. Choose {smaller}a smaller base or a larger GPU."
    )
