"""Calls that may take minutes, each in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future


def in_thread(call: Callable[[], None], name: str) -> Future[None]:
    """Begin it. The thread is not one of an executor, since these keep a process from ending.

    name: Of the thread.
    """
    future: Future[None] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
