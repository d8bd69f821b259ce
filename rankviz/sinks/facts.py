"""What is known of a run and of a sweep, as far as others may know it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rankviz import units
from rankviz.catalog import models
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.timing.spent import DeviceTime, Rent
from rankviz.errors import InvalidSettingError
from rankviz.paths import ASSETS, is_hub_id
from rankviz.references import EMBEDDED, EMBEDDED_ID

LEFT_OUT = ("loaded_from",)
"""Of the environment: it may be the name of a private folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """A run with what stands beside it."""

    record: RunRecord
    base_model: str
    """Its Hub id."""
    estimate: RunEstimate | None = None
    """None where the base is not available."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepFacts:
    """The runs that are published, and what the whole sweep says."""

    id: str
    """Of the sweep or the run that was named."""
    sweep_id: str
    runs: Sequence[RunFacts]
    verdict: Sequence[str] = ()
    """In sentences, the most important first; empty where there is none."""
    all_runs: Sequence[RunRecord] = field(default_factory=tuple)
    """Of the sweep, which the verdict is on."""
    time: DeviceTime = field(default_factory=DeviceTime)
    """Of machines, over all attempts of all runs of the sweep."""
    rent: Rent | None = None
    """Of the machines that the whole sweep has rented, without a spending limit; None where it rented none."""

    @property
    def cost_in_words(self) -> Iterator[tuple[str, str]]:
        """Name and value."""
        if self.time.in_words:
            yield "Machine time of the whole sweep, all attempts", self.time.in_words
        if self.rent:
            yield "Rented machines, for the whole sweep", self.rent.in_words or units.NOT_KNOWN

    @property
    def cost(self) -> Mapping[str, float | bool | None]:
        """Of the whole sweep: seconds of machines over all attempts, and US dollars of rented ones, None where there
        were none or it is not known. What is not whole is at least so much."""
        rent = self.rent or Rent(usd=None, is_whole=True, limit_usd=None)
        return {
            "sweep_device_seconds": self.time.seconds or None,
            "sweep_device_seconds_is_whole": self.time.is_whole,
            "sweep_usd": rent.usd if rent.in_words else None,
            "sweep_usd_is_whole": rent.is_whole,
        }


def known_base(request: RunRequest) -> str:
    """The Hub id of a run's base; empty where it was trained from a folder."""
    return _hub_id(request.base)


def hub_base(request: RunRequest, given: str = "") -> str:
    """The Hub id of a run's base. InvalidSettingError where it was trained from a folder and no id is given, or from
    another base than the given one."""
    known = known_base(request)
    if known and given and _hub_id(given) != known:
        raise InvalidSettingError(f"This run was trained from {known}, not from {given}: leave the base model out.")
    if base := known or given:
        return base
    raise InvalidSettingError(
        "The base of this run is a folder, and others need its id on the Hub: give the base model as owner/name."
    )


def _hub_id(base: str) -> str:
    """Of the embedded base, one of the catalogue by any of its names, or any other on the Hub; empty of a folder."""
    if base == EMBEDDED:
        return EMBEDDED_ID
    rows = models.load_index(ASSETS)
    if models.is_known(rows, base):
        return models.full_name(rows, base)
    return base if is_hub_id(base) else ""


def data_label(request: RunRequest) -> str:
    """A sample's name, or a file's name without its folder."""
    return Path(request.data).name


def public_request(run: RunFacts) -> Mapping[str, Any]:
    """The request as JSON, with the base's Hub id and without a path of the machine."""
    return {**asdict(run.record.request), "base": run.base_model, "data": data_label(run.record.request)}


def public_environment(record: RunRecord) -> Mapping[str, Any]:
    """Where it ran, without a path of the machine."""
    return without_paths({name: value for name, value in record.environment.items() if name not in LEFT_OUT})


def without_paths(value: Any) -> Any:
    """The same with only the last part of each text that is a path."""
    if isinstance(value, Mapping):
        return {str(name): without_paths(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(each) for each in value]
    if isinstance(value, str) and value.startswith(("/", "~/", "\\")):
        return Path(value).name
    return value
