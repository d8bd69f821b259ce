"""The bases from the Hub that a shared page keeps below its runs folder, where they count and make room. The cache of
whoever uses this machine is never touched."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

from rankviz.hub.reach import CACHE_VARIABLE, cache_folder

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
    """Remove repositories, those first that were used longest ago, until it is enough; nothing in another's cache, and
    nothing that was read or written within RECENT_SECONDS.

    besides: ids of repositories that stay.
    """
    if not is_own(home) or not cache_folder().is_dir():
        return
    from huggingface_hub import scan_cache_dir

    stay = {each.casefold() for each in besides}
    used = {repo: max(repo.last_accessed, repo.last_modified) for repo in scan_cache_dir(cache_folder()).repos}
    for repo in sorted(used, key=used.__getitem__):
        if is_enough() or time.time() - used[repo] < RECENT_SECONDS:
            return
        if repo.repo_id.casefold() not in stay:
            # The client's own deletion goes by commits, and a copy of a repository has the same ones.
            shutil.rmtree(repo.repo_path, ignore_errors=True)


def _own(home: Path) -> Path:
    return Path(home).absolute() / "hub"
