"""The page's Blocks: each call runs as the visitor who sent it, and an open page keeps little on the server."""

import asyncio
import copy
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import anyio.to_thread
import gradio as gr
import orjson
from fastapi import HTTPException
from gradio.blocks import BlockFunction, BlocksConfig, convert_component_dict_to_list
from gradio.queueing import Event
from gradio.server_messages import EventMessage, ProcessCompletedMessage, ProcessGeneratingMessage
from gradio.state_holder import SessionState
from gradio.utils import LRUCache

from rankviz.errors import UserError
from rankviz.store.index import viewing
from rankviz.ui.page_cache import SmallBlocks, SmallConfig
from rankviz.ui.requests import envelope
from rankviz.ui.requests.event_errors import in_words
from rankviz.ui.requests.events import click_of, refuse, require_sendable, with_defaults
from rankviz.ui.requests.mcp import checked, in_json
from rankviz.ui.visitors import visitor_of
from rankviz.visitor import acting_as

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


NO_STATISTICS = {"GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**12), "GRADIO_ANALYTICS_MAX_EVENTS": "1"}
"""Gradio would make a table of the last 10,000 events after each, for a page of monitoring that is off."""


class PageBlocks(SmallBlocks):
    """Every function of the page and every endpoint is called through `process_api`, through the queue or past it."""

    def __init__(self, **options: Any) -> None:
        refuse()
        super().__init__(**options)
        self.default_config = PageConfig(self)

    @property
    def mcp_server_obj(self) -> Any:
        """Gradio's MCP server, which Gradio makes and sets as the page starts."""
        return self._mcp_server

    @mcp_server_obj.setter
    def mcp_server_obj(self, server: Any) -> None:
        self._mcp_server = server and checked(in_json(server))

    def queue(self, *args: Any, **options: Any) -> Any:
        """Gradio's without statistics, with an end to what it keeps of answers that nobody fetches, each session of one
        visitor."""
        os.environ.update(NO_STATISTICS)
        super().queue(*args, **options)
        self._queue.push = partial(envelope.push, self._queue.push)
        self._queue.pending_messages_per_session = Unread(
            self._queue.pending_event_ids_session, self._queue.event_ids_to_events
        )
        return self

    def launch(self, *args: Any, **options: Any) -> Any:
        """UserError where the page is to ask for a login and serve MCP, which asks for none."""
        mcp = options.get("mcp_server")
        serves_mcp = os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true" if mcp is None else mcp
        if serves_mcp and (options.get("auth") or options.get("auth_dependency")):
            raise UserError(
                "MCP clients would get past the login. Leave out auth, or turn MCP off: unset GRADIO_MCP_SERVER."
            )
        return super().launch(*args, **options)

    async def process_api(
        self,
        block_fn: Any,
        inputs: Any,
        state: Any = None,
        request: Any = None,
        *args: Any,
        event_data: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        visitor = visitor_of(request[0] if isinstance(request, list) else request)
        # What goes past the queue draws, and is not to wait for runs that nobody has read yet.
        draws = function.api_visibility == "private" and not function.queue
        with acting_as(visitor), in_words(request, function.name), viewing() if draws else nullcontext():
            inputs = with_defaults(function, inputs)
            require_sendable(function, inputs, state)
            click = click_of(event_data) if function.collects_event_data else event_data
            return await super().process_api(function, inputs, state, request, *args, event_data=click, **kwargs)

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list[Any], state: SessionState | None, explicit_call: bool = False
    ) -> Any:
        """Gradio's, in one thread: it enters one for each widget, and on a busy page waits for its turn each time.

        Values that no widget of the page sends are a mistake of who sent them: a sentence, not a line in the log.
        """
        state = state or SessionState(self)
        try:
            sent = await super().preprocess_data(_with(block_fn, preprocess=False), inputs, state, explicit_call)
            if not block_fn.preprocess:
                return sent
            return await anyio.to_thread.run_sync(_read, block_fn.inputs, sent, state, limiter=self.limiter)
        except gr.Error as error:
            raise gr.Error(error.message[:300], print_exception=False) from error
        except Exception as error:
            raise gr.Error("The request could not be read. Reload the page.", print_exception=False) from error

    async def postprocess_data(self, block_fn: BlockFunction, predictions: Any, state: SessionState | None) -> Any:
        """Gradio's, of the widgets that change. For one that stays as it is Gradio would make a new component, and keep
        it for the open page."""
        outputs = block_fn.outputs
        values = _in_order(outputs, predictions)
        changed = [at for at, value in enumerate(values) if not _is_skip(value)]
        if len(values) != len(outputs) or len(changed) == len(values):
            return await super().postprocess_data(block_fn, predictions, state)
        shown = [None if output.stateful else gr.skip() for output in outputs]
        if changed:
            some = _with(block_fn, outputs=[outputs[at] for at in changed])
            new = [values[at] for at in changed]
            made = await super().postprocess_data(some, new if len(new) > 1 else new[0], state)
            for at, value in zip(changed, made, strict=True):
                shown[at] = value
        return shown

    def get_config_file(self) -> Any:
        """Without the stream that each open page would hold: a browser has six connections to a host, so a seventh page
        would wait for ever. Gradio learns by it that a page was closed; here the oldest pages are forgotten instead
        (state_session_capacity)."""
        return {**super().get_config_file(), "connect_heartbeat": False}


NOT_KEPT: dict[str, Any] = {}


class PageConfig(SmallConfig):
    """What is on the page. Gradio copies it for each open page, and keeps the configuration of every component beside
    it, for deep links, of which there are none here."""

    def __copy__(self) -> "OpenPage":
        return OpenPage(self)


class OpenPage(BlocksConfig):
    """The page's components, over which those stand that were changed on one open page."""

    def __init__(self, page: PageConfig):
        super().__init__(page.root_block)
        self.blocks = Changed(page.blocks)
        self.fns = page.fns
        self.fn_id = page.fn_id

    def config_for_block(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return NOT_KEPT


class Changed(dict[int, Any]):
    """What was changed, over what all share. Who goes through it sees the changes only."""

    def __init__(self, shared: Mapping[int, Any]) -> None:
        super().__init__()
        self.shared = shared

    def __missing__(self, key: int) -> Any:
        return self.shared[key]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.shared

    def get(self, key: int, default: Any = None) -> Any:
        return super().get(key, self.shared.get(key, default))


def _with(block_fn: BlockFunction, **changes: Any) -> BlockFunction:
    other = copy.copy(block_fn)
    vars(other).update(changes)
    return other


def _read(widgets: Sequence[Any], sent: Sequence[Any], state: SessionState) -> list[Any]:
    """What a function gets for what a browser sent."""
    return [
        value if widget.stateful else _value(state[widget._id], value)
        for widget, value in zip(widgets, sent, strict=True)
    ]


def _value(widget: Any, sent: Any) -> Any:
    if isinstance(widget, gr.Textbox) and sent is None:
        sent = ""  # an empty field, as browsers send it
    if getattr(widget, "data_model", None) and sent is not None:
        sent = widget.data_model.model_validate(sent, context={"validate_meta": True})
    return widget.preprocess(sent)


def _in_order(outputs: Sequence[Any], predictions: Any) -> Sequence[Any]:
    """What a function returned, one value an output."""
    if isinstance(predictions, dict) and predictions and not _is_skip(predictions):
        predictions = convert_component_dict_to_list(list(outputs), predictions)
    if len(outputs) == 1:
        return [predictions]
    if _is_skip(predictions):
        return [predictions] * len(outputs)
    return predictions if isinstance(predictions, list | tuple) else []


def _is_skip(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()
