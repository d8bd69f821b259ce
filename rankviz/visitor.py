"""The visitor of a request: on a user's own machine the user, on a shared page its sender. Also the visitors' folders.
Operations call `current()`, so that functions need not pass the visitor on."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


class Login:
    """A login at Hugging Face for one request: in memory only, never written to disk. Not a dataclass, so that writing
    a visitor as JSON fails unless the login is left out."""

    __slots__ = ("came_at", "expires_at", "token")

    def __init__(self, token: str, expires_at: float = float("inf")):
        """Make a login. expires_at: Unix seconds."""
        self.token = token
        self.expires_at = expires_at
        self.came_at = time.monotonic()
        """Time of the request on the monotonic clock, seconds."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person whose runs and files are kept apart from those of other visitors."""

    id: str
    """Id from a signed cookie, or the stable id of a login. An IP address or a session is never an id."""
    name: str = ""
    """Name to show; empty for a visitor without a login."""
    admin: bool = False
    """True for an admin, who sees and may change everything."""
    also: str = ""
    """Another id of the same visitor: after a login the cookie's, for earlier runs and files."""
    login: Login | None = field(default=None, repr=False, compare=False)
    """Login at Hugging Face; None for a visitor without one."""

    @property
    def is_nobody(self) -> bool:
        """True where the visitor cannot be recognized, and so can own nothing."""
        return not self.id and not self.admin

    @property
    def is_host(self) -> bool:
        """True for the user of the machine itself, who may name its files; an admin of the page has an id instead."""
        return self.admin and not self.id

    @property
    def ids(self) -> Sequence[str]:
        """Owner ids of runs and files that belong to this visitor; new ones get the first id. The host's id is "",
        since things of the host have no owner. Empty for a visitor who cannot be recognized."""
        return ("",) if self.is_host else tuple(filter(None, (self.id, self.also)))

    def owns(self, owner: str) -> bool:
        """Tell whether this visitor may change things of `owner`. An admin may change everything."""
        return self.admin or owner in self.ids


HOST = Visitor("", admin=True)
"""The user of RankViz on their own machine, or of its command line anywhere."""
SERVER = Visitor("server", admin=True)
"""The server of a shared page itself. It reads all runs for figures without names, but no file that a run names."""
NOBODY = Visitor("")
"""A visitor of a shared page who cannot be recognized, and sees only runs that are open to all."""

_current: ContextVar[Visitor | None] = ContextVar("visitor", default=None)


@contextmanager
def acting_as(visitor: Visitor) -> Iterator[None]:
    """Run the block's operations as this visitor."""
    token = _current.set(visitor)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Visitor | None:
    """Return the visitor of the current request; None outside any request."""
    return _current.get()


def home_of(home: Path, owner: str) -> Path:
    """Return the folder of an owner's files: the runs folder itself for the host, else a visitor's folder in it."""
    if not owner:
        return home
    import hashlib  # loads OpenSSL, and the command line, which has no visitors, starts without

    return home / "visitors" / hashlib.sha256(owner.encode()).hexdigest()[:16]


def data_folder(home: Path, owner: str) -> Path:
    """Return the folder for the data files of an owner's runs, with one subfolder per file content."""
    return home_of(home, owner) / "data"


def is_data_folder(home: Path, folder: Path) -> bool:
    """Tell whether a folder is the data folder of any owner."""
    visitors = home / "visitors"
    return folder == home / "data" or (folder.name == "data" and folder.parent.parent == visitors)
