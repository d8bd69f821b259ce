"""No more of a body is read than it may have."""

from itertools import count

from starlette.requests import Request

from rankviz.ui.requests.body import body_of


def read(parts, most=10):
    """(the body, how many parts were taken of it). Nothing is waited for, so it needs no event loop."""
    taken = count()
    messages = iter([{"type": "http.request", "body": part, "more_body": True} for part in parts])

    async def receive():
        next(taken)
        return next(messages, {"type": "http.request", "body": b"", "more_body": False})

    try:
        body_of(Request({"type": "http", "headers": []}, receive), most).send(None)
    except StopIteration as done:
        return done.value, next(taken)
    raise AssertionError("it waits")


def test_a_body_is_read_up_to_its_most():
    assert b"0123456789" == read([b"01234", b"56789"])[0]
    assert b"" == read([b"0123456789a"])[0]


def test_reading_ends_where_a_body_is_too_long():
    assert (b"", 2) == read([b"0123456"] * 1000)
