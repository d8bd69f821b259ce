"""Reads the body of a request, and no more of it than it may have."""

from starlette.requests import Request


async def body_of(request: Request, most: int) -> bytes:
    """Nothing where it has more than so many bytes."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            return b""
    return body
