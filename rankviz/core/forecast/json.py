"""A forecast as flat JSON: what the command line and the endpoint print. Keys may be added, none renamed."""

from dataclasses import asdict
from typing import Any

from rankviz.core.forecast.bands import Forecast
from rankviz.core.forecast.bent import BentForecast
from rankviz.core.from_json import shape

ForecastJSON = shape(Forecast)
BentForecastJSON = shape(BentForecast)
DIGITS = 4


def as_json(forecast: Forecast) -> ForecastJSON:
    """Of a forecast from published lines; shortfall from the reference rank, positive is worse."""
    return {
        **asdict(forecast),
        "ranks": [_rounded(asdict(rank)) for rank in forecast.ranks],
        "facts": list(forecast.facts),
        "sentences": list(forecast.sentences),
    }


def bent_json(bent: BentForecast) -> BentForecastJSON:
    """Of a forecast between a sweep's own runs; held-out loss, nats."""
    return {
        **asdict(bent),
        "runs": [run._asdict() for run in bent.runs],
        "ranks": [_rounded(asdict(rank)) for rank in bent.ranks],
        "sentences": list(bent.sentences),
    }


def _rounded(rank: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in rank.items()}
