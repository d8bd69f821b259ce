"""Jobs of which nothing is left here, and of which nobody knows that they have ended.

Their runs have gone to other jobs, or were cancelled. Where such a job shows up in Slurm after all, it is ended. It is
written down in slurm-jobs/missing, as an empty file with the name of its folder, so that the next app looks for it too.
"""

import contextlib
import math
import time
from collections.abc import Sequence
from pathlib import Path

from rankviz.engines.slurm import states
from rankviz.engines.slurm.calls import Cancels
from rankviz.engines.slurm.place import Place
from rankviz.engines.slurm.watch import Look
from rankviz.errors import EngineUnavailableError

MISSING = "missing"
LOOKED_FOR_SECONDS = 7 * 24 * 3600.0
"""So long they are looked for: partitions with GPUs hardly allow jobs that take longer."""


class Missing:
    """Of one runs folder."""

    def __init__(self, place: Place, cancels: Cancels):
        self._path, self._name_of, self._cancels = place.path / MISSING, place.name_of, cancels
        self._began = -math.inf

    def __bool__(self) -> bool:
        return bool(self._files())

    def note(self, folder_name: str) -> None:
        """Look for this one. OSError where that cannot be written down."""
        self._path.mkdir(exist_ok=True)
        (self._path / folder_name).touch()
        self._began = -math.inf

    def end(self, look: Look) -> None:
        """Ask for the end of those that Slurm lists, once for each look at all of them."""
        if look.trouble or look.began <= self._began:
            return
        self._began = look.began
        for file in self._files():
            seen = look.listed.get(name := self._name_of(file.name))
            if states.end_of(seen, None, yields=False) if seen else _is_old(file):
                file.unlink(missing_ok=True)
            elif seen is not None and not states.is_ending(seen):
                with contextlib.suppress(EngineUnavailableError):  # it is asked again
                    self._cancels.ask(seen.id, name)

    def _files(self) -> Sequence[Path]:
        return sorted(self._path.glob("[!.]*"))


def _is_old(file: Path) -> bool:
    return time.time() - file.stat().st_mtime > LOOKED_FOR_SECONDS
