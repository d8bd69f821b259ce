"""What events have answered and nobody has fetched yet. Gradio keeps it for 2,000 sessions, whatever its size."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import orjson
from fastapi import HTTPException
from gradio.queueing import Event
from gradio.server_messages import EventMessage, ProcessCompletedMessage, ProcessGeneratingMessage
from gradio.utils import LRUCache

MAX_ANSWERS = 10_000
"""Of all sessions. A browser fetches an answer as soon as it is there; a program may take some seconds."""
MAX_BYTES = 20_000_000
"""Of the same, as they are sent; in memory they take some times as much. The newest is kept whatever its size."""
LARGE_BYTES = 50_000
"""Answers above it make room first, so that who leaves many of them does not push out the others'."""
MAX_SESSIONS = 2000
MAX_MESSAGES = 500
"""Of a session. An event has a few: its place in the queue, its start, its answer."""
TOO_LATE = "This answer was not fetched in time. Ask again."
READ = "The answer was read already, or whoever waited for it has gone. Ask again."


class Unread(LRUCache[str, asyncio.Queue[EventMessage]]):
    """The messages of each session, for Gradio's queue. Of more answers than there is room for, the oldest becomes an
    error; of more messages of one session, the oldest goes with its event; of more sessions, the most silent one.

    Args:
        events: Gradio's ids of unread events by session.
        running: Gradio's events that wait in its queue or run, by id. One stays for a moment after its answer.
    """

    def __init__(
        self,
        events: dict[str, set[str]],
        running: Mapping[str, Event],
        answers: int = MAX_ANSWERS,
        size: int = MAX_BYTES,
        sessions: int = MAX_SESSIONS,
        messages: int = MAX_MESSAGES,
    ):
        super().__init__(sessions)
        self._events, self._running = events, running
        self._answers = Answers(answers, size)
        self._messages = messages

    def __setitem__(self, session: str, messages: asyncio.Queue[EventMessage]) -> None:
        new = Messages(self._answers, self._messages, partial(self._drop, session), partial(self._has_more, session))
        super().__setitem__(session, new)
        for forgotten in [each for each in self._events if each not in self]:
            del self._events[forgotten]

    def __getitem__(self, session: str) -> asyncio.Queue[EventMessage]:
        if session in self:
            self.move_to_end(session)
        return super().__getitem__(session)

    def __missing__(self, session: str) -> asyncio.Queue[EventMessage]:
        """For an event whose session is forgotten: nobody reads it."""
        return asyncio.Queue()

    def _drop(self, session: str, message: EventMessage) -> None:
        self._events.get(session, set()).discard(message.event_id)

    def _has_more(self, session: str, besides: str | None = None) -> bool:
        """Whether an event has something left to say to whoever reads this session, whose messages are all read.
        The others are forgotten, or Gradio would wait for them and never end its stream.

        besides: an event that Gradio forgets itself.
        """
        unread = self._events.get(session, set())
        living = {each for each in unread if (event := self._running.get(each)) is not None and event.alive}
        unread &= living | {besides}
        return bool(living)


class Answers:
    """The unread answers of all sessions. Where they are too many or too large, the oldest of the large ones goes, or
    else the oldest."""

    def __init__(self, most: int, most_bytes: int, large_bytes: int = LARGE_BYTES):
        self._most, self._most_bytes, self._large_bytes = most, most_bytes, large_bytes
        self._large: OrderedDict[int, tuple[Any, int]] = OrderedDict()
        self._small: OrderedDict[int, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def keep(self, message: Any) -> None:
        size = _size(message.output)
        (self._large if size > self._large_bytes else self._small)[id(message)] = message, size
        self._bytes += size
        while self._are_too_many:
            lines = self._large, self._small
            oldest = next(each for line in lines for each, _ in line.values() if each is not message)
            self.drop(oldest)
            oldest.output, oldest.success = {"error": TOO_LATE}, False

    def drop(self, message: Any) -> None:
        """It has been read, or is not among them."""
        for line in (self._large, self._small):
            self._bytes -= line.pop(id(message), (None, 0))[1]

    @property
    def _are_too_many(self) -> bool:
        count = len(self._large) + len(self._small)
        return count > self._most or (self._bytes > self._most_bytes and count > 1)


class Messages(asyncio.Queue[EventMessage]):
    """Of one session.

    Args:
        most: Of more messages that nobody fetches the oldest is given to `drop`.
        has_more: Says whether messages are still to come.
    """

    def __init__(
        self, answers: Answers, most: int, drop: Callable[[EventMessage], None], has_more: Callable[..., bool]
    ):
        super().__init__()
        self._answers = answers
        self._most = most
        self._drop = drop
        self._has_more = has_more

    async def get(self) -> EventMessage:
        """HTTPException where none is there or still to come: Gradio would wait for ever, and says this instead."""
        if self.empty() and not self._has_more():
            raise HTTPException(404, READ)
        message = await super().get()
        if self.empty():
            self._has_more(message.event_id)
        return message

    def _put(self, item: EventMessage) -> None:
        if self.qsize() >= self._most:
            self._drop(self._get())
        super()._put(item)
        if isinstance(item, ProcessCompletedMessage | ProcessGeneratingMessage):
            self._answers.keep(item)

    def _get(self) -> EventMessage:
        item = super()._get()
        self._answers.drop(item)
        return item


def _size(output: Any) -> int:
    """In bytes, as Gradio sends it; 0 of what it cannot send."""
    with suppress(TypeError):
        return len(orjson.dumps(output, default=str))
    return 0
