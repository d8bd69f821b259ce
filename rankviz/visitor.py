"""Who asks. On one's own machine there is only its owner; on a shared page each request has a visitor.

Operations ask `current()` for it, so that it need not be handed through every one of them. Also where a visitor's own
files are kept.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


class Login:
    """At Hugging Face, for this request: kept in memory, never written down. No dataclass, so that whatever writes a
    visitor as JSON fails unless it leaves the login out."""

    __slots__ = ("came_at", "expires_at", "token")

    def __init__(self, token: str, expires_at: float = float("inf")):
        """expires_at: unix seconds."""
        self.token = token
        self.expires_at = expires_at
        self.came_at = time.monotonic()
        """When the request came, by a clock that nobody sets."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody whose things are told apart from those of others."""

    id: str
    """Never an address or a session: a signed cookie's, or the stable one of a login."""
    name: str = ""
    """To be shown; empty of one who is not logged in."""
    admin: bool = False
    """Sees and may change everything."""
    also: str = ""
    """Another id of the same visitor: of one who is logged in, the cookie's, so that what was made before is theirs."""
    login: Login | None = field(default=None, repr=False, compare=False)
    """None of one who is not logged in at Hugging Face."""

    @property
    def is_nobody(self) -> bool:
        """Whether nothing can belong to them, since nobody can tell who they are."""
        return not self.id and not self.admin

    @property
    def is_host(self) -> bool:
        """Whether they use the machine itself, and so may name its files. An admin who comes by the page has an id."""
        return self.admin and not self.id

    @property
    def ids(self) -> Sequence[str]:
        """All that things which they made may belong to, first that of new ones. Of the host it is empty, since what
        they make has no owner; nobody has none."""
        return ("",) if self.is_host else tuple(filter(None, (self.id, self.also)))

    def owns(self, owner: str) -> bool:
        """Whether what belongs to `owner` may be changed. What has no owner is the admin's."""
        return self.admin or owner in self.ids


HOST = Visitor("", admin=True)
"""Who uses RankViz on their own machine, or its command line on any."""
SERVER = Visitor("server", admin=True)
"""A shared page itself, which looks at everybody's runs for figures that name nobody, and at no file that they name."""
NOBODY = Visitor("")
"""A visitor of a shared page who could not be told: may look at what is open to all."""

_current: ContextVar[Visitor | None] = ContextVar("visitor", default=None)


@contextmanager
def acting_as(visitor: Visitor) -> Iterator[None]:
    """Within it, operations are asked for by this visitor."""
    token = _current.set(visitor)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Visitor | None:
    """The visitor of the request that is being answered; None outside any."""
    return _current.get()


def home_of(home: Path, owner: str) -> Path:
    """Where what belongs to somebody is kept, beside the runs: the runs folder, or a visitor's part of it."""
    if not owner:
        return home
    import hashlib  # loads OpenSSL, and the command line, which has no visitors, starts without

    return home / "visitors" / hashlib.sha256(owner.encode()).hexdigest()[:16]


def data_folder(home: Path, owner: str) -> Path:
    """Where the data files of somebody's runs are kept, a folder for each content."""
    return home_of(home, owner) / "data"


def is_data_folder(home: Path, folder: Path) -> bool:
    """Whether this is such a folder, of whomever."""
    visitors = home / "visitors"
    return folder == home / "data" or (folder.name == "data" and folder.parent.parent == visitors)
