"""Rights: who may see a run, a sweep or a probe, who may change it, and which texts are hidden from visitors."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from rankviz.core.bounds import name_alone
from rankviz.core.runs.request import RunRequest
from rankviz.errors import InvalidSettingError, NotYoursError, RunNotFoundError, StorageError
from rankviz.machine import disk
from rankviz.visitor import Visitor

if TYPE_CHECKING:
    from pathlib import Path

    from rankviz.api.workspace import Workspace
    from rankviz.core.probe import ProbeRecord
    from rankviz.core.runs.record import RunRecord
    from rankviz.settings import Settings

HIDDEN = "…"
ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\w.]\w)")
TEXTS = ("error", "log_tail", "lost", "waits", "where")
"""Fields of a run or an event in which an engine may name its machines."""


def shown(workspace: Workspace, item: Any) -> Any:
    """Return a run, an event or a text from an engine of this server as the current visitor may read it."""
    return item if workspace.visitor.admin else hidden(item, workspace.settings)


def taken_along(item: Any, settings: Settings) -> Any:
    """Return a run's request or an event for a visitor's export: files are named without their folders."""
    if isinstance(item, RunRequest):
        return replace(item, base=name_alone(item.base), data=name_alone(item.data))
    return hidden(item, settings)


def hidden(item: Any, settings: Settings) -> Any:
    """Return a run, an event or a text without names of machines; the same object where nothing had to be removed."""
    if isinstance(item, str):
        return without_private(item, settings)
    known = {name: getattr(item, name) for name in TEXTS if name in item.__dataclass_fields__}
    changed = {name: new for name, text in known.items() if text and (new := without_private(text, settings)) != text}
    if changed.get("where") == HIDDEN:
        changed["where"] = ""
    place = getattr(item, "place", None)
    if place is not None and (place_shown := hidden(place, settings)) is not place:
        changed["place"] = place_shown
    return replace(item, **changed) if changed else item


def without_private(text: str, settings: Settings) -> str:
    """Return a text without addresses and names of the owner's clusters."""
    names = [settings.slurm_partition]
    if settings.ray_address:
        text, address = text.replace(f" at {settings.ray_address}", ""), urlsplit(settings.ray_address)
        names += [settings.ray_address, address.netloc, address.hostname or "", settings.ray_storage]
    for word in " ".join(settings.slurm_options).split():  # "--account=lab", "-Alab" or, as one text or two, "-A lab"
        value = word[2:] if re.match("-[^-]", word) else word if word[0] != "-" else word.partition("=")[2]
        names += [word, value] if not re.fullmatch(r"[\W\d]*", value) else []  # a number may be part of any sentence
    if names := sorted(filter(None, {*names}), key=len, reverse=True):
        text = re.sub(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])", HIDDEN, text)
    return ADDRESS.sub(HIDDEN, text)


KEY_FILE = "cookie.key"


def store_key(home: Path, keys: list[str]) -> bool:
    """Store a key that signs visitors' cookies on a shared page, unless the runs folder has one. Return True where the
    key will still be there at the next start; with another key, no visitor would be recognized.

    keys: Keys whose signatures are valid; the last one signs. A key that another app has stored is appended.
    """
    from filelock import FileLock  # an estimate does not need it

    from rankviz.settings import MIN_SECRET
    from rankviz.store.durable import replace_durably

    file = home / KEY_FILE

    def stored() -> str:
        text = file.read_text(errors="replace").strip() if file.is_file() else ""
        return text if len(text) >= MIN_SECRET else ""

    try:
        if not (key := stored()):
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(f".{KEY_FILE}.lock")):
                if not (key := stored()):
                    key = keys[-1]
                    replace_durably(file, key, opener=lambda path, flags: os.open(path, flags, 0o600))
    except OSError:
        return False
    if key != keys[-1]:
        keys.append(key)
    return True


Record = TypeVar("Record", "RunRecord", "ProbeRecord", "RunRecord | ProbeRecord")


class Rights:
    """Rights of the current visitor (Workspace.visitor) over one runs folder."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    @cached_property
    def keys(self) -> list[str]:
        """Keys that sign visitor cookies: the key in the settings, or else those of `store_key`."""
        if given := self._workspace.settings.cookie_key:
            return [given]
        keys = [secrets.token_hex(32)]
        store_key(self._workspace.home, keys)
        return keys

    def somebody(self) -> Visitor:
        """Return the current visitor, who must be able to own runs. Raise InvalidSettingError for a visitor who cannot
        be told from others, StorageError where visitors would not be recognized after a restart."""
        workspace, visitor = self._workspace, self._workspace.visitor
        if visitor.is_nobody:
            raise InvalidSettingError(
                "This page cannot tell you from other visitors, so it keeps nothing for you. Allow its cookie and "
                "reload the page; a program sends the header X-RankViz-Visitor, whose value it gets from "
                "/rankviz/visitor."
            )
        keeps_key = workspace.shared and not workspace.settings.cookie_key
        if not visitor.is_host and keeps_key and not store_key(workspace.home, self.keys):
            raise StorageError(workspace.why_not_write() or workspace.of_disk(disk.NO_KEY_SENTENCE))
        return visitor

    def mine(self, run_id: str) -> bool:
        """Return whether the current visitor may change a run or probe."""
        visitor = self._workspace.visitor
        return visitor.admin or visitor.owns(self._workspace.store.ownership(run_id).owner)

    def named(self, run_ids: Iterable[str]) -> tuple[str, ...]:
        """Return these ids of runs and probes, with "" in place of ids of other visitors' runs: estimates use
        everybody's measurements, but name only the visitor's own."""
        return tuple(run_id if self.mine(run_id) else "" for run_id in run_ids)

    def own(self, records: Iterable[Record]) -> list[Record]:
        """Return the records that belong to the current visitor, in the given order; all of them for an admin."""
        visitor, store = self._workspace.visitor, self._workspace.store
        if visitor.admin:
            return list(records)
        return [record for record in records if visitor.owns(store.listed_ownership(record.run_id).owner)]

    def made(self, run_id: str) -> bool:
        """Return whether the current visitor made this run; an admin who may change it did not."""
        return self._workspace.store.listed_ownership(run_id).owner in self._workspace.visitor.ids

    def require_sight(self, run_id: str) -> None:
        """Raise RunNotFoundError unless the current visitor owns a run or its owner shared it."""
        if not self.mine(run_id) and not self._workspace.store.ownership(run_id).is_open:
            raise RunNotFoundError(run_id)

    def visible(self, records: Iterable[Record]) -> list[Record]:
        """Return the records that the current visitor may see; only the visitor's own where there are any."""
        store = self._workspace.store
        seen = [each for each in records if self.mine(each.run_id) or store.ownership(each.run_id).is_open]
        return self.own(seen) or seen

    def seen(self, run_or_sweep_id: str) -> Sequence[RunRecord | ProbeRecord]:
        """Return the run or probe, or the runs of the sweep, that the current visitor may see. Where several visitors
        have a sweep of this name, the visitor's own is returned. Raise RunNotFoundError where there is none."""
        visible = self.visible(self._workspace.store.named(run_or_sweep_id))
        if not visible:
            raise RunNotFoundError(run_or_sweep_id)
        return [record for record in visible if record.run_id == run_or_sweep_id] or visible

    def required(self, run_or_sweep_id: str) -> Sequence[RunRecord | ProbeRecord]:
        """Return the records of `seen`; raise NotYoursError where the current visitor may not change all of them."""
        records = self.seen(run_or_sweep_id)
        if not all(self.mine(record.run_id) for record in records):
            raise NotYoursError(run_or_sweep_id)
        return records
