"""Whether the Hugging Face Hub answers, where its cache is, and what of a model is still to be fetched or is kept."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.core.preflight.facts import HubAnswer
from rankviz.errors import OF_THE_DISK, HubSilentError

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo


TIMEOUT_S = 3.0
CACHE_VARIABLE = "HF_HUB_CACHE"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Whole, or else in the files that an index of this name names; the first that there is is loaded."""
MAX_INDEX_BYTES, MAX_TENSORS, MAX_NAME = 16 * 10**6, 200_000, 100
"""Of an index of weights: of 100,000 tensors, at 100 bytes each, it has 10 MB."""


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
    """Whether all weight files of this repository are in the cache, so that nothing is fetched to load it. An index is
    whatever a stranger wrote into it: it is searched for names of files, and not parsed."""
    from huggingface_hub import errors, try_to_load_from_cache

    def cached(name: str) -> str | None:
        path = try_to_load_from_cache(repo_id, name, cache_dir=cache_folder())
        return path if isinstance(path, str) else None

    try:
        for single in WEIGHTS:
            index = cached(f"{single}.index.json")
            if cached(single) or (index and _has_all_of(Path(index), Path(single).suffix)):
                return True
    except (errors.HFValidationError, OSError):  # no such name, or it goes just now, to make room
        pass
    return False


def _has_all_of(index: Path, suffix: str) -> bool:
    """Whether the weight files that an index names are beside it. False where it names none, or is too long for one."""
    with index.open("rb") as file:
        text = file.read(MAX_INDEX_BYTES + 1)
    if len(text) > MAX_INDEX_BYTES:
        return False
    names = list(islice(_names_in(text, f'{suffix}"'.encode()), MAX_TENSORS + 1))
    if not 0 < len(names) <= MAX_TENSORS:
        return False
    return all("/" not in name and (index.parent / name).is_file() for name in set(names))


def _names_in(text: bytes, end: bytes) -> Iterator[str]:
    """What stands between quotes and ends so, in a search that hostile text does not slow down. What is too long for a
    name is "/"."""
    at = text.find(end)
    while at >= 0:
        start = text.rfind(b'"', max(0, at - MAX_NAME), at) + 1
        yield text[start : at + len(end) - 1].decode(errors="replace") if start else "/"
        at = text.find(end, at + 1)


def weight_bytes_to_fetch(repo_id: str, folder: Path, api: Any = None) -> int | None:
    """Bytes of this repository's weight files, as the Hub gives them, without those that are in the cache; None where
    that is not known. What an index says of sizes, total_size too, is whatever a stranger wrote: it is read for the
    names of files alone.

    Args:
        repo_id: Its id on the Hub.
        folder: Where the index goes.
        api: Like huggingface_hub.HfApi.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi, errors, try_to_load_from_cache

    api = api or HfApi()
    try:
        info = api.model_info(repo_id, files_metadata=True, timeout=TIMEOUT_S)
        sizes = {each.rfilename: each.size for each in info.siblings or ()}
        names = _loaded_of(sizes, lambda name: api.hf_hub_download(repo_id, name, local_dir=folder))
    except (HTTPError, OSError, errors.HFValidationError):
        return None
    cached = (try_to_load_from_cache(repo_id, name, cache_dir=cache_folder()) for name in names)
    missing = [sizes.get(name) for name, path in zip(names, cached, strict=True) if not isinstance(path, str)]
    return None if not names or None in missing else sum(missing)


def _loaded_of(sizes: Mapping[str, int | None], fetch: Callable[[str], str]) -> Collection[str]:
    """The weight files that a loader takes of a repository; none where that cannot be told."""
    for whole in WEIGHTS:
        if whole in sizes:
            return [whole]
        index = f"{whole}.index.json"
        if index in sizes:
            if (sizes[index] or math.inf) > MAX_INDEX_BYTES:
                return ()
            try:
                return {str(name) for name in json.loads(Path(fetch(index)).read_bytes())["weight_map"].values()}
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                return ()
    return ()


RECENT_SECONDS = 3600.0
"""What was used since then may be in use."""


def use_own(home: Path) -> None:
    """Let the workers of this process keep what they fetch below the runs folder, unless they were told of another
    place."""
    os.environ.setdefault(CACHE_VARIABLE, str(_own(home)))


def is_own(home: Path) -> bool:
    """Whether they do."""
    return cache_folder().absolute() == _own(home)


def make_room(home: Path, besides: Collection[str], is_enough: Callable[[], bool]) -> None:
    """Remove what is idle until it is enough. besides: as `idle` has it."""
    for repo in idle(home, besides):
        if is_enough():
            return
        # The client's own deletion goes by commits, and a copy of a repository has the same ones.
        shutil.rmtree(repo.repo_path, ignore_errors=True)


def idle(home: Path, besides: Collection[str]) -> Sequence[CachedRepoInfo]:
    """The repositories that may go, those first that were used longest ago; none of another's cache, and none that was
    read or written within RECENT_SECONDS.

    besides: ids of repositories that stay.
    """
    if not is_own(home) or not cache_folder().is_dir():
        return []
    from huggingface_hub import scan_cache_dir

    stay = {each.casefold() for each in besides}
    used = {repo: max(repo.last_accessed, repo.last_modified) for repo in scan_cache_dir(cache_folder()).repos}
    old = [repo for repo, at in used.items() if time.time() - at >= RECENT_SECONDS]
    return sorted((repo for repo in old if repo.repo_id.casefold() not in stay), key=used.__getitem__)


def _own(home: Path) -> Path:
    return Path(home).absolute() / "hub"
