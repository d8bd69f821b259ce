"""Trained adapters: singular values of their updates, ranks worth truncating to, and truncated adapters as files."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz import installed
from rankviz.api.workspace import Cache, Operations
from rankviz.core.quantity import brief
from rankviz.core.runs.fast_curve import fast_curve
from rankviz.core.runs.record import RunRecord
from rankviz.core.spectrum import Losses, Ranks, Spectrum, Truncation, truncations
from rankviz.errors import (
    BadAdapterError,
    BadDataError,
    InvalidSettingError,
    NotYoursError,
    RankVizError,
    RunNotFoundError,
    UserError,
)
from rankviz.paths import named_in
from rankviz.store import RunStore
from rankviz.trained.plan import Outline, ResizePlan, plan, received

if TYPE_CHECKING:
    from rankviz.api import Api

REMEMBERED = 4
"""Number of adapters whose spectrum is cached."""
MANY_MODULES = 2000
"""Number of modules above which drawing or planning waits in a line; fewer take a few hundredths of a second."""
MOST_CHARACTERS = 8000
"""Most characters of a prompt."""
NO_ADAPTER = "Run {!r} has no adapter here: no adapter was saved, or the run was imported without it."
SAMPLE = "sample"
"""Name of the adapter that RankViz ships. A folder of the same name can be given as ./sample."""
Ref = str | Path | Sequence[str]
"""Reference to an adapter: a folder, a zip, a .safetensors with its config beside it, a run's id, a Hub id, SAMPLE, or
the paths of the adapter's files."""


class Source(NamedTuple):
    """The files of an adapter. name: title of its spectrum; empty for the file's name. run: the run that trained it;
    None where RankViz did not train it."""

    paths: list[Path]
    name: str = ""
    run: RunRecord | None = None


@dataclass(frozen=True)
class Opened:
    """An adapter that was read, with its spectrum. run: the run that trained it; None where RankViz did not."""

    __repr__ = brief

    outline: Outline
    spectrum: Spectrum
    run: RunRecord | None

    @cached_property
    def truncations(self) -> Sequence[ResizePlan]:
        """Plans of useful truncations (ranks, bytes, energy); none if the adapter cannot be resized."""
        with suppress(BadAdapterError):
            return [plan(self.outline, self.spectrum, **each._asdict()) for each in truncations(self.spectrum)]
        return []


class Adapters(Operations):
    """Operations on trained adapters: their spectra and their truncation."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._opened = Cache[Opened](REMEMBERED)
        self._asking: dict[threading.Event, str] = {}
        """Visitor of each prompt that is being answered, by the event that cancels it."""

    def spectrum(self, adapter: Ref) -> Spectrum:
        """Return the singular values of a trained adapter's updates, and the ranks that follow from them."""
        return self.open(adapter).spectrum

    def looking(self, spectrum: Spectrum) -> AbstractContextManager[None]:
        """Return a context for drawing or planning every module of an adapter. With more than MANY_MODULES, the caller
        waits in the line for file reading; BusyError where that is full. No other method may be called in it."""
        return self._workspace.children.turn() if len(spectrum.layers) > MANY_MODULES else nullcontext()

    def sample(self) -> RunRecord:
        """Return the run that trained the adapter that RankViz ships."""
        return self._sample_store.all()[0]

    @cached_property
    def _sample_store(self) -> RunStore:
        return RunStore(self._workspace.assets / "sample_adapter")

    def truncated_losses(self, adapter: Ref) -> Losses:
        """Return the measured losses of an adapter and of its truncations; empty where none was measured."""
        if adapter == SAMPLE:
            measured = json.loads((self._workspace.assets / "sample_adapter" / "truncated.json").read_text())
            return {int(r): (loss, 0) for r, loss in measured["losses"].items()}
        run = self.open(adapter).run
        curve = fast_curve(self._own_run(run.run_id)) if run else None  # as it is now: truncations come last
        return {point.r: (point.loss, point.recovery_steps) for point in curve.points} if curve else {}

    def plan_resize(
        self, adapter: Ref, *, r: int | None = None, energy: float | None = None, dtype: str | None = None
    ) -> ResizePlan:
        """Return the ranks, bytes and kept energy that a resize would give.

        Args:
            adapter: The adapter to resize.
            r: One rank for all modules, lower than the adapter's.
            energy: Instead of `r`: the share of each module's energy to keep, such as 0.99.
            dtype: fp32, bf16 or fp16; None leaves the dtype unchanged.
        """
        opened = self.open(adapter)
        with self.looking(opened.spectrum):
            return plan(opened.outline, opened.spectrum, r=r, energy=energy, dtype=dtype)

    def resize(self, adapter: Ref, target: Path, **wanted: Any) -> tuple[ResizePlan, Sequence[str]]:
        """Write the adapter at lower ranks into a new folder that PEFT can load; return its plan and notes. wanted: As
        for `plan_resize`."""
        reply = self._write(self._source(adapter), Path(target).absolute(), wanted, as_zip=False)
        named = {"ranks": Ranks(*reply["plan"]["ranks"]), "truncation": Truncation(*reply["plan"]["truncation"])}
        return ResizePlan(**reply["plan"] | named), reply["notes"]

    def zip_resized(self, adapter: Ref, planned: ResizePlan) -> Path:
        """Write the resized adapter into a zip to download, and return its path."""
        source, name = self._source(adapter), self.spectrum(adapter).name
        file, wanted = f"{name}-r{max(planned.rank_by_module.values())}.zip", planned.truncation._asdict()
        wanted["dtype"] = planned.dtype
        return self._workspace.download(file, lambda target: self._write(source, target, wanted))

    def _write(
        self, source: Source, target: Path, wanted: Mapping[str, Any] | None = None, *, as_zip: bool = True
    ) -> Mapping[str, Any]:
        request = {**self._readable(source), "target": str(target), "wanted": wanted, "as_zip": as_zip}
        with self._workspace.children.turn():
            return self._workspace.children.ask("resize", request, about=target.name, error=BadAdapterError)

    def _readable(self, source: Source) -> dict[str, Any]:
        """Return the files of an adapter and their limits, as a child process gets them."""
        limits = self._workspace.limits
        most = {"max_bytes": limits.adapter_mb * 10**6, "max_values": limits.adapter_values}
        return {"paths": [*map(str, source.paths)], **most}

    def is_here(self, run_id: str, r: int) -> bool:
        """Return whether this machine has the files for `zip_of_rank`; False for a run that RankViz ships."""
        try:
            record = self._own_run(run_id)
            return (self._saved(record, r) or self._folder(record)).is_dir()
        except (RunNotFoundError, NotYoursError, BadAdapterError):
            return False

    def zip_of_rank(self, run_id: str, r: int) -> Path:
        """Return a zip to download with a run's adapter of rank r. It is the adapter that the run saved at this rank
        (trained, or truncated and trained further), or else the run's adapter truncated now."""
        record = self._own_run(run_id)
        folder = self._saved(record, r)
        if folder is None:
            return self.zip_resized(run_id, self.plan_resize(run_id, r=r))
        if not folder.is_dir():
            raise BadAdapterError(f"Run {run_id!r} has no adapter of r = {r} here: it was imported without it.")
        return self._workspace.download(f"adapter-r{r}.zip", lambda target: self._write(Source([folder]), target))

    def answer(self, run_id: str, r: int, prompt: str) -> Mapping[str, tuple[str, bool]]:
        """Answer a prompt with the base of a run ("base") and with the run's adapter of rank r ("adapter"), in a child
        process. Return each answer as (text, True where the model ended it). `cancel_answers` ends it."""
        record, limits, owner = self._own_run(run_id), self._workspace.limits, self._workspace.rights.somebody()
        if not prompt.strip() or len(prompt) > MOST_CHARACTERS:
            raise UserError(f"Write a prompt of at most {MOST_CHARACTERS:,} characters.")
        installed.require("the trainer", "Trying an adapter")
        base, saved, is_chat = self._workspace.references.base(record.request.base), self._saved(record, r), False
        if not ((saved or self._folder(record)) / "adapter_model.safetensors").is_file():
            raise BadAdapterError(NO_ADAPTER.format(run_id))
        with suppress(BadDataError, InvalidSettingError):  # data that is gone counts as text
            data = self._api.data.measure(record.request.data, record.request.columns).training
            is_chat = data.form not in ("text", "prompt-completion") or "lists" in data.traits
        how = {name: record.environment.get(name) or "" for name in ("loaded_from", "precision")}
        how |= {"home": str(self._workspace.home), "text_only": record.request.lora.text_only}
        request = {"base": asdict(base), "run": how, "prompt": prompt, "is_chat": is_chat}
        request |= {"tokens": limits.answer_tokens, "seconds": limits.answer_seconds}
        children, cancelled = self._workspace.answerers, threading.Event()
        self._asking[cancelled] = owner.id
        try:
            with children.turn(), self._workspace.work() as space:
                self._api.runs.quota.count_prompt(record.request.base)
                if saved is None:
                    self.resize(run_id, saved := space / "adapter", r=r)
                request["adapter"] = str(saved)
                return children.ask("answer", request, about=f"r = {r}", error=UserError, cancelled=cancelled)
        except RankVizError as error:
            raise UserError("Stopped.") if cancelled.is_set() else error from None
        finally:
            del self._asking[cancelled]

    def cancel_answers(self) -> None:
        """End the processes that answer prompts of the current visitor."""
        for cancelled, owner in [*self._asking.items()]:
            if owner in self._workspace.visitor.ids:
                cancelled.set()

    def runs(self) -> Sequence[RunRecord]:
        """Return the current visitor's runs whose adapter is on this machine, newest first."""
        runs = []
        for record in reversed(self._workspace.rights.own(self._workspace.store.all())):
            with suppress(BadAdapterError):
                if record.adapter_path and (self._folder(record) / "adapter_config.json").is_file():
                    runs.append(record)
        return runs

    def _own_run(self, run_id: str) -> RunRecord:
        """Return a run of the current visitor. Somebody who may only look at a run must not get its weights."""
        record = self._workspace.store.get(run_id)
        self._workspace.rights.required(run_id)
        return record

    def _folder(self, record: RunRecord) -> Path:
        return self._workspace.store.path(record.run_id, record.adapter_path or "adapter")

    def _saved(self, record: RunRecord, r: int) -> Path | None:
        """Return the folder in which the run saved an adapter of this rank; None where it saved none."""
        if r == record.request.r:
            return self._folder(record)
        path = next((cut.path for cut in record.cuts if cut.r == r), "")
        return self._workspace.store.path(record.run_id, path) if path else None

    def open(self, ref: Ref) -> Opened:
        """Read an adapter in a child process. The latest adapters are cached."""
        source, children = self._source(ref), self._workspace.children
        files = (sorted(path.glob("adapter_*")) if path.is_dir() else [path] for path in source.paths)
        stamps = [(str(each), each.stat().st_mtime_ns, each.stat().st_size) for each in chain(*files) if each.exists()]
        key = (source.name, *(str(path.resolve()) for path in source.paths), *stamps)

        def read() -> Opened:
            steps = source.run.steps_done or None if source.run else None
            request = {**self._readable(source), "name": source.name, "training_steps": steps}
            about = source.name or source.paths[0].name
            reply = children.ask("adapter", request, about=about, error=BadAdapterError, key=repr(key))
            return Opened(*received(**reply), source.run)

        return self._opened.get(key, read, lambda: children.turn(repr(key)))

    def _source(self, ref: Ref) -> Source:
        ref = str(ref).strip() if isinstance(ref, str | Path) else list(ref)
        if not ref:
            raise BadAdapterError("No adapter given: give its files, a run's id or a Hub id.")
        if isinstance(ref, list):
            return Source([self._workspace.references.file(path) for path in ref])
        if ref == SAMPLE:
            run = self.sample()
            return Source([self._sample_store.path(run.run_id, run.adapter_path or "adapter")], SAMPLE, run)
        if (hub_id := named_in(ref)) != ref:
            ref = hub_id
        elif path := self._workspace.references.path(ref, "The adapter"):
            return Source([path])
        try:
            record = self._own_run(ref)
        except RunNotFoundError:
            limit = self._workspace.limits.adapter_mb * 10**6
            return Source([self._workspace.hub.fetch("adapter", ref, max_bytes=limit)])
        folder = self._folder(record)
        if not folder.is_dir():
            raise BadAdapterError(NO_ADAPTER.format(ref))
        return Source([folder], ref, record)
