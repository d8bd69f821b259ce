"""Serves the page, for app.py and `rankviz serve`."""

import ctypes
import gc
import os
import socket
import sys
from contextlib import suppress
from threading import Thread

from starlette.responses import FileResponse
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.h11_impl import H11Protocol

from rankviz import logs
from rankviz.api import Api
from rankviz.errors import UserError
from rankviz.hub import reach
from rankviz.settings import unread_variables
from rankviz.shared.gate import keep_log_ours
from rankviz.shared.retention import keep_clean
from rankviz.ui import addresses
from rankviz.ui.page import build_app
from rankviz.ui.theme import launch_options

PR_SET_DUMPABLE = 4
SWITCH_SECONDS = 0.001
"""Seconds that a thread computes before another gets its turn; Python's 5 ms would delay the server's threads."""
COLLECTED_AFTER = 20_000, 20, 20
"""New objects before Python looks for cycles, and how often it does before it looks through older ones. An answer makes
15,000 objects and hardly a cycle; with Python's 700, looking takes 6 % of the time."""
ZERO_GPU_QUEUED = 1000


def serve() -> None:
    """Build the page on the default runs folder, continue its queue and serve until the process ends."""
    logs.keep_tokens_out()
    api = Api()
    api.workspace.temp.use_for_gradio(always=api.workspace.shared)
    if api.workspace.shared:
        if sys.platform == "linux":  # workers, which are other processes of this user, read no secrets in /proc
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)
        reach.use_own(api.workspace.home)
    if unread := unread_variables():
        print(f"No setting reads {', '.join(unread)}; docs/spaces_and_engines.md lists what is read.", flush=True)
    options = launch_options(api)
    host, port = options["server_name"], options["server_port"]
    check_address(host, port)
    if not api.workspace.shared:
        for line in addresses.announcement(host, port):
            print(line, flush=True)
    keep_clean(api.workspace, api.runs.quota.make_room_on_disk)
    read_ahead(api)
    api.workspace.work_queue()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # what is imported stays: to look through it again takes 0.1 s, here and during answers
    gc.set_threshold(*COLLECTED_AFTER)
    app = build_app(api)
    if os.environ.get("SPACES_ZERO_GPU") == "true":
        # The Hub ends such a Space if no function asks for the GPU (spaces 0.51 reports its start only then), and
        # Gradio's queue there has room for one event, where opening a page sends several. Training is another process.
        import spaces

        spaces.GPU(lambda: None)
        app.queue(max_size=ZERO_GPU_QUEUED)
    app.api_open = False  # queue(api_open=False) would also make the server anew, which launch does again
    keep_log_ours()
    auto.AutoHTTPProtocol = H11Protocol  # reads 64 kB of a head; httptools, where it is installed, reads without end
    FileResponse.chunk_size = 2**20  # each piece of a file is read in another thread
    app.launch(**options)


def check_address(host: str, port: int) -> None:
    """Raise UserError where no server can listen; Gradio would fail with a traceback after the page is built."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except (OSError, UnicodeError) as error:
        reason = "this machine has no such address, the port is in use, or it needs an administrator's rights"
        where = "Choose another with --host and --port, or GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."
        raise UserError(f"The page cannot be served at {host}, port {port}: {reason}. {where}") from error


def read_ahead(api: Api) -> Thread:
    """Start a thread that reads all runs, so that the first page need not wait for them; return the thread."""

    def read() -> None:
        with suppress(OSError):
            api.workspace.store.begun_and_cancelled()
        gc.freeze()  # records stay: to look through 12,050 again and again takes 30 ms each time, during answers

    thread = Thread(target=read, name="rankviz-first-read", daemon=True)
    thread.start()
    return thread
