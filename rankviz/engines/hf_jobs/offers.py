"""What can be rented now. Before a job starts this is asked in a thread, so that no other run waits for a network."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from rankviz.engines.hf_jobs import words
from rankviz.engines.hf_jobs.hub import Hub
from rankviz.engines.hf_jobs.prices import Flavor, require_limit, seconds_left
from rankviz.engines.hf_jobs.spending import Bill
from rankviz.errors import EngineError, EngineUnavailableError, InvalidSettingError, quoted

FRESH_SECONDS = 300.0
PAUSE_SECONDS = 30.0
"""After an error that nobody expected, they are asked for no sooner."""
WAIT_SECONDS = 5.0
"""The longest wait for them. Whoever comes later does not wait at all."""
ASKED = "Hugging Face is asked for its machines and their prices."
SLOW = "Hugging Face has not told its machines and their prices yet. Try again in a moment."
UNEXPECTED = "Its machines and their prices could not be read, because of an error of RankViz ({})."
_logger = logging.getLogger(__name__)


class _Question:
    """Asked once for all who wait."""

    def __init__(self, hub: Hub):
        self.hub = hub
        self.since = time.monotonic()
        self.flavors: Sequence[Flavor] = ()
        self.error: Exception | None = None
        self._done = threading.Event()
        threading.Thread(target=self._ask, name="machines of Hugging Face", daemon=True).start()

    @property
    def is_good(self) -> bool:
        """Whether it was answered, and the answer is still fresh."""
        return self._done.is_set() and self.error is None and time.monotonic() - self.since < FRESH_SECONDS

    @property
    def goes_on(self) -> bool:
        return not self._done.is_set()

    def wait(self) -> None:
        """EngineUnavailableError where that takes long."""
        if not self._done.wait(max(0.0, self.since + WAIT_SECONDS - time.monotonic())):
            raise EngineUnavailableError(SLOW)

    def _ask(self) -> None:
        try:
            self.flavors = self.hub.flavors()
        except Exception as error:
            self.error = error
        finally:
            self._done.set()


class Offers:
    """Machines, and what whoever queues runs chooses among them.

    Args:
        spend, flavor: Where options name none.
        retry_seconds: After Hugging Face could not be reached.
    """

    def __init__(self, *, spend: float, flavor: str, retry_seconds: float):
        self._spend, self._flavor, self._retry_seconds = spend, flavor, retry_seconds
        self._question: _Question | None = None
        self._lock = threading.Lock()
        self._troubles: WeakKeyDictionary[Hub, str] = WeakKeyDictionary()
        """Why an account could not be asked, when that was tried last; empty where it could."""
        self._asking: WeakKeyDictionary[Hub, threading.Thread] = WeakKeyDictionary()

    def flavors(self, hub: Hub) -> Sequence[Flavor]:
        """What can be rented now; asked once in some minutes, with the login of whoever comes first. Others who come
        meanwhile wait for the same answer, and ask with theirs where there was none. EngineUnavailableError."""
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until:
            with self._lock:
                question = self._question
                if question is None or not (question.goes_on or question.is_good):
                    question = self._question = _Question(hub)
            question.wait()
            if question.error is None:
                return question.flavors
            if question.hub is hub:
                raise question.error
        raise EngineUnavailableError(SLOW)

    def terms(self, hub: Hub, options: Mapping[str, str]) -> tuple[Flavor, float]:
        """The machine and the spending limit in US dollars that these options name. InvalidSettingError."""
        name, spend = options.get("flavor") or self._flavor, options.get("spend") or self._spend
        flavors = self.flavors(hub)
        flavor = next((each for each in flavors if each.name == name), None)
        if flavor is None:
            known = ", ".join(each.name for each in flavors)
            raise InvalidSettingError(f"Hugging Face has no flavor {quoted(name)}. It has: {known}.")
        try:
            usd = float(spend)
        except ValueError:
            raise InvalidSettingError(f"The spending limit must be a number of US dollars (got {spend!r}).") from None
        require_limit(usd)
        return flavor, usd

    def within(
        self, hub: Hub, options: Mapping[str, str], limit: float | None, bill: Bill
    ) -> tuple[Flavor, float, int]:
        """The same of a sweep that has this bill, with the job's time limit in seconds. EngineError where the rest does
        not pay for a job.

        Args:
            limit: That its sweep was given last, maybe after these options, in US dollars; None where it had none.
        """
        flavor, usd = self.terms(hub, options if limit is None else {**options, "spend": repr(limit)})
        try:
            return flavor, usd, seconds_left(usd, bill.most_usd, flavor.usd_per_minute, is_whole=bill.is_whole)
        except InvalidSettingError as error:  # who looks at a run of another sees no dollars
            raise EngineError(words.USED_UP) from error

    def require(self, hub: Hub) -> None:
        """EngineUnavailableError, and they are asked for, unless machines and the account's name are here."""
        if self._are_fresh and self._troubles.get(hub) == "":
            return
        thread = self._asking.get(hub)
        if thread is None or not thread.is_alive():
            thread = self._asking[hub] = threading.Thread(target=self._ask, args=(hub,), daemon=True)
            thread.start()
        raise EngineUnavailableError(self._troubles.get(hub) or ASKED)

    @property
    def _are_fresh(self) -> bool:
        return self._question is not None and self._question.is_good

    def _ask(self, hub: Hub) -> None:
        try:
            _ = hub.name
            self.flavors(hub)
            self._troubles[hub] = ""
        except (EngineError, EngineUnavailableError) as error:
            self._troubles[hub] = str(error)
            time.sleep(self._retry_seconds)
        except Exception as error:
            _logger.exception("The machines of Hugging Face could not be read")
            self._troubles[hub] = UNEXPECTED.format(type(error).__name__)
            time.sleep(max(self._retry_seconds, PAUSE_SECONDS))
