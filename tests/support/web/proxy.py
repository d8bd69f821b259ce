"""A reverse proxy on loopback that serves another server's page below a path, as nginx does for a team."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

OWN_TO_A_CONNECTION = ("connection", "keep-alive", "transfer-encoding")
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]


@contextmanager
def proxy(target: str, path: str, *, strips_path: bool = True) -> Iterator[str]:
    """Serves `target` at http://127.0.0.1:PORT/path/, and yields that address.

    strips_path: whether the target gets the address without `path`, as from nginx's `proxy_pass` with a slash.
    """
    client = httpx.AsyncClient(base_url=target, timeout=None)

    async def forward(request: Request) -> Response:
        rest = request.url.path.removeprefix(path) if strips_path else request.url.path
        headers = [(name, value) for name, value in request.headers.raw if name.decode() not in OWN_TO_A_CONNECTION]
        headers.append((b"x-forwarded-proto", b"http"))
        sent = client.build_request(
            request.method, httpx.URL(rest, query=request.url.query.encode()), headers=headers, content=request.stream()
        )
        answer = await client.send(sent, stream=True)
        forwarded = StreamingResponse(answer.aiter_raw(), answer.status_code, background=BackgroundTask(answer.aclose))
        forwarded.raw_headers = [
            pair for pair in answer.headers.raw if pair[0].decode().lower() not in OWN_TO_A_CONNECTION
        ]
        return forwarded

    async def to_the_folder(request: Request) -> Response:
        return RedirectResponse(f"{path}/")

    app = Starlette(routes=[Route(path, to_the_folder), Route(path + "/{rest:path}", forward, methods=METHODS)])
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}{path}/"
    finally:
        server.force_exit = True
        server.should_exit = True
        thread.join(20)
        listening.close()
