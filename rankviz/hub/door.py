"""The one way from the page to the Hub.
All requests run in a few child processes with a time limit. A failed request is not repeated for a while, and none is
sent for a while after the Hub did not answer. Models of the catalogue never come here."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from rankviz.children import ASKING, Bounds, Children, FairLine
from rankviz.core.preflight import HubAnswer
from rankviz.errors import BadAdapterError, HubSilentError, HubUnavailableError, LimitError, RankVizError, WorkerError
from rankviz.hub import reach, remote
from rankviz.hub.remote import HubConfig

LOOKUP_SECONDS = 15
LOOKUP_MEMORY_BYTES = 2 * 10**9
FAILED_SECONDS = 60
"""Seconds for which a failed request is not repeated."""
SILENT_SECONDS = 20
"""Seconds without requests after the Hub did not answer."""
ANSWER_SECONDS = 60
"""Seconds for which an answer of the Hub is reused; a page asks again whenever a setting changes."""
MAX_REMEMBERED = 256
MAX_WAITING = 3

Known = TypeVar("Known")


class Copies(NamedTuple):
    """Adapters from the Hub that are kept for a while. start: the beginning of each adapter's path."""

    start: str
    require_room: Callable[[], None]
    """Raises LimitError where there is no room for another adapter."""
    drop_old: Callable[[], None]
    """Deletes old adapters; called after another one was fetched."""


class HubDoor:
    """Sends all requests of one server to the Hub while somebody waits. lookups: children that look up what exists.
    downloads: children that fetch adapters. copies: place for fetched adapters; None for the Hub's own cache."""

    def __init__(self, lookups: Children, downloads: Children, copies: Copies | None = None):
        self.lines = (lookups.line, downloads.line)
        self._lookups, self._downloads, self._copies = lookups, downloads, copies
        self._silent_since = -math.inf
        self._asking = Lock()
        self._answers: dict[str, tuple[float, HubAnswer]] = {}
        self._sizes: dict[str, tuple[float, int | None]] = {}
        self._adapters: dict[str, tuple[float, Path]] = {}

    @contextmanager
    def config(self, repo_id: str, suggestions: Sequence[str] = ()) -> Iterator[HubConfig]:
        """Yield a model's config.json, which exists within the block only, and the Hub's other facts on the model."""
        with self._lookups.folder() as folder:
            request = {"repo_id": repo_id, "suggestions": list(suggestions), "folder": str(folder)}
            reply = self._ask(self._lookups, "config", request, remote.unavailable(repo_id, suggestions))
            yield HubConfig(**{**reply, "path": Path(reply["path"])})

    def adapter(self, repo_id: str, *, max_bytes: int, read: Path | None = None) -> Path:
        """Return the folder of an adapter, fetched unless a copy exists; a known copy is used while the Hub does not
        answer, or too many ask. read: a folder whose content is cached, so it is returned even where it is deleted."""
        copies = self._copies

        def fetched() -> Path:
            if copies:
                copies.require_room()
            request = {"repo_id": repo_id, "max_bytes": max_bytes, "copies": copies.start if copies else ""}
            sentence, request = remote.adapter_unavailable(repo_id), request | {"read": str(read or "")}
            reply = self._ask(self._downloads, "adapter", request, sentence, BadAdapterError)
            if copies:
                copies.drop_old()
            return Path(reply["folder"])

        return _recent(self._adapters, repo_id, fetched, serves=lambda folder: folder == read or folder.is_dir())

    def weight_bytes(self, repo_id: str, *, patient: bool) -> int | None:
        """Return the bytes of a repository's weights still to fetch, as reach.weight_bytes_to_fetch does. Raise
        LimitError where too many ask; with `patient=False`, where there would be any wait."""

        def looked_up() -> int | None:
            try:
                return self._ask(self._lookups, "weights", {"repo_id": repo_id}, "", patient=patient)["bytes"]
            except (HubUnavailableError, WorkerError):
                return None

        return _recent(self._sizes, repo_id, looked_up)

    def reached(self) -> HubAnswer:
        """Return whether the Hub answers; an answer is reused for ANSWER_SECONDS."""
        if reach.is_offline():
            return reach.ask_hub()

        def ask_hub() -> HubAnswer:
            try:
                reply = self._lookups.ask("hub", {"what": "reach"}, about="the Hub's answer", error=HubSilentError)
                answer = HubAnswer(**reply)
            except (HubUnavailableError, WorkerError):
                answer = HubAnswer(endpoint=reach.endpoint(), reached=False, reason="no answer in time")
            if not answer.reached:
                self._silent_since = time.monotonic()
            return answer

        with self._asking:
            return _recent(self._answers, "", ask_hub)

    def _ask(
        self,
        children: Children,
        what: str,
        request: Mapping[str, Any],
        unavailable: str,
        error: type[RankVizError] = HubSilentError,
        *,
        patient: bool = True,
    ) -> Any:
        """Send a request in a child process. unavailable: message while the Hub is silent. error: raised at a bound."""

        def require_answers() -> None:
            """Raise HubSilentError where the Hub is switched off, or did not answer just now."""
            if time.monotonic() - self._silent_since < SILENT_SECONDS or reach.is_offline():
                raise HubSilentError(unavailable)

        key = f"{what} {request['repo_id']}"
        require_answers()
        with children.turn(key, patient=patient):
            require_answers()  # while this one waited
            try:
                about = f"{request['repo_id']} from the Hub"
                return children.ask("hub", {"what": what, **request}, about=about, error=error, key=key)
            except HubSilentError:
                self._silent_since = time.monotonic()
                raise HubSilentError(unavailable) from None


def _recent(
    known: dict[str, tuple[float, Known]],
    name: str,
    look_up: Callable[[], Known],
    *,
    serves: Callable[[Known], bool] = lambda value: True,
) -> Known:
    """Return the value of a name, looked up again after ANSWER_SECONDS or where it does not serve. While the look-up
    fails, the last value that serves is returned, for as long again."""
    at, value = known.get(name, (None, None))
    usable = at is not None and serves(value)
    if not usable or time.monotonic() - at > ANSWER_SECONDS:
        try:
            value = look_up()
        except (HubUnavailableError, LimitError, WorkerError):
            if not usable:
                raise
        known[name] = time.monotonic(), value
        for oldest in list(known)[:-MAX_REMEMBERED]:
            known.pop(oldest, None)
    return value


def open_door(
    at_once: int,
    *,
    each: int | None = None,
    download_bounds: Bounds,
    folder: Callable[[], AbstractContextManager[str | Path]],
    copies: Copies | None = None,
) -> HubDoor:
    """Return a door for `at_once` look-ups, of which `each` may be one visitor's, and for one download.
    download_bounds: limits of the download of one adapter. folder: as in Children. copies: as in HubDoor."""

    def children(bounds: Bounds, at_once: int) -> Children:
        busy = (
            f"This server looks up at most {at_once} at once of models and adapters at the Hub, and is busy with "
            "others. Try again in a moment."
        )
        line = FairLine(at_once, busy=busy, seconds=bounds.seconds, each=each, waiting=MAX_WAITING)
        return Children(bounds, folder=folder, line=line, failed_seconds=FAILED_SECONDS, variables=ASKING)

    lookup_bounds = Bounds(seconds=LOOKUP_SECONDS, memory_bytes=LOOKUP_MEMORY_BYTES)
    return HubDoor(children(lookup_bounds, at_once), children(download_bounds, 1), copies)
