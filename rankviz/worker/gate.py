"""What a worker checks again before it loads anything: a stored request may have been imported, or written by hand."""

from pathlib import Path

from rankviz.core.probe.request import ProbeQuestion, ProbeRequest
from rankviz.core.runs.request import RunRequest
from rankviz.errors import UnknownModelError
from rankviz.paths import ASSETS
from rankviz.references import Reference, References
from rankviz.settings import Settings, read
from rankviz.store import RunStore
from rankviz.visitor import Visitor


def references(store: RunStore, run_id: str) -> References:
    """What the owner of a run may name. A run that has an owner was made on a shared page, whatever holds now."""
    owner = store.ownership(run_id).owner
    shared = bool(owner) or read(Settings, home=store.home).shared
    return References(store.home, ASSETS, stranger=lambda: Visitor(owner) if shared else None)


def admit(store: RunStore, request: RunRequest) -> tuple[Reference, Reference]:
    """The base and the data of a run, which may be trained with them; a UserError says why not."""
    request.validate()
    known = references(store, request.run_id)
    base, data = known.model(request.base), known.data(request.data)
    refuse_shadowed(base)
    return base, data


def admit_probe(request: ProbeRequest) -> None:
    """A UserError where no probe could have asked for this."""
    ProbeQuestion(
        model_id=request.model_id,
        lora=request.lora,
        training=request.training,
        depths=request.depths,
        timed_steps=request.timed_steps,
        time_limit_seconds=request.time_limit_seconds,
        memory_limit_bytes=request.memory_limit_bytes,
    ).validate()


def refuse_shadowed(base: Reference) -> None:
    """Loaders prefer a folder under the working directory, the runs folder, to the repository of the same name."""
    if base.kind == "hub" and Path(base.text).exists():
        raise UnknownModelError(base.text, reason="and a folder of the runs folder has this name")
