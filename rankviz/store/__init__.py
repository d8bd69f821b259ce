"""Runs and probes on disk. `journal` has the files of one run, `runs` the folder of all runs with their records;
`transfer` exports and imports zips, `removal` deletes runs, `temp` has temporary files."""

from rankviz.store.runs import RunStore, recorded
from rankviz.store.transfer import ImportLimits, export_runs, read_export, summary_row, take_in

__all__ = [
    "ImportLimits",
    "RunStore",
    "export_runs",
    "read_export",
    "recorded",
    "summary_row",
    "take_in",
]
