"""Sends all requests of a server to the Hub.

Requests run in a few child processes with a time limit. A failed request is not repeated for a while, and none is sent
for a while after the Hub did not answer. Models of the catalogue need no request.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from rankviz.children import Bounds, Children
from rankviz.core.preflight import HubAnswer
from rankviz.errors import (
    BadAdapterError,
    BadDataError,
    HubSilentError,
    HubUnavailableError,
    LimitError,
    RankVizError,
    WorkerError,
    quoted,
)
from rankviz.hub import reach, remote
from rankviz.paths import is_hub_id

LOOKUP_BOUNDS = Bounds(seconds=15, memory_bytes=2 * 10**9)
FAILED_SECONDS = 60  # seconds for which a failed request is not repeated
SILENT_SECONDS = 20  # seconds without requests after the Hub did not answer
ANSWER_SECONDS = 60  # seconds for which an answer of the Hub is reused; a page asks again whenever a setting changes
MAX_REMEMBERED = 256
MAX_WAITING = 3
BUSY = (
    "This server looks up at most {} at once of models and adapters at the Hub, and is busy with others. Try again in "
    "a moment."
)


class HubDoor:
    """Sends requests to the Hub for visitors who wait for the answers. lookups, downloads: Children that look up what
    exists, and that fetch files. temp: TempHome in which fetched files are kept for a while; None for the Hub's own
    cache. temp_mb: Most MB of files in it."""

    def __init__(self, lookups: Children, downloads: Children, temp: Any = None, temp_mb: int | None = None):
        self.lines = (lookups.line, downloads.line)
        self._lookups, self._downloads, self._temp, self._temp_mb = lookups, downloads, temp, temp_mb
        self._silent_since = -math.inf
        self._asking = Lock()
        self._known: dict[str, tuple[float, Any]] = {}

    @contextmanager
    def config(self, repo_id: str, suggestions: Sequence[str] = ()) -> Iterator[Path]:
        """Yield the path of a model's config.json; the file exists within the block only."""
        with self._lookups.folder() as folder:
            request = {"repo_id": repo_id, "suggestions": list(suggestions), "folder": str(folder)}
            reply = self._ask(self._lookups, "config", request, remote.unavailable(repo_id, suggestions))
            yield Path(reply["path"])

    def fetch(self, what: Literal["adapter", "data"], repo_id: str, *, max_bytes: int) -> Path:
        """Return an adapter's folder or a data set's file, or a known copy while the Hub is silent or too many ask."""
        unavailable, error = remote.DATA_UNAVAILABLE, BadDataError
        if what == "adapter":
            unavailable, error = remote.ADAPTER_UNAVAILABLE, BadAdapterError
            if not is_hub_id(repo_id):
                raise BadAdapterError(
                    f"There is no adapter {quoted(repo_id)} here: give its files, a run's id or a Hub id (owner/name)."
                )
        temp = self._temp

        def fetched() -> Path:
            if temp:
                temp.require_room(self._temp_mb)
            request = {"repo_id": repo_id, "max_bytes": max_bytes, "copies": temp.copies if temp else ""}
            reply = self._ask(self._downloads, what, request, unavailable.format(repo_id), error)
            if temp:
                temp.drop_copies()
            return Path(reply["path"])

        return self._recent(f"{what} {repo_id}", fetched, serves=Path.exists)

    def weight_bytes(self, repo_id: str, *, patient: bool) -> int | None:
        """Return the bytes of a repository's weights still to fetch, as reach.weight_bytes_to_fetch does. Raise
        LimitError where too many ask; with `patient=False`, where there would be any wait."""
        look_up = partial(self._ask, self._lookups, "weights", {"repo_id": repo_id}, "", patient=patient)
        try:
            return self._recent(f"weights {repo_id}", look_up)["bytes"]
        except (HubUnavailableError, WorkerError):
            return None

    def reached(self) -> HubAnswer:
        """Return whether the Hub answers; an answer is reused for ANSWER_SECONDS."""
        with self._asking:
            if reach.is_offline():
                return reach.ask_hub()
            answer = self._recent("", reach.ask_hub)
            if not answer.reached:
                self._silent_since = max(self._silent_since, self._known.get("", (-math.inf,))[0])
            return answer

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
        """Send a request in a child process. unavailable: message while the Hub does not answer. error: class of the
        error where the request exceeds its limit of time or memory."""

        def require_answers() -> None:
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
        self, name: str, look_up: Callable[[], Any], *, serves: Callable[[Any], bool] = lambda value: True
    ) -> Any:
        """Return the value of a name, cached for ANSWER_SECONDS. A cached value that `serves` refuses is looked up at
        once. Where the look-up fails, another cached value is used for ANSWER_SECONDS more."""
        at, value = self._known.get(name, (None, None))
        usable = at is not None and serves(value)
        if not usable or time.monotonic() - at > ANSWER_SECONDS:
            try:
                value = look_up()
            except (HubUnavailableError, LimitError, WorkerError):
                if not usable:
                    raise
            self._known[name] = time.monotonic(), value
            for oldest in list(self._known)[:-MAX_REMEMBERED]:
                self._known.pop(oldest, None)
        return value
