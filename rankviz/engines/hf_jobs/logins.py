"""Who is logged in at Hugging Face, in memory alone: a token is never written down, and goes with the app.

On a shared page each visitor's token serves that visitor's jobs only. On a machine of one's own it is HF_TOKEN, or the
login of this machine.
"""

import math
import threading
import time
from dataclasses import dataclass, field

from rankviz.engines.hf_jobs.hub import Hub
from rankviz.errors import EngineUnavailableError

LOGIN = (
    "It waits for its owner's login at Hugging Face: the page keeps no token. Log in, and what the job did meanwhile "
    "is read."
)
MAX_REJECTED = 20
"""Of one owner, that are remembered."""
NO_TOKEN = "It waits for a login at Hugging Face: set HF_TOKEN, or run `hf auth login`."


@dataclass(slots=True)
class _Login:
    hub: Hub
    expires_at: float

    @property
    def is_over(self) -> bool:
        return self.hub.rejected or self.expires_at <= time.time()


@dataclass
class Logins:
    """By the visitor's id.

    Args:
        endpoint: Of the Hub; None is that of huggingface_hub.
        of_machine: Whether the token of this machine serves the jobs that have no owner.
    """

    endpoint: str | None = None
    of_machine: bool = True
    _known: dict[str, _Login] = field(default_factory=dict)
    _rejected: dict[str, set[str]] = field(default_factory=dict)
    """Tokens of an owner that Hugging Face did not accept, and that take nobody's place."""
    _ended_at: dict[str, float] = field(default_factory=dict)
    """When an owner logged out last, by the clock of requests."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def give(
        self, owner: str, token: str, name: str = "", expires_at: float = math.inf, *, came_at: float = math.inf
    ) -> Hub | None:
        """A visitor has logged in. Returns their Hub; None where they have logged out since.

        One who is logged in twice, on a laptop and on a phone, has one Hub, which what works goes on with: it takes the
        token that lasts longer.

        Args:
            name: Of the account; it is asked for where it is not given.
            came_at: When the request came that brings the token.
        """
        with self._lock:
            if came_at <= self._ended_at.get(owner, -math.inf):
                return None
            known = self._known.get(owner)
            if known is not None and not known.is_over and known.hub.token != token and known.hub.is_of(name):
                if expires_at > known.expires_at and token not in self._rejected.get(owner, ()):
                    known.hub.renew(token)
                    known.expires_at = expires_at
                return known.hub
            if known is None or known.is_over or known.hub.token != token:
                self._drop(owner)
                known = self._known[owner] = _Login(Hub(token, name, self.endpoint), expires_at)
            known.expires_at = expires_at
            return known.hub

    def forget(self, owner: str) -> None:
        """They have logged out. A request that came before brings no login back, however long it takes."""
        with self._lock:
            self._ended_at[owner] = time.monotonic()
            self._drop(owner)
            self._rejected.pop(owner, None)

    def of(self, owner: str) -> Hub | None:
        """None where nobody is logged in, or the login has ended. The token of this machine is read each time: it may
        be another account's by now."""
        if not owner and self.of_machine:
            if token := machine_token():
                return self.give("", token)
            self.forget("")
        with self._lock:
            known = self._known.get(owner)
            if known is not None and known.is_over:
                self._drop(owner)
                known = None
        return known.hub if known else None

    def require(self, owner: str) -> Hub:
        """EngineUnavailableError where nobody is logged in."""
        hub = self.of(owner)
        if hub is None:
            raise EngineUnavailableError(self.sentence(owner))
        return hub

    def _drop(self, owner: str) -> None:
        known = self._known.pop(owner, None)
        if known is not None and known.hub.rejected:
            rejected = self._rejected.setdefault(owner, set())
            if len(rejected) >= MAX_REJECTED:
                rejected.clear()
            rejected.add(known.hub.token)

    def sentence(self, owner: str) -> str:
        """Why a job of theirs waits where nobody is logged in."""
        return LOGIN if owner or not self.of_machine else NO_TOKEN


def machine_token() -> str:
    """HF_TOKEN, or what `hf auth login` left; empty where there is neither."""
    from huggingface_hub import get_token

    return get_token() or ""
