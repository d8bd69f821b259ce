"""What a run costs the page that has it: to read its journal, and to keep its record in memory."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from itertools import chain

from rankviz.core.runs.events import RunEvent
from rankviz.core.runs.record import RunRecord
from rankviz.store.memory.long_lists import LongList


def values_in(event: RunEvent) -> int:
    """How many values are made of its line when it is read: numbers, texts and names, lists and objects. A million of
    them take half a second at most."""
    return 1 + sum(map(values_in, _parts(event)))


def bytes_kept(record: RunRecord) -> int:
    """Of an ended run, in memory, once its long lists and steps are left on the disk (memory/). What several records
    share counts for each. Of a list on the disk its name, which all runs share, counts for none, and so does its line,
    which all lists of an event share."""
    return sys.getsizeof(record) + sum(map(bytes_kept, _parts(record)))


def _parts(value: object) -> Iterable:
    if isinstance(value, Mapping):
        return chain.from_iterable(value.items())
    if isinstance(value, tuple):
        return value
    if not is_dataclass(value):
        return ()
    if isinstance(value, LongList):
        return (value.count, value.matches)
    return (getattr(value, field.name) for field in fields(value))
