"""How many visitors do at once what is heavy, and where: reading files, asking the Hub, starting and changing runs.

On a shared page a visitor has one place of each kind at a time, and a few more requests of theirs may wait. Whoever has
a place or waits keeps a thread of the page, so all lines together are shorter than the threads are many.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz.children import ASKING, READING, Bounds, Children, Work
from rankviz.fair_line import MAX_OF_A_VISITOR, FairLine
from rankviz.hub.door import Copies, HubDoor, open_door

if TYPE_CHECKING:
    from rankviz.settings import Limits
    from rankviz.store.temp import TempHome

NewFolder = Callable[[], AbstractContextManager[Path]]
"""Gives a folder for what a process writes."""
PUBLISHING = Work(
    "publishes",
    "Publishing",
    "publishes at most {at_once} runs or sweeps at once, and is busy with others",
    "try again later, or publish less at once",
)
"""How errors call what the senders do."""
LAYING_OUT = Work(
    busy="lays out at most {at_once} at once of models that are not in its catalogue, and is busy with others"
)
READING_WAITING, LAYOUTS_WAITING = 6, 2
"""Most requests that wait in each line. A layout takes seconds, reading up to a minute."""
OPERATIONS = 5
"""That start runs at once, and the same of those that change some. What is heavy in them has places of its own."""
OPERATIONS_WAITING = 4
OPERATION_SECONDS = 60.0
"""The longest wait for one."""


def reading(limits: Limits, new_folder: NewFolder, *, shared: bool) -> Children:
    """The processes that read adapters, data files and imports. Whoever compares a large sweep stands in the same
    line."""
    return _reading(limits, new_folder, READING, READING_WAITING, shared=shared)


def layouts(limits: Limits, new_folder: NewFolder, *, shared: bool) -> Children:
    """The processes that lay out models, in a line of their own: it takes 200 bytes to keep one busy, and that is in
    the way of nobody who brings runs, data or adapters."""
    return _reading(limits, new_folder, LAYING_OUT, LAYOUTS_WAITING, shared=shared)


def _reading(limits: Limits, new_folder: NewFolder, work: Work, waiting: int, *, shared: bool) -> Children:
    at_once = limits.introspections
    bounds = Bounds(seconds=limits.child_seconds, memory_bytes=limits.child_memory_mb * 10**6)
    line = FairLine(
        at_once,
        busy=work.is_busy(at_once),
        seconds=bounds.seconds,
        each=_each(shared),
        waiting=waiting,
        of_a_visitor=MAX_OF_A_VISITOR if shared else None,
    )
    return Children(bounds, folder=new_folder, work=work, line=line)


def door(limits: Limits, temp: TempHome, new_folder: NewFolder, *, shared: bool) -> HubDoor:
    """To the Hub. On a shared page its adapters are kept among the uploads, counted and removed like them."""
    bounds = Bounds(
        seconds=limits.download_seconds,
        memory_bytes=limits.child_memory_mb * 10**6,
        file_bytes=limits.adapter_mb * 10**6,
    )

    copies = Copies(temp.copies, lambda: temp.require_room(limits.temp_mb), temp.drop_copies) if shared else None
    return open_door(limits.hub_lookups, each=_each(shared), download_bounds=bounds, folder=new_folder, copies=copies)


def publishing(limits: Limits, new_folder: NewFolder, *, shared: bool) -> Children:
    """The processes that publish runs."""
    bounds = Bounds(seconds=limits.send_seconds, memory_bytes=limits.child_memory_mb * 10**6)
    busy = PUBLISHING.is_busy(limits.sends)
    line = FairLine(limits.sends, busy=busy, seconds=bounds.seconds, each=_each(shared))
    return Children(bounds, folder=new_folder, work=PUBLISHING, line=line, variables=ASKING)


def operations(does: str, *, shared: bool) -> FairLine:
    """Before operations that start or change runs; on one's own machine all may wait."""
    busy = f"This server {does.format(at_once=OPERATIONS)}, and one for each visitor. Try again in a moment."
    most, mine = (OPERATIONS_WAITING, MAX_OF_A_VISITOR) if shared else (None, None)
    return FairLine(
        OPERATIONS, busy=busy, seconds=OPERATION_SECONDS, each=_each(shared), waiting=most, of_a_visitor=mine
    )


def _each(shared: bool) -> int | None:
    """Number of places that one visitor may have; None is all."""
    return 1 if shared else None
