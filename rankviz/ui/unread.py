"""What events have answered and nobody has fetched yet. Gradio keeps it for 2,000 sessions, whatever its size."""

import asyncio
from collections import OrderedDict
from typing import Any

from gradio.server_messages import EventMessage, ProcessCompletedMessage, ProcessGeneratingMessage
from gradio.utils import LRUCache

MAX_ANSWERS = 200
"""Of all sessions. A browser fetches an answer as soon as it is there."""
MAX_SESSIONS = 2000
TOO_LATE = "This answer was not fetched in time. Ask again."


class Unread(LRUCache[str, asyncio.Queue[EventMessage]]):
    """The messages of each session, for Gradio's queue. Of more answers than there is room for, the oldest becomes an
    error; of more sessions, the one that has been silent the longest is forgotten.

    Args:
        events: Gradio's ids of unread events by session.
    """

    def __init__(self, events: dict[str, set[str]], answers: int = MAX_ANSWERS, sessions: int = MAX_SESSIONS):
        super().__init__(sessions)
        self._events = events
        self._answers = Answers(answers)

    def __setitem__(self, session: str, messages: asyncio.Queue[EventMessage]) -> None:
        super().__setitem__(session, Messages(self._answers))
        for forgotten in [each for each in self._events if each not in self]:
            del self._events[forgotten]

    def __getitem__(self, session: str) -> asyncio.Queue[EventMessage]:
        if session in self:
            self.move_to_end(session)
        return super().__getitem__(session)

    def __missing__(self, session: str) -> asyncio.Queue[EventMessage]:
        """For an event whose session is forgotten: nobody reads it."""
        return asyncio.Queue()


class Answers(OrderedDict[int, Any]):
    """The unread answers of all sessions, the oldest first."""

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def keep(self, message: Any) -> None:
        self[id(message)] = message
        while len(self) > self._most:
            _, oldest = self.popitem(last=False)
            oldest.output, oldest.success = {"error": TOO_LATE}, False


class Messages(asyncio.Queue[EventMessage]):
    """Of one session."""

    def __init__(self, answers: Answers):
        super().__init__()
        self._answers = answers

    def _put(self, item: EventMessage) -> None:
        super()._put(item)
        if isinstance(item, ProcessCompletedMessage | ProcessGeneratingMessage):
            self._answers.keep(item)

    def _get(self) -> EventMessage:
        item = super()._get()
        self._answers.pop(id(item), None)
        return item
