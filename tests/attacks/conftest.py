"""One shared app in a process of its own, and strangers who do to it what others did, over HTTP."""

import secrets
from functools import partial

import pytest

from tests.attacks.spaces import Space
from tests.attacks.watching import watched
from tests.support.web.outside import outside
from tests.support.web.stranger import Stranger


@pytest.fixture(scope="session")
def proxied():
    """The environment of the app, and what it asks of other servers."""
    with outside() as proxied:
        yield proxied


@pytest.fixture(scope="session")
def space(tmp_path_factory, proxied):
    with Space(tmp_path_factory.mktemp("space"), **proxied[0]) as space:
        yield space


@pytest.fixture
def ann(space):
    """Who attacks."""
    stranger = Stranger(space.url)
    yield stranger
    stranger.close()


@pytest.fixture
def ben(space):
    """Who only wants to use the page."""
    stranger = Stranger(space.url)
    yield stranger
    stranger.close()


@pytest.fixture
def during(space, ben, request):
    """during(attack): what the attack returns, with another visitor watched."""
    return partial(watched, space, ben, request.node.name)


@pytest.fixture
def name():
    return f"x{secrets.token_hex(4)}"
