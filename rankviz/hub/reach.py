"""Whether the Hugging Face Hub answers, where its cache is, and what of a model is still to be fetched."""

import os
import re
import socket
from pathlib import Path
from typing import Any

from rankviz.core.preflight.facts import HubAnswer
from rankviz.errors import OF_THE_DISK, HubSilentError

TIMEOUT_S = 3.0
CACHE_VARIABLE = "HF_HUB_CACHE"
SHARD = r"(-(?P<number>\d+)-of-(?P<of>\d+))?"
WEIGHT_FILES = {
    "safetensors": re.compile(rf"(?P<stem>model(\.safetensors)?){SHARD}\.safetensors"),
    "bin": re.compile(rf"(?P<stem>pytorch_model){SHARD}\.bin"),
}
"""By format, the one that transformers prefers first; other files of a repository are not fetched to load it."""


def silence(error: Exception, sentence: str) -> Exception:
    """What it means that something was wrong on the way to the Hub, and not with what it answers."""
    return error if getattr(error, "errno", None) in OF_THE_DISK else HubSilentError(sentence)


def is_offline() -> bool:
    """Whether the Hub is switched off, by HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def endpoint() -> str:
    """The address of the Hub, or of the mirror that HF_ENDPOINT names."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def ask_hub(session: Any = None) -> HubAnswer:
    """One HEAD request to the Hub, or to the mirror that HF_ENDPOINT names. session: an httpx client."""
    from httpx import HTTPError
    from huggingface_hub import constants, get_session

    endpoint = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        return HubAnswer(endpoint=endpoint, reached=False, offline=True)
    try:
        answer = (session or get_session()).head(endpoint, timeout=TIMEOUT_S, follow_redirects=True)
    except (HTTPError, OSError) as error:
        return HubAnswer(endpoint=endpoint, reached=False, reason=_why(error))
    if answer.status_code >= 500:
        return HubAnswer(endpoint=endpoint, reached=False, reason=f"status {answer.status_code}")
    return HubAnswer(endpoint=endpoint, reached=True)


def _why(error: BaseException) -> str:
    """What lies below an error of httpx: of the system its words without the number."""
    below = error.__cause__ or error.__context__
    if isinstance(error, socket.gaierror):
        return "no machine of this name is found; check the network and the name"
    if below is not None:
        return _why(below)
    return getattr(error, "strerror", None) or (str(error).strip().splitlines() or [type(error).__name__])[0]


def cache_folder() -> Path:
    """Where downloads are kept: HF_HUB_CACHE, or hub/ in HF_HOME. The variable may have been set since the Hub's client
    has read it."""
    from huggingface_hub import constants

    return Path(os.environ.get(CACHE_VARIABLE) or constants.HF_HUB_CACHE)


def has_weights(repo_id: str) -> bool:
    """Whether all weight files of this repository are in the cache, so that nothing is fetched to load it. Their names
    say how many there are: an index is whatever a stranger wrote into it, and is not read here."""
    from huggingface_hub import errors, try_to_load_from_cache

    def cached(name: str) -> str | None:
        path = try_to_load_from_cache(repo_id, name, cache_dir=cache_folder())
        return path if isinstance(path, str) else None

    try:
        for single, kind in (("model.safetensors", "safetensors"), ("pytorch_model.bin", "bin")):
            index = cached(f"{single}.index.json")
            if cached(single) or (index and _has_all_shards(Path(index).parent, WEIGHT_FILES[kind])):
                return True
    except (errors.HFValidationError, OSError):  # no such name, or it goes just now, to make room
        pass
    return False


def _has_all_shards(folder: Path, pattern: re.Pattern[str]) -> bool:
    """Whether there are as many weight files as the names of these say."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for path in folder.iterdir():
        if (name := pattern.fullmatch(path.name)) and name["number"] and path.is_file():
            numbers.setdefault((name["stem"], name["of"]), set()).add(int(name["number"]))
    return any(len(there) == int(of) for (_, of), there in numbers.items())


def weight_bytes_to_fetch(repo_id: str, api: Any = None) -> int | None:
    """Bytes of this repository's weight files, as the Hub gives them, without those that are in the cache; None where
    the Hub does not say. api: like huggingface_hub.HfApi."""
    from httpx import HTTPError
    from huggingface_hub import HfApi, errors, try_to_load_from_cache

    try:
        info = (api or HfApi()).model_info(repo_id, files_metadata=True, timeout=TIMEOUT_S)
    except (HTTPError, OSError, errors.HFValidationError):
        return None
    for pattern in WEIGHT_FILES.values():
        files = [each for each in info.siblings or () if pattern.fullmatch(each.rfilename)]
        if files:
            paths = [try_to_load_from_cache(repo_id, each.rfilename, cache_dir=cache_folder()) for each in files]
            missing = [each for each, path in zip(files, paths, strict=True) if not isinstance(path, str)]
            return None if any(each.size is None for each in missing) else sum(each.size for each in missing)
    return None
