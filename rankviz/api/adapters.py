"""Trained adapters: which rank they really use, and the same adapter at a lower rank."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rankviz.api.workspace import Workspace
from rankviz.errors import BadAdapterError, NotYoursError, RunNotFoundError
from rankviz.paths import named_in

if TYPE_CHECKING:
    from rankviz.core.runs.record import RunRecord
    from rankviz.core.spectrum import Ranks, Spectrum, Truncation
    from rankviz.store import RunStore
    from rankviz.trained.read import Outline
    from rankviz.trained.resize import ResizePlan

REMEMBERED = 4
"""Adapters whose spectrum is kept."""
MANY_MODULES = 2000
"""Of an adapter; what is said of fewer takes a few hundredths of a second."""
SAMPLE = "sample"
"""Names the adapter that RankViz ships. A folder of this name is ./sample."""
SUGGESTED_ENERGY = 0.99
Ref = str | Path | Sequence[str]
"""A folder, a zip, a .safetensors with its config beside it, a run's id, a Hub id or SAMPLE; or the paths of its
files."""


class Source(NamedTuple):
    paths: list[Path]
    name: str = ""
    """Of its spectrum, where it is not that of its file."""
    run: RunRecord | None = None
    """The run that trained the adapter, where RankViz did."""
    hub_id: str = ""
    """Where it comes from the Hub, into a folder that is named after what is in it."""


@dataclass(frozen=True)
class Opened:
    outline: Outline
    spectrum: Spectrum
    source: Source
    truncations: dict[str | None, Sequence[tuple[Truncation, ResizePlan]]] = field(default_factory=dict)
    """By dtype; a page asks for them at each change of the rank."""


class Adapters:
    """What a trained adapter needs."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def spectrum(self, adapter: Ref) -> Spectrum:
        """The singular values of a trained adapter's updates, and what they say."""
        return self._opened(adapter).spectrum

    def looking(self, spectrum: Spectrum) -> AbstractContextManager[None]:
        """Context for drawing or planning each module. Where these are many, visitors stand in the line for
        what is read; BusyError where there is no place in it. Nothing else of Adapters is called within."""
        return self._workspace.children.turn() if len(spectrum.layers) > MANY_MODULES else nullcontext()

    def trained_by(self, adapter: Ref) -> RunRecord | None:
        """The run that trained it; None where RankViz did not."""
        return self._opened(adapter).source.run

    def sample(self) -> RunRecord:
        """The run that trained the adapter that RankViz ships."""
        return self._sample_store.all()[0]

    @cached_property
    def _sample_store(self) -> RunStore:
        from rankviz.store import RunStore

        return RunStore(self._workspace.assets / "sample_adapter")

    def truncated_losses(self, adapter: Ref) -> Mapping[int, float]:
        """Held-out loss by rank where it was measured after truncation, nats per token: of the sample alone."""
        if adapter != SAMPLE:
            return {}
        measured = json.loads((self._workspace.assets / "sample_adapter" / "truncated.json").read_text())
        return {int(r): loss for r, loss in measured["losses"].items()}

    def proposed_rank(self, adapter: Ref) -> int:
        """The rank to truncate an adapter to, unless another is chosen: it keeps 99 % of the energy, or after few
        steps it is half the trained rank."""
        from rankviz.core.spectrum import proposed_rank

        return proposed_rank(self.spectrum(adapter))

    def suggested_ranks(self, adapter: Ref, energy: float = SUGGESTED_ENERGY) -> Ranks | None:
        """Suggest ranks for a new training: each module's for this share of its energy, in PEFT's settings; None after
        few steps."""
        from rankviz.core.spectrum import suggested

        spectrum = self.spectrum(adapter)
        with self.looking(spectrum):
            return suggested(spectrum, energy)

    def truncations(self, adapter: Ref, *, dtype: str | None = None) -> Sequence[tuple[Truncation, ResizePlan]]:
        """Truncations worth a look, each with its result; none for an adapter that cannot be resized."""
        from rankviz.trained.resize import planned_truncations

        opened = self._opened(adapter)
        if dtype not in opened.truncations:
            with self.looking(opened.spectrum):
                opened.truncations[dtype] = planned_truncations(opened.outline, opened.spectrum, dtype)
        return opened.truncations[dtype]

    def plan_resize(
        self, adapter: Ref, *, r: int | None = None, energy: float | None = None, dtype: str | None = None
    ) -> ResizePlan:
        """The result of a resize before it is made: ranks, bytes and energy kept.

        Args:
            adapter: What to resize.
            r: One rank for all modules, lower than the adapter's.
            energy: Or the share of each module's energy to keep, such as 0.99.
            dtype: fp32, bf16 or fp16; unchanged by default.
        """
        from rankviz.trained.resize import plan

        opened = self._opened(adapter)
        with self.looking(opened.spectrum):
            return plan(opened.outline, opened.spectrum, r=r, energy=energy, dtype=dtype)

    def resize(self, adapter: Ref, planned: ResizePlan, target: Path) -> Path:
        """Write the resized adapter into a new folder, as PEFT loads it."""
        self._write(self._opened(adapter, files=True).source, Path(target).absolute(), planned, as_zip=False)
        return Path(target)

    def zip_resized(self, adapter: Ref, planned: ResizePlan) -> Path:
        """The resized adapter as a zip to download."""
        opened = self._opened(adapter, files=True)
        r = max(planned.by_module.values())
        return self._zipped(opened.source, f"{opened.spectrum.name}-r{r}.zip", planned)

    def _zipped(self, source: Source, name: str, planned: ResizePlan | None = None) -> Path:
        return self._workspace.download(name, lambda target: self._write(source, target, planned))

    def _write(self, source: Source, target: Path, planned: ResizePlan | None = None, *, as_zip: bool = True) -> Path:
        """The adapter in a new file or folder: resized, or as it is where there is no plan."""
        from rankviz.trained.resize import as_json

        request = {
            "paths": [*map(str, source.paths)],
            "target": str(target),
            "max_bytes": self._max_bytes,
            "plan": as_json(planned) if planned else None,
            "as_zip": as_zip,
        }
        children = self._workspace.children
        with children.turn():
            children.ask("resize", request, about=target.name, error=BadAdapterError)
        return target

    def is_here(self, run_id: str, r: int) -> bool:
        """Tell whether this machine has the files that `zip_of_rank` needs; never those of a run that RankViz ships."""
        try:
            record = self._own_run(run_id)
            return (self._saved(record, r) or self._run_adapter(record)).is_dir()
        except (RunNotFoundError, NotYoursError, BadAdapterError):
            return False

    def zip_of_rank(self, run_id: str, r: int) -> Path:
        """The adapter of a run at rank r, as a zip to download.

        It is the one that the run saved at this rank, as trained or after recovery training, or else one truncated now.
        """
        record = self._own_run(run_id)
        folder = self._saved(record, r)
        if folder is None:
            return self.zip_resized(run_id, self.plan_resize(run_id, r=r))
        if not folder.is_dir():
            raise BadAdapterError(f"Run {run_id!r} has no adapter of r = {r} here: it was imported without it.")
        return self._zipped(Source([folder]), f"adapter-r{r}.zip")

    def _saved(self, record: RunRecord, r: int) -> Path | None:
        """The folder in which the run saved an adapter of this rank; None where it saved none of it."""
        if r == record.request.r:
            return self._run_adapter(record)
        path = next((cut.path for cut in record.cuts if cut.r == r), "")
        return self._workspace.store.path(record.run_id, path) if path else None

    def runs(self) -> Sequence[RunRecord]:
        """The finished runs of this machine whose adapter is here, newest first."""
        return [
            record
            for record in reversed(self._workspace.rights.own(self._workspace.store.all()))
            if record.adapter_path and self._has_adapter(record)
        ]

    def _has_adapter(self, record: RunRecord) -> bool:
        try:
            return (self._run_adapter(record) / "adapter_config.json").is_file()
        except BadAdapterError:
            return False

    def _own_run(self, run_id: str) -> RunRecord:
        """An adapter is read by who trained it: to look at a run is not to have its weights."""
        record = self._workspace.store.get(run_id)
        self._workspace.rights.require(run_id)
        return record

    def _run_adapter(self, record: RunRecord, store: RunStore | None = None) -> Path:
        return (store or self._workspace.store).path(record.run_id, record.adapter_path or "adapter")

    @property
    def _max_bytes(self) -> int:
        return self._workspace.limits.adapter_mb * 10**6

    def _opened(self, ref: Ref, *, files: bool = False) -> Opened:
        """files: whether its files are needed, not only what was read of them."""
        source = self._source(ref, self._max_bytes, files=files)
        known = self._from_hub(source.hub_id)
        if known and known.source == source:
            return known
        key = (source.name, *(_stamp(path) for path in source.paths))
        if key in self._adapters:
            return self._adapters[key]
        children = self._workspace.children
        with children.turn(repr(key)):
            if key not in self._adapters:  # while this one waited
                self._adapters[key] = self._read(source, repr(key))
                while len(self._adapters) > REMEMBERED:
                    self._adapters.popitem(last=False)
            return self._adapters[key]

    def _read(self, source: Source, key: str) -> Opened:
        from rankviz.core.spectrum import Truncation
        from rankviz.trained.resize import outline_from, plan_from, spectrum_from

        request = {
            "paths": [*map(str, source.paths)],
            "max_bytes": self._max_bytes,
            "max_values": self._workspace.limits.adapter_values,
        }
        about = source.name or source.paths[0].name
        reply = self._workspace.children.ask("adapter", request, about=about, error=BadAdapterError, key=key)
        trained = {"name": source.name, "training_steps": source.run.steps_done or None} if source.run else {}
        values = spectrum_from(reply["spectrum"] | trained)
        planned = [(Truncation(*each), plan_from(result)) for each, result in reply["truncations"]]
        known = {} if values.after_few_steps else {None: planned}  # the child does not know after how many steps
        return Opened(outline_from(reply["outline"]), values, source, known)

    @cached_property
    def _adapters(self) -> OrderedDict[tuple, Opened]:
        return OrderedDict()

    def _from_hub(self, hub_id: str) -> Opened | None:
        """The one of this id that was opened last."""
        opened = reversed(list(self._adapters.values()))
        return next((each for each in opened if hub_id and each.source.hub_id == hub_id), None)

    def _source(self, ref: Ref, max_bytes: int, *, files: bool) -> Source:
        if isinstance(ref, Path):
            ref = str(ref)
        ref = ref.strip() if isinstance(ref, str) else list(ref)
        if not ref:
            raise BadAdapterError("No adapter given: give its files, a run's id or a Hub id.")
        if isinstance(ref, list):
            return Source([self._workspace.references.file(path) for path in ref])
        if ref == SAMPLE:
            return Source([self._run_adapter(self.sample(), self._sample_store)], SAMPLE, self.sample())
        if (hub_id := named_in(ref)) != ref:
            ref = hub_id
        elif path := self._workspace.references.path(ref, "The adapter"):
            return Source([path])
        try:
            record = self._own_run(ref)
        except RunNotFoundError:
            from rankviz import hub

            known = None if files else self._from_hub(ref)
            read = known.source.paths[0] if known else None
            found = hub.find_adapter(ref, door=self._workspace.hub, max_bytes=max_bytes, read=read)
            return Source([found], hub_id=ref)
        folder = self._run_adapter(record)
        if not folder.is_dir():
            raise BadAdapterError(
                f"Run {ref!r} has no adapter here: no adapter was saved, or the run was imported without it."
            )
        return Source([folder], ref, record)


def _stamp(path: Path) -> tuple:
    """Changes when a file or what is in a folder does."""
    files = sorted(path.glob("adapter_*")) if path.is_dir() else [path] if path.exists() else []
    return (str(path.resolve()), *((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files))
