"""The visitor of a request: on one's own machine its owner, on a shared page whoever sends the request.
Operations call `current()`, so that no visitor need be passed through all of them. Also a visitor's folders."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


class Login:
    """A login at Hugging Face for one request: kept in memory, never written down. It is no dataclass, so that writing
    a visitor as JSON fails unless the login is left out."""

    __slots__ = ("came_at", "expires_at", "token")

    def __init__(self, token: str, expires_at: float = float("inf")):
        """expires_at: unix seconds."""
        self.token = token
        self.expires_at = expires_at
        self.came_at = time.monotonic()
        """Time of the request on the monotonic clock, seconds."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person whose runs and files are separate from those of others."""

    id: str
    """Id from a signed cookie, or the stable id of a login; never an address or a session."""
    name: str = ""
    """Name to show; empty without a login."""
    admin: bool = False
    """True for an admin, who sees and may change everything."""
    also: str = ""
    """Another id of the same visitor: with a login, the cookie's, so that earlier things still belong to them."""
    login: Login | None = field(default=None, repr=False, compare=False)
    """Login at Hugging Face; None for a visitor without one."""

    @property
    def is_nobody(self) -> bool:
        """True where nothing can belong to this visitor, who cannot be recognized."""
        return not self.id and not self.admin

    @property
    def is_host(self) -> bool:
        """True for the user of the machine itself, who may name its files. An admin who comes by the page has an id."""
        return self.admin and not self.id

    @property
    def ids(self) -> Sequence[str]:
        """Ids of owners whose things are this visitor's, first the one for new things: "" for the host, whose things
        have no owner; none for a visitor who cannot be recognized."""
        return ("",) if self.is_host else tuple(filter(None, (self.id, self.also)))

    def owns(self, owner: str) -> bool:
        """Tell whether this visitor may change what belongs to `owner`. What has no owner is the admin's."""
        return self.admin or owner in self.ids


HOST = Visitor("", admin=True)
"""The user of RankViz on their own machine, or of its command line on any machine."""
SERVER = Visitor("server", admin=True)
"""A shared page itself, which reads everybody's runs for figures without names, and no file that the runs name."""
NOBODY = Visitor("")
"""A visitor of a shared page who cannot be recognized, and may see what is open to all."""

_current: ContextVar[Visitor | None] = ContextVar("visitor", default=None)


@contextmanager
def acting_as(visitor: Visitor) -> Iterator[None]:
    """Run the operations of the block as this visitor."""
    token = _current.set(visitor)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Visitor | None:
    """Return the visitor of the current request; None outside any request."""
    return _current.get()


def home_of(home: Path, owner: str) -> Path:
    """Return the folder for the things of an owner: the runs folder, or a visitor's folder in it."""
    if not owner:
        return home
    import hashlib  # loads OpenSSL, and the command line, which has no visitors, starts without

    return home / "visitors" / hashlib.sha256(owner.encode()).hexdigest()[:16]


def data_folder(home: Path, owner: str) -> Path:
    """Return the folder for the data files of an owner's runs, with one subfolder per content."""
    return home_of(home, owner) / "data"


def is_data_folder(home: Path, folder: Path) -> bool:
    """Tell whether this is the data folder of any owner."""
    visitors = home / "visitors"
    return folder == home / "data" or (folder.name == "data" and folder.parent.parent == visitors)
