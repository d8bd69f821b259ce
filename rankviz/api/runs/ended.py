"""What has ended on one machine, found by when that was: a page asks for each run of a sweep what ended before it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, islice
from operator import is_
from typing import TYPE_CHECKING, TypeAlias

from rankviz.api.runs.measured import Known
from rankviz.core.cost.pace import Paces, Timing, Workload, paces
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import began_at

if TYPE_CHECKING:
    from rankviz.core.cost.assumptions import Assumptions
    from rankviz.core.cost.pace import Others
    from rankviz.core.probe import ProbeRecord

MOST_RUNS = 200
"""The latest finished runs and probes that are looked at."""
MOST_PACES = 1000
"""A kilobyte each."""
Record: TypeAlias = "RunRecord | ProbeRecord"


class EndedHere:
    """What had ended on one machine at one time of the queue.

    Args:
        records: What has ended, in the order of the store.
        timing_of: What one took; None where that is not known.
        earlier: The same of an earlier time. What it found stays true as long as nothing ends but after all others.
    """

    def __init__(
        self,
        records: Sequence[Record],
        timing_of: Callable[[Record], Timing | None],
        earlier: EndedHere | None = None,
    ):
        self._records, self._timing_of = records, timing_of
        self._by_end = sorted(reversed(records), key=lambda record: record.ended_at)
        self._ends = [record.ended_at for record in self._by_end]
        self._runs = [record for record in self._by_end if isinstance(record, RunRecord)]
        self._run_ends = [run.ended_at for run in self._runs]
        began = [math.inf if (at := began_at(run)) is None else at for run in reversed(self._runs)]
        self._first_begin = list(accumulate(began, min))[::-1]
        """Of each run and those that ended later, when the first began."""
        goes_on = earlier is not None and earlier._is_before(self)
        self._paces = earlier._paces if goes_on else Known(MOST_PACES)

    def _is_before(self, later: EndedHere) -> bool:
        return len(self._by_end) <= len(later._by_end) and all(map(is_, self._by_end, later._by_end))

    def paces(
        self, workload: Workload, assume: Assumptions, before: float | None = None, others: Others | None = None
    ) -> Paces:
        """What they say of the time of such a run (core.cost.pace). before: only what had ended by then, unix seconds.
        others: as core.cost.pace.paces takes it."""
        if before is None:
            return paces(self._latest(len(self._ends)), workload, assume, others)
        end = bisect_right(self._ends, before)
        return self._paces.of((end, workload, others), lambda: paces(self._latest(end), workload, assume, others))

    def _latest(self, end: int) -> Sequence[Timing]:
        """Timings of the latest MOST_RUNS of the first `end`, the oldest first."""
        timings = map(self._timing_of, self._by_end[end - 1 :: -1] if end else ())
        return tuple(islice(filter(None, timings), MOST_RUNS))[::-1]

    @cached_property
    def completed(self) -> Sequence[RunRecord]:
        """The latest MOST_RUNS completed runs, the oldest sweep first."""
        return [run for run in self._records if isinstance(run, RunRecord) and run.completed][-MOST_RUNS:]

    def at_work(self, since: float, at: float) -> Iterator[RunRecord]:
        """The runs that had begun before `at` and ended after `since`, both unix seconds."""
        for place in range(bisect_right(self._run_ends, since), len(self._runs)):
            if self._first_begin[place] >= at:
                return
            if (began := began_at(self._runs[place])) is not None and began < at:
                yield self._runs[place]
