"""What the files of a visitor may take on the disk: uploads, the data and journals of their runs, and result files.

Each of them asks here before it writes. What is on its way counts as if it were there, so that many at once get no more
than one after another.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rankviz import units
from rankviz.errors import LimitError
from rankviz.paths import bytes_in
from rankviz.visitor import Visitor, data_folder, home_of

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace


class Room:
    """Of all visitors of one runs folder."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._changing = threading.RLock()
        self._coming_bytes: Counter[str] = Counter()
        self._coming_uploads: Counter[str] = Counter()
        self._coming_temp = 0.0

    @contextlib.contextmanager
    def holding(self, size: float, *, up_to: float = 0) -> Iterator[float]:
        """Within it, so many bytes may be written for whoever asks as it gives, as of `hold`. LimitError where their
        files leave no room."""
        visitor = self._workspace.visitor
        held = self.hold(visitor, size, up_to=up_to)
        try:
            yield held
        finally:
            self.release(visitor, held)

    def given(self, size: float, write: Callable[[float | None], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The reply of what writes at most as many bytes as it is given, and replies how many it "takes": that many are
        held meanwhile.

        size: that it is given first. Where it takes more, it writes nothing and is asked again; None is no limit.
        """
        if self._workspace.limits.files_mb_per_visitor is None:
            return write(None)
        while True:
            with self.holding(0, up_to=size) as held:
                reply = write(held)
            if reply["takes"] <= held or held < size:
                return reply
            size = reply["takes"]

    def hold(self, visitor: Visitor, size: float, *, up_to: float = 0) -> float:
        """Hold room for so many more bytes until `release`; returns how many, which are more where `up_to` is and that
        much is left. LimitError where the visitor's files leave no room."""
        with self._changing:
            held = min(max(size, up_to), self._required_bytes(visitor, size))
            self._coming_bytes[visitor.id] += held
        return held

    def _required_bytes(self, visitor: Visitor, size: float) -> float:
        """How much more may be kept for a visitor. LimitError where it is less than so much."""
        left, most_mb = self.left_bytes(visitor), self._workspace.limits.files_mb_per_visitor
        if size > left:
            raise LimitError(
                f"This server keeps at most {most_mb:,} MB of a visitor's files: uploads, the data and journals of "
                f"their runs, and result files. {self._expiry}{self._expiry_of_runs}"
            )
        return left

    def left_bytes(self, visitor: Visitor) -> float:
        """How much more may be kept for a visitor."""
        most_mb = self._workspace.limits.files_mb_per_visitor
        if most_mb is None:
            return math.inf
        return most_mb * 10**6 - self.used_bytes(visitor) - sum(self._coming_bytes[name] for name in visitor.ids)

    def hold_upload(self, visitor: Visitor, size: int, *, up_to: float = 0, files: int = 0) -> float:
        """The same of uploads, whose number is bounded too, and the bytes of all visitors' together. Those of others
        make room last, for what is not refused."""
        limits, temp = self._workspace.limits, self._workspace.temp
        most = limits.uploads_per_visitor
        with self._changing:
            if most is not None and files:
                kept = temp.usage(visitor).files + sum(self._coming_uploads[name] for name in visitor.ids)
                if kept + files > most:
                    raise LimitError(f"This server keeps at most {most:,} uploads of a visitor. {self._expiry}")
            self._required_bytes(visitor, size)
            left = temp.require_room(limits.temp_mb, self._coming_temp + size)
            held = self.hold(visitor, size, up_to=min(up_to, size + left))
            self._coming_uploads[visitor.id] += files
            self._coming_temp += held
        return held

    def release(self, visitor: Visitor, size: float) -> None:
        """What was held has been written or given up."""
        with self._changing:
            self._coming_bytes[visitor.id] -= size
            self._coming_bytes = +self._coming_bytes

    def release_upload(self, visitor: Visitor, size: float, files: int = 0) -> None:
        """The same of uploads."""
        with self._changing:
            self.release(visitor, size)
            self._coming_uploads[visitor.id] -= files
            self._coming_uploads = +self._coming_uploads
            self._coming_temp -= size

    def used_bytes(self, visitor: Visitor) -> int:
        """Of all files of a visitor that are here."""
        from rankviz.catalog import own_studies

        home, temp, store = self._workspace.home, self._workspace.temp, self._workspace.store
        folders = [(data_folder(home, owner), home_of(home, owner) / own_studies.FOLDER) for owner in visitor.ids]
        kept = sum(bytes_in(folder) for each in folders for folder in each)
        return temp.usage(visitor).size_bytes + kept + store.journal_bytes(visitor.ids)

    @property
    def _expiry(self) -> str:
        hours = units.counted(self._workspace.settings.temp_hours, "hour")
        return f"Delete your uploads on Runs; those that are left are removed after {hours}."

    @property
    def _expiry_of_runs(self) -> str:
        days = self._workspace.limits.days_kept
        after = "" if days is None else f", or until {units.counted(days, 'day')} after their end"
        return f" Runs stay until you delete them{after}."
