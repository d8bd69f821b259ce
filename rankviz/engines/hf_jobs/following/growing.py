"""A journal that is brought here in pieces: whole lines on the disk, what follows in memory, in linear time."""

import re
import time
from functools import cached_property
from heapq import heappop, heappush
from io import BytesIO
from pathlib import Path, PurePosixPath

from rankviz.core.runs.events import AdapterCut, AdapterSaved, ProbeCompleted, RunCompleted, RunFailed
from rankviz.engines.bounds import Bounds
from rankviz.store.journal import MAX_LINE_BYTES, line_of, parse_event, whole_lines

LAST = (RunCompleted, RunFailed, ProbeCompleted)
LOUD = re.compile(rb'"(?:RunCompleted|RunFailed|ProbeCompleted|AdapterSaved|AdapterCut)"')
"""What a line has that matters here; others are not parsed."""
MAX_LATER_BYTES = 16 * 10**6
PIECE_BYTES = 200
"""That a piece takes beside its text."""
GAP_BYTES = 2**16
"""Of a line that stands where something never came: readers take no line of any length."""
TOO_LONG = "Its journal is longer than this server takes: {:,} lines, {:,.0f} MB, or one line of {:,.0f} MB."


class Growing:
    """One journal."""

    def __init__(self, path: Path, bounds: Bounds):
        self.path = path
        self.later: list[tuple[int, bytes]] = []
        """A heap of what came before what stands before it."""
        self.last = b""
        """The line that ends the run, while it is held back."""
        self._bounds = bounds
        self._tail = bytearray()
        self._later_bytes = 0

    @property
    def ended(self) -> bool:
        return self._state.ended

    @property
    def whole_size(self) -> int:
        """Of the lines that are here."""
        on_disk = self.path.stat().st_size if self.path.exists() else 0
        return on_disk + len(self.last)

    @property
    def size(self) -> int:
        return self.whole_size + len(self._tail)

    def names(self, file: str) -> bool:
        """Whether a file of the run, by its path in it, is of an adapter that was named."""
        return any(str(parent) in self._state.folders for parent in PurePosixPath(file).parents)

    def put(self, offset: int, data: bytes) -> None:
        if self.ended or not data:
            return
        if offset + len(data) > self._bounds.journal_bytes:
            self.fail(self._too_long)
        elif offset <= self.size:
            self._add(data[self.size - offset :])
            self._add_later()
        elif self._later_bytes + len(data) + PIECE_BYTES <= MAX_LATER_BYTES:  # else the bucket brings it
            heappush(self.later, (offset, data))
            self._later_bytes += len(data) + PIECE_BYTES

    def bridge(self) -> None:
        """What is missing does not come any more: lines that are no events take its place."""
        while self.later:
            missing = self.later[0][0] - self.size
            while missing > 0 and not self.ended:
                line = b" " * (min(missing, GAP_BYTES) - 1) + b"\n"
                self._add(line)
                missing -= len(line)
            self._add_later()

    def release(self) -> None:
        self._write(self.last)
        self.last = b""

    def fail(self, why: str) -> None:
        """The run ends here, whatever else there is of it."""
        self._end(b"")
        self._write(line_of(RunFailed(time=time.time(), error=why)))

    @cached_property
    def _state(self) -> "_State":
        """Of what is here. An earlier process may have brought some."""
        state = _State()
        if self.path.exists():
            with self.path.open("rb") as file:
                for _, line in whole_lines(file):
                    state.see(line)
        return state

    @property
    def _too_long(self) -> str:
        bounds = self._bounds
        return TOO_LONG.format(bounds.journal_lines, bounds.journal_bytes / 1e6, MAX_LINE_BYTES / 1e6)

    def _add_later(self) -> None:
        while self.later and self.later[0][0] <= self.size:
            at, data = heappop(self.later)
            self._later_bytes -= len(data) + PIECE_BYTES
            self._add(data[self.size - at :])

    def _add(self, data: bytes) -> None:
        self._tail += data
        if b"\n" in data:
            whole, _, rest = self._tail.rpartition(b"\n")
            self._tail = rest
            self._add_lines(whole + b"\n")
        if len(self._tail) > MAX_LINE_BYTES:
            self.fail(self._too_long)

    def _add_lines(self, data: bytes) -> None:
        size, is_too_long = 0, False
        for line in BytesIO(data):
            is_too_long = len(line) > MAX_LINE_BYTES or self._state.lines >= self._bounds.journal_lines
            if is_too_long:
                break
            self._state.see(line)
            if self.ended:
                self._write(data[:size])
                self._end(line)
                return
            size += len(line)
        self._write(data[:size])
        if is_too_long:
            self.fail(self._too_long)

    def _end(self, last: bytes) -> None:
        self.last, self._state.ended = last, True
        self._tail.clear()
        self.later.clear()
        self._later_bytes = 0

    def _write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


class _State:
    """What the lines of a journal so far say."""

    def __init__(self) -> None:
        self.lines = 0
        self.ended = False
        self.folders: set[str] = set()
        """Of adapters."""

    def see(self, line: bytes) -> None:
        self.lines += 1
        event = parse_event(line) if LOUD.search(line) else None
        self.ended = self.ended or isinstance(event, LAST)
        if isinstance(event, AdapterSaved | AdapterCut) and event.path:
            self.folders.add(str(PurePosixPath(event.path)))
