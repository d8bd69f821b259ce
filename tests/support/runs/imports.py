"""Import of an exported zip in this process, which the app does in a child."""

from pathlib import Path

from rankviz.store import ImportLimits, RunStore, read_export, take_in
from rankviz.store.ownership import NO_ONES, Ownership

UNLIMITED = ImportLimits()


def import_runs(
    store: RunStore, source: Path, ownership: Ownership = NO_ONES, limits: ImportLimits = UNLIMITED
) -> list[str]:
    """All runs of the zip, or none; their ids."""
    return take_in(store, read_export(Path(source), (), limits), (), ownership)
