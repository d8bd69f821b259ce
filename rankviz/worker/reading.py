"""Tasks of short-lived children that read content from outside, without torch: adapters, data files, exported runs, the
Hub. Each function imports only what it needs, and gets the entries of a request (`rankviz.worker.__main__`)."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from rankviz import units
from rankviz.errors import BadDataError, LimitError, UserError

Reply = Mapping[str, Any]
HUB_SETTINGS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # with it a process asks the Hub for one more file, and waits for that
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DOWNLOAD_TIMEOUT": "5",
}
"""Settings of huggingface_hub, which reads them when it is imported."""
HUB_FOLDERS = {"HF_XET_CACHE": "xet", "HF_ASSETS_CACHE": "assets"}
"""huggingface_hub's folders for parts of a download, placed in this child's temporary folder and deleted with it."""


def adapter(paths: Sequence[str], max_bytes: int, max_values: int, name: str, training_steps: int | None) -> Reply:
    """Return outline and spectrum of a trained adapter. name: title of the spectrum; empty for the file's name."""
    from rankviz.trained.read import read_adapter, spectrum

    read = read_adapter([*map(Path, paths)], max_bytes=max_bytes, max_values=max_values)
    made = spectrum(read, name=name, training_steps=training_steps)
    return {"outline": asdict(read.outline), "spectrum": asdict(made)}


def resize(
    paths: Sequence[str], max_bytes: int, max_values: int, target: str, wanted: Mapping[str, Any] | None, as_zip: bool
) -> Reply:
    """Write an adapter at lower ranks into a new folder or zip; return its plan and notes. wanted: arguments of
    rankviz.trained.plan.plan; without them, zip the adapter unchanged."""
    from rankviz.trained import read as trained
    from rankviz.trained.files import CONFIG, WEIGHTS
    from rankviz.trained.plan import plan

    reply: Reply = {}
    with TemporaryDirectory(prefix="rankviz-resize-") as space:
        place = Path(space) / Path(target).stem if as_zip else Path(target)
        if wanted is None:
            place = Path(paths[0])
        else:
            adapter = trained.read_adapter([*map(Path, paths)], max_bytes=max_bytes, max_values=max_values)
            planned = plan(adapter.outline, trained.spectrum(adapter), **wanted)
            trained.resize(adapter, planned, place)
            reply = {"plan": vars(planned), "notes": adapter.notes}
        if as_zip:
            with zipfile.ZipFile(target, "w") as archive:  # stored: weights don't compress
                for name in (WEIGHTS, CONFIG):
                    archive.write(place / name, f"{Path(target).stem}/{name}")
    return reply


def data(data: str, assets: str, columns: str, prompts: bool) -> Reply:
    """Return the first rows and the lengths of a data file; where its columns are unknown, their names."""
    from rankviz.api.data import measured

    try:
        return asdict(measured(data, Path(assets), columns, prompts=prompts))
    except BadDataError as error:
        if not error.columns:
            raise
        return {"unknown": error.columns, "message": str(error)}


def results(paths: Sequence[str]) -> Reply:
    """Return the content of each result file as text to store, or the reason why it cannot be read."""
    from rankviz.catalog import own_studies

    return {"results": [own_studies.read(Path(path))._asdict() for path in paths]}


def exported(homes: Sequence[str], run_ids: Sequence[str], target: str, for_visitor: bool) -> Reply:
    """Write runs, recorded ones too, into a zip that another RankViz can import. homes: runs folders, of which the
    first that has a run is used. for_visitor: without folders and texts that only the server's owner may see."""
    from rankviz import store
    from rankviz.settings import read
    from rankviz.shared import rights

    stores = [store.RunStore(Path(home)) for home in homes]
    shown = partial(rights.taken_along, settings=read(shared=True)) if for_visitor else lambda item: item
    store.export_runs(stores, run_ids, Path(target), shown)
    return {}


def imported(
    source: str,
    assets: str,
    limits: Sequence[Any],
    most_bytes: float | None,
    home: str,
    owners: Sequence[str],
    strangers: Any,
    most: int | None,
    most_in_total: int | None,
) -> Reply:
    """Import all runs of an exported zip into the runs folder, or none. Return their ids, their bytes, and why the
    runs folder refuses them (None where it does not); an error of the zip itself is raised."""
    from rankviz import store
    from rankviz.api.workspace import Workspace
    from rankviz.shared.quota import require_runs
    from rankviz.store import removal
    from rankviz.store.journal import Ownership, request_text

    shipped = store.recorded(Path(assets))
    runs = store.read_export(Path(source), shipped, store.ImportLimits(*limits))
    takes = sum(len(request_text(request).encode()) + len(journal) for request, journal in runs)
    try:
        if most_bytes is not None and takes > most_bytes:
            raise LimitError(
                f"These runs take {units.file_size(takes)}, and this server has {units.file_size(max(0, most_bytes))} "
                "left for files of yours. Export and delete some of yours first."
            )
        workspace = Workspace(Path(home))
        with workspace.writing(), workspace.store.admission():
            leaving = require_runs(workspace.store, owners, len(runs), most, most_in_total)
            run_ids = store.publish_imported(workspace.store, runs, shipped, Ownership(owners[0]), strangers)
            removal.delete_all(workspace.store, leaving)  # last: what is refused takes nobody's place
        return {"run_ids": run_ids, "takes": takes, "refused": None}
    except UserError as error:
        return {"run_ids": [], "takes": takes, "refused": {"error": type(error).__name__, "message": str(error)}}


def hub(what: str, **request: Any) -> Reply:
    """Return the Hub's facts on a model or an adapter, or fetch an adapter or data and return its path."""
    work = Path(os.environ.get("TMPDIR") or gettempdir())
    os.environ.update(HUB_SETTINGS | {name: str(work / part) for name, part in HUB_FOLDERS.items()})
    from rankviz.hub import reach, remote

    if what == "config":
        place, names = Path(request["folder"]), request["suggestions"]
        return {"path": str(remote.fetch_config(request["repo_id"], place, suggestions=names))}
    if what in ("adapter", "data"):
        return {"path": str((remote.fetch_data if what == "data" else remote.fetch_adapter)(**request, work=work))}
    return {"bytes": reach.weight_bytes_to_fetch(request["repo_id"], work)}
