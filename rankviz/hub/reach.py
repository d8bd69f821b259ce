"""Finds out whether the Hub answers, where its cache is, and which files of a model are cached or to be fetched."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.core.preflight import HubAnswer

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo

TIMEOUT_S = 3.0
CACHE_VARIABLE, OWN_CACHE = "HF_HUB_CACHE", "hub"
"""Environment variable with the folder of downloads, and the folder in the runs folder where it is not set."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of weight files, each whole or in parts that an index of this name lists; the first that exists is loaded."""
MAX_INDEX_BYTES, MAX_TENSORS = 16 * 10**6, 200_000
"""Limits of an index of weights: with 100,000 tensors, at 100 bytes each, it has 10 MB."""
RECENT_SECONDS = 3600.0  # seconds after its last use for which a repository may still be in use


def is_offline() -> bool:
    """Tell whether HF_HUB_OFFLINE switches the Hub off."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def ask_hub(session: Any = None) -> HubAnswer:
    """Return whether the Hub, or the mirror in HF_ENDPOINT, answers one HEAD request. session: an httpx client."""
    from httpx import HTTPError
    from huggingface_hub import constants, get_session

    address = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    if is_offline():
        return HubAnswer(endpoint=address, reached=False, offline=True)
    try:
        answer = (session or get_session()).head(address, timeout=TIMEOUT_S, follow_redirects=True)
    except (HTTPError, OSError) as error:
        return HubAnswer(endpoint=address, reached=False, reason=str(error) or type(error).__name__)
    reason = f"status {answer.status_code}" if answer.status_code >= 500 else ""
    return HubAnswer(endpoint=address, reached=not reason, reason=reason)


def cache_folder() -> Path:
    """Return the folder of downloads: HF_HUB_CACHE, even if set late, or hub/ in HF_HOME."""
    from huggingface_hub import constants

    return Path(os.environ.get(CACHE_VARIABLE) or constants.HF_HUB_CACHE)


def _cached(repo_id: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo_id, name, cache_dir=cache_folder())
    return Path(path) if isinstance(path, str) else None


def has_weights(repo_id: str) -> bool:
    """Tell whether all weight files of this repository are in the cache, so that nothing is fetched to load it."""
    from huggingface_hub import errors

    with suppress(errors.HFValidationError, OSError):  # no such name, or it goes just now, to make room
        for single in WEIGHTS:
            index = _cached(repo_id, f"{single}.index.json")
            names = _named_in(index, single) if index else ()
            if _cached(repo_id, single) or (names and all((index.parent / name).is_file() for name in names)):
                return True
    return False


def _named_in(index: Path, single: str) -> Collection[str]:
    """Return the weight files that an index names; none where the index is too long or names other files. An index is
    written by strangers, so it is searched and not parsed."""
    suffix = Path(single).suffix.encode()
    with index.open("rb") as file:
        text = file.read(MAX_INDEX_BYTES + 1)
    names = re.findall(rb'"([^"/\\]{1,100}' + re.escape(suffix) + rb')"', text)
    if len(text) > MAX_INDEX_BYTES or not 0 < len(names) <= MAX_TENSORS or len(names) != text.count(suffix + b'"'):
        return ()
    return {os.fsdecode(name) for name in names}


def weight_bytes_to_fetch(repo_id: str, folder: Path | None = None, api: Any = None) -> int | None:
    """Return the bytes of a repository's weight files, as the Hub states them, without files in the cache; None where
    they are not known. An index is read for the names of files only, because a stranger wrote its sizes. folder: place
    for the index, a temporary one by default. api: huggingface_hub's HfApi, or something that answers like it."""
    from httpx import HTTPError
    from huggingface_hub import HfApi, errors

    api = api or HfApi()
    try:
        with tempfile.TemporaryDirectory(prefix="rankviz-", dir=folder) as place:
            info = api.model_info(repo_id, files_metadata=True, timeout=TIMEOUT_S)
            sizes = {each.rfilename: each.size for each in info.siblings or ()}
            whole = next((name for name in WEIGHTS if name in sizes or f"{name}.index.json" in sizes), "")
            names, index = {whole}.intersection(sizes), f"{whole}.index.json"
            if not names and (sizes.get(index) or math.inf) <= MAX_INDEX_BYTES:
                file = Path(api.hf_hub_download(repo_id, index, local_dir=Path(place)))
                with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
                    names = {str(name) for name in json.loads(file.read_bytes())["weight_map"].values()}
    except (HTTPError, OSError, errors.HFValidationError):
        return None
    missing = [sizes.get(name) for name in names if not _cached(repo_id, name)]
    return None if not names or None in missing else sum(missing)


def use_own(home: Path) -> None:
    """Let this process's workers keep downloads below the runs folder, unless HF_HUB_CACHE is set."""
    os.environ.setdefault(CACHE_VARIABLE, str(Path(home).absolute() / OWN_CACHE))


def make_room(home: Path, besides: Collection[str], is_enough: Callable[[], bool]) -> None:
    """Remove unused repositories, the least recently used first, until `is_enough`. besides: ids to keep."""
    for repo in idle(home, besides):
        if is_enough():
            return
        # The client's own deletion goes by commits, and a copy of a repository has the same ones.
        shutil.rmtree(repo.repo_path, ignore_errors=True)


def idle(home: Path, besides: Collection[str]) -> Sequence[CachedRepoInfo]:
    """Return repositories that may be deleted, least recently used first: only in RankViz's own cache, and not used
    within RECENT_SECONDS. besides: ids of repositories to keep."""
    if cache_folder().absolute() != Path(home).absolute() / OWN_CACHE or not cache_folder().is_dir():
        return []
    from huggingface_hub import scan_cache_dir

    stay = {each.casefold() for each in besides}
    used = {repo: max(repo.last_accessed, repo.last_modified) for repo in scan_cache_dir(cache_folder()).repos}
    old = [repo for repo, at in used.items() if time.time() - at >= RECENT_SECONDS]
    return sorted((repo for repo in old if repo.repo_id.casefold() not in stay), key=used.__getitem__)
