"""Runs and probes on disk. `journal` is one run's files, `index` the records of all, `runs` the folder of them,
`transfer` brings them out and in as a zip, `removal` deletes them; `temp` has temporary files."""

from rankviz.store.runs import RunStore, recorded
from rankviz.store.transfer import ImportLimits, export_runs, import_runs, read_export, summary_row, take_in

__all__ = [
    "ImportLimits",
    "RunStore",
    "export_runs",
    "import_runs",
    "read_export",
    "recorded",
    "summary_row",
    "take_in",
]
