"""The bases from the Hub that a shared page keeps below its runs folder, where they count and make room. The cache of
whoever uses this machine is never touched."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz.hub.reach import CACHE_VARIABLE, cache_folder

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo

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
