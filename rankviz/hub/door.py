"""The one way from the page to the Hub.

All is asked in child processes, whose time is bounded as a whole, however slowly an answer drips; only a few ask at
once. What failed is remembered for a while, and that the Hub does not answer is remembered for everybody, so that
nobody waits for what has just been tried. Models of the catalogue never come here.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Generic, NamedTuple, TypeVar

from rankviz.children import ASKING, Bounds, Children, FairLine
from rankviz.core.preflight.facts import HubAnswer
from rankviz.errors import BadAdapterError, HubSilentError, HubUnavailableError, LimitError, RankVizError, WorkerError
from rankviz.hub import adapter, reach, remote
from rankviz.hub.remote import HubConfig

LOOKUP_SECONDS = 15
LOOKUP_MEMORY_BYTES = 2 * 10**9
FAILED_SECONDS = 60
"""How long what the Hub does not have is not looked up again."""
SILENT_SECONDS = 20
"""How long nothing is asked after the Hub has not answered."""
ANSWER_SECONDS = 60
"""How long what the Hub has said of itself and of sizes holds; a page asks again whenever a setting changes."""
MAX_REMEMBERED = 256
MAX_WAITING = 3
BUSY = (
    "This server looks up at most {at_once} at once of models and adapters at the Hub, and is busy with others. Try "
    "again in a moment."
)

Known = TypeVar("Known")


class Copies(NamedTuple):
    """Adapters from the Hub that are kept for a while."""

    start: str
    """The beginning of the path of each."""
    require_room: Callable[[], None]
    """LimitError where there is none for another."""
    drop_old: Callable[[], None]
    """Once another has come."""


class Door:
    """All that one server asks of the Hub while somebody waits.

    Args:
        lookups: Ask what there is.
        downloads: Fetch adapters.
        copies: Where these are kept; None is the Hub's own cache.
    """

    def __init__(self, lookups: Children, downloads: Children, copies: Copies | None = None):
        self.lines = (lookups.line, downloads.line)
        self._lookups, self._downloads, self._copies = lookups, downloads, copies
        self._silent_since: float | None = None
        self._asking = Lock()
        self._answer: tuple[float, HubAnswer] | None = None
        self._sizes: _Memory[int | None] = _Memory()
        self._adapters: _Memory[Path] = _Memory()

    @contextmanager
    def config(self, repo_id: str, suggestions: Sequence[str] = ()) -> Iterator[HubConfig]:
        """A model's config.json, which is there for the time being, and what is known beside it."""
        with self._lookups.folder() as folder:
            request = {"repo_id": repo_id, "suggestions": list(suggestions), "folder": str(folder)}
            reply = self._ask(self._lookups, "config", request, remote.unavailable(repo_id, suggestions))
            yield HubConfig(**{**reply, "path": Path(reply["path"])})

    def adapter(self, repo_id: str, *, max_bytes: int, read: Path | None = None) -> Path:
        """The folder of an adapter, fetched unless it was before. While the Hub does not answer, or too many ask, it is
        the one known.

        read: one that is not needed any more, since it is known what is in it: it may have gone.
        """

        def fetched() -> Path:
            if self._copies:
                self._copies.require_room()
            copies = self._copies.start if self._copies else ""
            request = {"repo_id": repo_id, "max_bytes": max_bytes, "copies": copies, "read": str(read or "")}
            reply = self._ask(self._downloads, "adapter", request, adapter.unavailable(repo_id), BadAdapterError)
            if self._copies:
                self._copies.drop_old()
            return Path(reply["folder"])

        return self._adapters.get(repo_id, fetched, serves=lambda folder: folder == read or folder.is_dir())

    def weight_bytes(self, repo_id: str, *, patient: bool) -> int | None:
        """See reach.weight_bytes_to_fetch. LimitError where too many ask; of one who is not patient, where there would
        be a wait."""

        def looked_up() -> int | None:
            try:
                return self._ask(self._lookups, "weights", {"repo_id": repo_id}, "", patient=patient)["bytes"]
            except (HubUnavailableError, WorkerError):
                return None

        return self._sizes.get(repo_id, looked_up)

    def reached(self) -> HubAnswer:
        """Whether the Hub answers. Who asks first waits for that; later on everybody goes on with the last answer while
        the next one comes."""
        if reach.is_offline():
            return reach.ask_hub()
        if self._answer is None:
            with self._asking:
                if self._answer is None:  # while this one waited
                    self._ask_again()
        elif time.monotonic() - self._answer[0] > ANSWER_SECONDS and self._asking.acquire(blocking=False):
            Thread(target=self._ask_behind, name="whether the Hub answers", daemon=True).start()
        return self._answer[1]

    def _ask_behind(self) -> None:
        try:
            self._ask_again()
        finally:
            self._asking.release()

    def _ask_again(self) -> None:
        self._answer = (time.monotonic(), self._ask_for_answer())

    def _ask_for_answer(self) -> HubAnswer:
        try:
            answer = HubAnswer(
                **self._lookups.ask("hub", {"what": "reach"}, about="the Hub's answer", error=HubSilentError)
            )
        except (HubUnavailableError, WorkerError):
            answer = HubAnswer(endpoint=reach.endpoint(), reached=False, reason="no answer in time")
        if not answer.reached:
            self._silent_since = time.monotonic()
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
        """unavailable: said where the Hub is. error: raised where a bound is reached."""
        key = f"{what} {request['repo_id']}"
        self._require_sound(unavailable)
        with children.turn(key, patient=patient):
            self._require_sound(unavailable)  # while this one waited
            try:
                about = f"{request['repo_id']} from the Hub"
                return children.ask("hub", {"what": what, **request}, about=about, error=error, key=key)
            except HubSilentError:
                self._silent_since = time.monotonic()
                raise HubSilentError(unavailable) from None

    def _require_sound(self, unavailable: str) -> None:
        """HubSilentError where the Hub is switched off, or did not answer just now."""
        silent = self._silent_since is not None and time.monotonic() - self._silent_since < SILENT_SECONDS
        if silent or reach.is_offline():
            raise HubSilentError(unavailable)


class _Memory(Generic[Known]):
    """What was found out, by name, and when."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, Known]] = OrderedDict()

    def get(
        self, name: str, find_out: Callable[[], Known], *, serves: Callable[[Known], bool] = lambda known: True
    ) -> Known:
        """Found out anew after that time, or where what is known does not serve. While it cannot be found out, what is
        known and serves is good for as long again."""
        at, known = self._known.get(name, (None, None))
        usable = at is not None and serves(known)
        if not usable or time.monotonic() - at > ANSWER_SECONDS:
            try:
                known = find_out()
            except (HubUnavailableError, LimitError, WorkerError):
                if not usable:
                    raise
            self._known[name] = time.monotonic(), known
            while len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        return known


def open_door(
    at_once: int,
    *,
    each: int | None = None,
    download_bounds: Bounds,
    folder: Callable[[], AbstractContextManager[str | Path]],
    copies: Copies | None = None,
) -> Door:
    """A door for so many look-ups at once, and for one download.

    Args:
        at_once: Look-ups.
        each: How many of them may be one visitor's.
        download_bounds: Of one adapter.
        folder: As Children has it.
        copies: As Door has it.
    """

    def children(bounds: Bounds, at_once: int) -> Children:
        busy = BUSY.format(at_once=at_once)
        line = FairLine(at_once, busy=busy, seconds=bounds.seconds, each=each, waiting=MAX_WAITING)
        return Children(bounds, folder=folder, line=line, failed_seconds=FAILED_SECONDS, variables=ASKING)

    lookup_bounds = Bounds(seconds=LOOKUP_SECONDS, memory_bytes=LOOKUP_MEMORY_BYTES)
    return Door(children(lookup_bounds, at_once), children(download_bounds, 1), copies)
