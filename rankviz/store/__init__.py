"""Runs and probes on disk. `journal` has the files of one run, `runs` the folder of all runs with their records;
`transfer` exports and imports zips, `removal` deletes runs, `temp` has temporary files."""

# ruff: noqa: F401 - what this module offers

from rankviz.store.runs import RunStore, recorded
from rankviz.store.transfer import ImportLimits, export_runs, publish_imported, read_export, summary_row
