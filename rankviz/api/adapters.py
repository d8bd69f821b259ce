"""Trained adapters: which rank they really use, and the same adapter at a lower rank."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rankviz.api.workspace import Workspace
from rankviz.errors import BadAdapterError, RunNotFoundError

if TYPE_CHECKING:
    from rankviz.core.runs.record import RunRecord
    from rankviz.core.spectrum.rank_pattern import Ranks
    from rankviz.core.spectrum.spectrum import Spectrum
    from rankviz.trained.read import Adapter
    from rankviz.trained.resize import ResizePlan

REMEMBERED = 4
"""Adapters whose spectrum is kept."""
SUGGESTED_ENERGY = 0.99
Ref = str | Path | Sequence[str]
"""A folder, a zip, a .safetensors with its config beside it, a run's id or a Hub id; or the paths of both files."""


class Source(NamedTuple):
    paths: list[Path]
    run_id: str = ""
    """The run that the adapter belongs to, if any. Its spectrum is named by it."""
    steps: int | None = None
    """Optimizer steps of that run."""


class Opened(NamedTuple):
    adapter: Adapter
    spectrum: Spectrum


class Adapters:
    """What a trained adapter needs."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def spectrum(self, adapter: Ref) -> Spectrum:
        """The singular values of a trained adapter's updates, and what they say."""
        return self._opened(adapter).spectrum

    def proposed_rank(self, adapter: Ref) -> int:
        """The rank to truncate an adapter to, unless another is chosen: it keeps 99 % of the energy."""
        from rankviz.core.spectrum.rank_pattern import proposed_rank

        return proposed_rank(self.spectrum(adapter))

    def suggested_ranks(self, adapter: Ref, energy: float = SUGGESTED_ENERGY) -> Ranks:
        """For a new training: each module's rank for this share of its energy, in PEFT's settings."""
        from rankviz.core.spectrum.rank_pattern import suggested

        return suggested(self.spectrum(adapter), energy)

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
        return plan(opened.adapter, opened.spectrum, r=r, energy=energy, dtype=dtype)

    def resize(self, adapter: Ref, planned: ResizePlan, target: Path) -> Path:
        """Write the resized adapter into a new folder, as PEFT loads it."""
        from rankviz.trained.resize import resize

        return resize(self._opened(adapter).adapter, planned, Path(target))

    def zip_resized(self, adapter: Ref, planned: ResizePlan) -> Path:
        """The resized adapter as a zip, in its own temporary folder."""
        from rankviz.trained.resize import zipped

        source = self._opened(adapter).adapter
        r = max(planned.by_module.values())
        folder = Path(tempfile.mkdtemp(prefix="rankviz-"))
        return zipped(source, planned, folder / f"{source.name}-r{r}.zip")

    def zip_truncated(self, run_id: str, r: int) -> Path:
        """The adapter of a run truncated to rank r, as a zip in its own temporary folder.

        It is the one that a fast curve saved after recovery training, or else one truncated now.
        """
        from rankviz.trained.files import pack

        record = self._workspace.store.get(run_id)
        path = next((cut.path for cut in record.cuts if cut.r == r), "")
        if not path:
            return self.zip_resized(run_id, self.plan_resize(run_id, r=r))
        folder = self._workspace.store.run_dir(run_id) / path
        if not folder.is_dir():
            raise BadAdapterError(f"Run {run_id!r} has no adapter of r = {r} here: it was imported without it.")
        return pack(folder, Path(tempfile.mkdtemp(prefix="rankviz-")) / f"adapter-r{r}.zip")

    def runs(self) -> Sequence[RunRecord]:
        """The finished runs of this machine whose adapter is here, newest first."""
        return [
            record
            for record in reversed(self._workspace.store.all())
            if record.adapter_path and (self._run_adapter(record) / "adapter_config.json").is_file()
        ]

    def _run_adapter(self, record: RunRecord) -> Path:
        return self._workspace.store.run_dir(record.run_id) / (record.adapter_path or "adapter")

    def _opened(self, ref: Ref) -> Opened:
        from rankviz.trained.files import MAX_BYTES, SHARED_MAX_BYTES

        limit = SHARED_MAX_BYTES if self._workspace.shared else MAX_BYTES
        paths, run_id, steps = self._source(ref, limit)
        key = (run_id, *(_stamp(path) for path in paths))
        if key not in self._adapters:
            from rankviz.trained.read import read_adapter
            from rankviz.trained.spectrum import spectrum
            from rankviz.trained.steps import training_steps

            adapter = read_adapter(paths, max_bytes=limit)
            if steps is None:
                steps = training_steps(paths[0] if paths[0].is_dir() else paths[0].parent)
            values = replace(spectrum(adapter), steps=steps)
            self._adapters[key] = Opened(adapter, replace(values, name=run_id) if run_id else values)
            while len(self._adapters) > REMEMBERED:
                self._adapters.popitem(last=False)
        return self._adapters[key]

    @cached_property
    def _adapters(self) -> OrderedDict[tuple, Opened]:
        return OrderedDict()

    def _source(self, ref: Ref, max_bytes: int) -> Source:
        if isinstance(ref, Path):
            ref = str(ref)
        if not isinstance(ref, str):
            for path in ref:
                self._workspace.refuse_private_path(path)
            return Source([Path(path) for path in ref])
        ref = ref.strip()
        if not ref:
            raise BadAdapterError("No adapter given: enter a folder, a zip, a run's id or a Hub id.")
        path = Path(ref).expanduser()
        self._workspace.refuse_private_path(str(path))
        if path.exists():
            return Source([path])
        try:
            record = self._workspace.store.get(ref)
        except RunNotFoundError:
            from rankviz import hub

            return Source([hub.find_adapter(ref, max_bytes=max_bytes)])
        folder = self._run_adapter(record)
        if not folder.is_dir():
            raise BadAdapterError(
                f"Run {ref!r} has no adapter here: no adapter was saved, or the run was imported without it."
            )
        return Source([folder], run_id=ref, steps=record.steps_done or None)


def _stamp(path: Path) -> tuple:
    """Changes when a file or what is in a folder does."""
    files = sorted(path.glob("adapter_*")) if path.is_dir() else [path]
    return (str(path.resolve()), *((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files))
