"""Where the jobs of a runs folder lie, and what Slurm calls them."""

import contextlib
import hashlib
import os
import secrets
import shutil
import threading
from functools import cached_property
from pathlib import Path

from rankviz.engines import listing
from rankviz.store.durable import aside_of

HOME_FILE = "slurm.id"


class Place:
    """HOME/slurm-jobs."""

    def __init__(self, home: Path):
        self._home = home
        self.path = home.absolute() / "slurm-jobs"
        self._lock = threading.Lock()

    def folders(self) -> list[Path]:
        """Of its jobs."""
        return list(listing.folders_in(self.path))

    def name_of(self, folder_name: str) -> str:
        """What Slurm calls the job of a folder."""
        return f"rankviz-{self._home_id}-{folder_name}"

    def remove(self, folder: Path) -> None:
        """A job that Slurm starts afterwards finds no folder and ends. What a network disk could not remove before is
        removed too."""
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder, aside_of(folder))
        for gone in self.path.glob(".*"):
            shutil.rmtree(gone, ignore_errors=True)

    @cached_property
    def _home_id(self) -> str:
        """Of this runs folder, and of no copy of it."""
        file = self._home / HOME_FILE
        with self._lock:
            if not file.exists():
                file.write_text(secrets.token_hex(8))
        return hashlib.sha256(f"{self.path} ".encode() + file.read_bytes()).hexdigest()[:12]
