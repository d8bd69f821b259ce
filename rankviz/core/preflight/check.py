"""One check of a machine: what was found, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem", "not needed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    name: str
    state: State
    found: str
    """One sentence."""
    remedy: str = ""
    """What to do, in one or two sentences; empty where there is nothing to do."""

    @property
    def sentence(self) -> str:
        return " ".join(part for part in (self.found, self.remedy) if part)
