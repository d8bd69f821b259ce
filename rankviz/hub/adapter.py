"""A trained adapter on the Hub: its two files, their sizes known before they are fetched. Never a pickle."""

import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from rankviz.errors import BadAdapterError, HubUnavailableError
from rankviz.hub.reach import silence

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
TIMEOUT_S = 5
"""Between two bytes of an answer; door.py bounds the whole."""
MAX_CONFIG_BYTES = 4_000_000


def fetch_adapter(
    repo_id: str, *, max_bytes: int, copies: str = "", read: str = "", work: Path | None = None, api: Any = None
) -> Path:
    """The folder with an adapter's config and weights.

    Args:
        repo_id: Its id on the Hub.
        max_bytes: A larger adapter is refused before it is downloaded.
        copies: The beginning of the path of the copy that is made, unless it is there already; empty for the Hub's own
            cache.
        read: The copy that is not made anew, though it may have gone.
        work: Where it is written until it is whole.
        api: huggingface_hub's HfApi, or something that answers like it.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi, errors

    api = api or HfApi()
    try:
        info = api.model_info(repo_id, files_metadata=True, timeout=TIMEOUT_S)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        _check(repo_id, sizes, max_bytes)
        copy = Path(copies + sha256(f"{repo_id} {info.sha}".encode()).hexdigest()[:32]) if copies else None
        if copy and (copy / _name(repo_id)).is_dir():
            copy.touch()  # used now, so not the next to go
            return copy / _name(repo_id)
        if copy and str(copy / _name(repo_id)) == read:
            return copy / _name(repo_id)
        place = work / _name(repo_id) if copy else None
        config, weights = (
            Path(api.hf_hub_download(repo_id, file, revision=info.sha, local_dir=place, etag_timeout=TIMEOUT_S))
            for file in (CONFIG, WEIGHTS)
        )
        assert config.parent == weights.parent
        return _publish(weights.parent, copy) if copy else weights.parent
    except errors.GatedRepoError:
        raise BadAdapterError(
            f"{repo_id!r} is gated or private on the Hub: download it and give its files; or, on your own machine, "
            "accept its licence there and set HF_TOKEN."
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise BadAdapterError(
            f"There is no adapter {repo_id!r} here or on the Hub: check the name, or give its files."
        ) from None
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise HubUnavailableError(unavailable(repo_id)) from error
    except (HTTPError, OSError) as error:
        raise silence(error, unavailable(repo_id)) from error


def unavailable(repo_id: str) -> str:
    """Why an adapter is not to be had while the Hub is not."""
    return (
        f"The Hub cannot be reached, so {repo_id!r} cannot be downloaded: try again later, or give the adapter's files."
    )


def _publish(folder: Path, copy: Path) -> Path:
    """A finished download, where others find it whole or not at all."""
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # what huggingface_hub remembers of the download
    copy.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(folder, copy / f".{os.getpid()}")).rename(copy / folder.name)


def _name(repo_id: str) -> str:
    return repo_id.rpartition("/")[2]


def _check(repo_id: str, sizes: dict[str, int], max_bytes: int) -> None:
    if WEIGHTS not in sizes:
        pickled = next((name for name in sizes if name.endswith(".bin")), None)
        if pickled:
            raise BadAdapterError(
                f"{repo_id!r} has only {pickled}, and pickle files can run code when they are opened: load it where "
                f"you trust it and save it with PEFT's model.save_pretrained, which writes {WEIGHTS}."
            )
        raise BadAdapterError(
            f"{repo_id!r} holds no {WEIGHTS}, so it is not an adapter in PEFT's layout: check the name."
        )
    if CONFIG not in sizes:
        raise BadAdapterError(f"{repo_id!r} holds no {CONFIG}, which holds r and lora_alpha: check the name.")
    if sizes[CONFIG] > MAX_CONFIG_BYTES:
        raise BadAdapterError(f"{CONFIG} of {repo_id!r} has {sizes[CONFIG]:,} bytes, more than one can have.")
    if sizes[WEIGHTS] > max_bytes:
        raise BadAdapterError(
            f"{repo_id!r} has {sizes[WEIGHTS]:,} bytes of weights, more than the {max_bytes:,} allowed here."
        )
