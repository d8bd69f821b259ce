"""What a worker checks again before it loads anything: a stored request may have been imported, or written by hand."""

from pathlib import Path

from rankviz.core.probe.request import ProbeRequest
from rankviz.core.runs.limits import check_run, check_step, most_download_bytes
from rankviz.core.runs.request import RunRequest
from rankviz.errors import UnknownModelError
from rankviz.references import Reference, References
from rankviz.settings import Limits, Settings, read
from rankviz.store import RunStore


def admit(store: RunStore, request: RunRequest) -> tuple[Reference, Reference]:
    """The base and the data of a run, which may be trained with them; a UserError says why not.

    A run that has an owner was made on a shared page, whatever holds now; one that has none is the host's.
    """
    request.validate()
    owner = store.ownership(request.run_id).owner
    check_run(request, _limits(store, owner))
    known = References.of_runs(store.home, owner)
    base, data = known.base(request.base), known.data(request.data)
    refuse_shadowed(base)
    return base, data


def most_to_fetch(store: RunStore, run_id: str) -> int | None:
    """Bytes that may be fetched of the base of a run; None is no limit."""
    return most_download_bytes(_limits(store, store.ownership(run_id).owner))


def admit_probe(store: RunStore, request: ProbeRequest) -> None:
    """A UserError where a probe is none that may run here. Its model is the config that lies beside it."""
    request.validate()
    check_step(request.lora.r, request.training, _limits(store, store.ownership(request.run_id).owner))


def _limits(store: RunStore, owner: str) -> Limits:
    shared = {"shared": True} if owner else {}
    return read(Settings, home=store.home, **shared).limits


def refuse_shadowed(base: Reference) -> None:
    """Loaders prefer a folder under the working directory, the runs folder, to the repository of the same name."""
    if base.kind == "hub" and Path(base.text).exists():
        raise UnknownModelError(base.text, reason="and a folder of the runs folder has this name")
