"""What can be rented now. Before a job starts this is asked in a thread, so that no other run waits for a network."""

import threading
import time
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from rankviz.engines.hf_jobs.hub import Hub
from rankviz.engines.hf_jobs.prices import Flavor, timeout_seconds
from rankviz.errors import EngineError, EngineUnavailableError, InvalidSettingError, quoted

FRESH_SECONDS = 300.0
ASKED = "Hugging Face is asked for its machines and their prices."


class Offers:
    """Machines, and what whoever queues runs chooses among them.

    Args:
        spend, flavor: Where options name none.
        retry_seconds: After Hugging Face could not be reached.
    """

    def __init__(self, *, spend: float, flavor: str, retry_seconds: float):
        self._spend, self._flavor, self._retry_seconds = spend, flavor, retry_seconds
        self._flavors: tuple[float, Sequence[Flavor]] = (-FRESH_SECONDS, ())
        self._troubles: WeakKeyDictionary[Hub, str] = WeakKeyDictionary()
        """Why an account could not be asked, when that was tried last; empty where it could."""
        self._asking: WeakKeyDictionary[Hub, threading.Thread] = WeakKeyDictionary()

    def flavors(self, hub: Hub) -> Sequence[Flavor]:
        """What can be rented now; asked once in some minutes."""
        if not self._are_fresh:
            self._flavors = time.monotonic(), hub.flavors()
        return self._flavors[1]

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
        timeout_seconds(usd, flavor.usd_per_minute)
        return flavor, usd

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
        return time.monotonic() - self._flavors[0] < FRESH_SECONDS

    def _ask(self, hub: Hub) -> None:
        try:
            _ = hub.name
            self.flavors(hub)
            self._troubles[hub] = ""
        except (EngineError, EngineUnavailableError) as error:
            self._troubles[hub] = str(error)
            time.sleep(self._retry_seconds)
