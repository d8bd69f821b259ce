"""The quality forecast beside an advice: what it gives for the recommended rank, and whether the lead is inside it."""

from rankviz.core.advice.advice import Advice
from rankviz.core.forecast.bands import UNITS, Forecast, RankForecast
from rankviz.core.forecast.words import UNIT_WORDS
from rankviz.units import counted


def at_recommended(advice: Advice, forecast: Forecast) -> RankForecast:
    """The forecast's row for the recommended rank."""
    return next(row for row in forecast.ranks if row.r == advice.r)


def lead_shortfall(advice: Advice, forecast: Forecast) -> float | None:
    """How far the lead's line fell short of the forecast's reference rank at the recommended one, in the forecast's
    unit; None where the line has another unit or lacks one of the two ranks."""
    lead = advice.findings.lead
    if lead is None or UNITS[lead.metric] != forecast.unit:
        return None
    short = {point.rank: lead.short(point) for point in lead.line.points}
    if advice.r not in short or forecast.reference_rank not in short:
        return None
    return short[advice.r] - short[forecast.reference_rank]


def forecast_sentence(advice: Advice, forecast: Forecast) -> str:
    """What the forecast gives for the recommended rank, in the unit of the lead."""
    row, unit, reference = at_recommended(advice, forecast), UNIT_WORDS[forecast.unit], forecast.reference_rank
    lines = counted(forecast.lines, "published line")
    band = f"80 % band {_signed(row.low_80)} to {_signed(row.high_80)}"
    text = f"Forecast from {lines}: r = {row.r} is {_signed(row.median)} {unit} short of r = {reference} ({band})."
    if not forecast.validated:
        text += " This band is not validated."
    short = lead_shortfall(advice, forecast)
    if short is None:
        return text
    where = "inside" if row.low_80 <= short <= row.high_80 else "outside"
    return f"{text} The nearest study, {_signed(short)} short of it, lies {where} this band."


def _signed(value: float) -> str:
    return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")
