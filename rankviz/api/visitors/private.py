"""What the owner of a shared page has set up is their own: its visitors read neither addresses nor accounts, and are
not told to change a setting."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rankviz.core.bounds import name_alone
from rankviz.core.runs.request import RunRequest

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.settings import Settings

HIDDEN = "…"
ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\w.]\w)")
NAMING = ("account", "exclude", "licenses", "mail-user", "nodelist", "qos", "reservation", "wckey")
"""Options of sbatch whose values are names of the site."""

SENTENCE_ENDS = re.compile(r"(?<=[.!?]) +(?=[A-Z`])")
FOR_OWNER = re.compile(r"\bRANKVIZ_[A-Z]|\bscontrol\b")
"""In a sentence that only the owner can act on."""

TEXTS = ("error", "log_tail", "lost", "waits", "where")
"""Of a run and its events: what an engine has written of its place."""


def shown_text(workspace: Workspace, text: str) -> str:
    """A text of the server's engines, as whoever asks may read it."""
    return text if workspace.visitor.admin else without_private(text, workspace.settings)


def shown(workspace: Workspace, item: Any) -> Any:
    """The same of a run or an event."""
    return item if workspace.visitor.admin else hidden(item, workspace.settings)


def taken_along(item: Any, settings: Settings) -> Any:
    """The request of a run or an event as a visitor's export has it: of files that it names, the names alone."""
    if isinstance(item, RunRequest):
        return replace(item, base=name_alone(item.base), data=name_alone(item.data))
    return hidden(item, settings)


def hidden(item: Any, settings: Settings) -> Any:
    """A run or an event as visitors may read it; the same object where nothing is hidden."""
    known = {name: getattr(item, name) for name in TEXTS if name in item.__dataclass_fields__}
    changed = {name: new for name, text in known.items() if text and (new := without_private(text, settings)) != text}
    if changed.get("where") == HIDDEN:
        changed["where"] = ""
    place = getattr(item, "place", None)
    if place is not None and (place_shown := hidden(place, settings)) is not place:
        changed["place"] = place_shown
    return replace(item, **changed) if changed else item


def without_private(text: str, settings: Settings) -> str:
    """The same text, without addresses of the server's engines, names of its site, and advice to its owner."""
    text = "\n".join(map(_without_advice, text.split("\n")))
    if settings.ray_address:
        text = text.replace(f" at {settings.ray_address}", "")
    if names := sorted(set(_names(settings)), key=len, reverse=True):
        text = re.sub(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])", HIDDEN, text)
    return ADDRESS.sub(HIDDEN, text)


def _without_advice(line: str) -> str:
    return " ".join(each for each in SENTENCE_ENDS.split(line) if not FOR_OWNER.search(each))


def _names(settings: Settings) -> Iterator[str]:
    if settings.ray_address:
        address = urlsplit(settings.ray_address)
        yield from filter(None, (settings.ray_address, address.netloc, address.hostname, settings.ray_storage))
    if settings.slurm_partition:
        yield settings.slurm_partition
    for option in settings.slurm_options:
        name, _, value = option.partition("=")
        if value and name.lstrip("-") in NAMING:
            yield option
            yield value
