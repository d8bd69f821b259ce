"""Runs and probes on disk: HOME/runs/<run_id>/{request.json, events.jsonl, worker.log, adapter/ or config.json}.

`journal` is one run's file of events, `memory` what is known of all runs, `records` reads the folder of them, `runs`
writes there, `archive` takes them out as a zip, `imports` brings such a zip in; `temp` is for files that are written
for a while. HOME/runs/.changed (`memory.changes`) only says where to look; it may go at any time. HOME/runs/.publishing
(`together`) is there while runs come or go, and where an app was killed meanwhile.
What stands here is POSIX (Linux, macOS): one appending write a line, rename to publish.
"""

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
