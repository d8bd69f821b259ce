"""Loads the base with Unsloth, puts an adapter on it and takes it off. Importing this module imports Unsloth."""

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import unsloth
from huggingface_hub.constants import HF_HUB_CACHE
from peft import PeftModel
from transformers.utils import logging

from rankviz import units
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.runs.request import RunRequest
from rankviz.errors import GatedModelError, HubUnavailableError, InvalidSettingError, UnknownModelError
from rankviz.hub.reach import weight_bytes_to_fetch
from rankviz.worker import device
from rankviz.worker.base import Base, HubDownload
from rankviz.worker.finetune.adapter import unsloth_arguments
from rankviz.worker.journal import UNWATCHED, Stages
from rankviz.worker.settings import WorkerSettings


@contextmanager
def weights_followed(stages: Stages) -> Iterator[None]:
    """Write each progress bar of transformers as progress of the stage, while the block loads."""

    class Followed:
        """A bar whose items are counted."""

        def __init__(self, bar: Any, total: int):
            self._bar, self._total = bar, total

        def __iter__(self) -> Iterator[Any]:
            for done, item in enumerate(self._bar):
                stages.progress(done, self._total, "tensors")
                yield item

        def __getattr__(self, name: str) -> Any:
            return getattr(self._bar, name)

    def follow(factory: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        bar = factory(*args, **options)
        return Followed(bar, len(args[0])) if args and isinstance(args[0], Sized) else bar

    before = logging.set_tqdm_hook(follow)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


UNSLOTHS_OWN = LoraConfig()
"""Its class, and all of the checkpoint."""


def load_base(
    base: Base,
    settings: WorkerSettings,
    on_resolved: Callable[[str], None] = lambda name: None,
    lora: LoraConfig = UNSLOTHS_OWN,
    stages: Stages = UNWATCHED,
) -> tuple[Any, Any]:
    """Return (model, tokenizer).

    on_resolved: told the folder or repository that is loaded. On a GPU, Unsloth takes a quantized copy of many bases
    from another repository, such as unsloth/Llama-3.1-8B-unsloth-bnb-4bit for meta-llama/Llama-3.1-8B.
    stages: get how much of a download has come, and how many tensors are loaded.
    """
    download = HubDownload(stages, Path(HF_HUB_CACHE), weight_bytes_to_fetch)

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


def explain_failure(error: Exception, base: Base, settings: WorkerSettings) -> Exception | None:
    """Return the error in one sentence, decided by what caused it; None where it needs no other words."""
    from httpx import TransportError
    from huggingface_hub import errors

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in device.causes(error))

    if device.ran_out_of_memory(error):
        return InvalidSettingError(_too_large(base, settings)) if settings.cuda else None
    if base.is_local:
        return None
    if caused_by(errors.GatedRepoError):
        return GatedModelError(base.name)
    if caused_by(errors.RepositoryNotFoundError):
        return UnknownModelError(base.name, reason="and none on the Hub")
    silent = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)
    if caused_by(*silent, TransportError, ConnectionError, TimeoutError):
        return HubUnavailableError(
            f"{base.name!r} could not be fetched from the Hub: no answer. Check the network and try again, or choose a "
            "folder. `rankviz doctor` says whether the Hub answers."
        )
    if caused_by(errors.HfHubHTTPError):
        return HubUnavailableError(
            f"{base.name!r} could not be fetched: the Hub answered with an error. Try again, or choose a folder."
        )
    if any(isinstance(cause, OSError) and cause.errno is not None for cause in device.causes(error)):
        return None  # a full disk, a file that may not be read: the system's own words say it
    # transformers says so with an OSError that no system call has numbered.
    if caused_by(errors.EntryNotFoundError, OSError):
        return UnknownModelError(base.name, reason="and its repository on the Hub holds no model to load")
    return None


def _too_large(base: Base, settings: WorkerSettings) -> str:
    free, total = torch.cuda.mem_get_info()
    others = total - free - torch.cuda.memory_reserved()
    used = f"; other programs use {units.memory_size(others)}" if others > units.GIB / 4 else ""
    smaller = "" if settings.training.precision == "nf4-dq" else "precision nf4-dq, "
    return (
        f"{base.name!r} does not fit this GPU: its memory of {units.memory_size(total)} ran out while the base was "
        f"loaded in {settings.training.precision}{used}. Choose {smaller}a smaller base or a larger GPU."
    )


def attach(
    model: Any, request: RunRequest, plan: AdapterPlan, settings: WorkerSettings, left_out: Sequence[str] = ()
) -> Any:
    """Return the base with a fresh adapter, as Unsloth puts it there. left_out: paths of towers without one."""
    lora = request.lora
    return getattr(unsloth, lora.unsloth_class).get_peft_model(
        model,
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        **unsloth_arguments(lora, plan, left_out),
        lora_dropout=0,
        bias="none",
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        use_gradient_checkpointing=settings.gradient_checkpointing,
        random_state=request.seed,
        max_seq_length=request.training.max_length,
    )


def detach(adapter: PeftModel) -> Any:
    """Take the adapter off: PEFT puts the base's own layers back where it had wrapped them."""
    model = adapter.unload()
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model


class Hooks:
    """The forward hooks of a model as it was loaded. Each get_peft_model adds some to the input embedding (gradients
    must reach the checkpointed blocks), which PEFT's unload leaves there."""

    def __init__(self, model: Any):
        self._kept = {module: set(module._forward_hooks) | set(module._forward_pre_hooks) for module in model.modules()}

    def restore(self) -> None:
        """Remove the hooks that were added since."""
        for module, kept in self._kept.items():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key in [key for key in hooks if key not in kept]:
                    del hooks[key]
