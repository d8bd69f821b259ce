"""A forecast in sentences: what it rests on, how such bands have held, and what it does not say."""

from collections.abc import Sequence

from rankviz.core.forecast.bands import (
    ENOUGH_INSIDE,
    ENOUGH_POINTS,
    ENOUGH_PUBLICATIONS,
    LOSS,
    Band,
    Bands,
    Forecast,
    RankForecast,
    rank_forecasts,
)
from rankviz.core.forecast.curve import GRID, REFERENCE_RANK
from rankviz.units import count, counted

KINDS = {
    "simple": "simple tasks",
    "instruct": "instruction tuning",
    "math-code": "math and code",
    "shift": "a shifted domain or continued pretraining",
    "any": "tasks of any kind",
    LOSS: "held-out loss",
}
UNIT_WORDS = {"points": "points", "percent_of_loss": "% of the loss"}
QUALITY_WORDS = {"points": "scores", "percent_of_loss": "losses"}
"""What its points are."""
NOT_A_CHOICE = (
    "The forecast shows what published runs did. It has not been shown to choose a better rank than a fixed rank of "
    "the same size does."
)
RULE_DID = {
    "better": "; the rule of thumb with a band did better",
    "as well": "; the rule of thumb with a band did as well",
    "worse": "",
}
BASE_ASSUMED = (
    "The name does not say whether this is a base model. It is taken as a base model: give --instruct if it is not."
)
NOISE_INSIDE = "The band includes the noise of two runs and of their test sets."


def forecast(
    bands: Bands, band: Band, unit: str, ranks: Sequence[int] = GRID, *, base_assumed: bool = False
) -> Forecast:
    """The band at these ranks, with the record of its kind and sentences.

    base_assumed: nothing says whether the model is a base model; that it is one is an assumption.
    """
    checked = bands.left_out.get(band.kind)
    rows = rank_forecasts(band, ranks)
    return Forecast(
        unit=unit,
        kind=band.kind,
        reference_rank=bands.reference_rank,
        studies=band.studies,
        lines=band.lines,
        coverage_80_left_out=checked.inside_80 if checked else None,
        validated=bool(checked and checked.validated),
        ranks=rows,
        sentences=tuple(_sentences(bands, band, unit, rows, base_assumed)),
    )


def _sentences(bands: Bands, band: Band, unit: str, rows: Sequence[RankForecast], base_assumed: bool) -> list[str]:
    basis = f"{counted(band.lines, 'published line')} of {counted(band.studies, 'publication')}"
    about = f"{KINDS[band.kind]} ({size_words(band)})" if band.kind == LOSS else KINDS[band.kind]
    sentences = [
        f"Shortfall from r = {bands.reference_rank} in {UNIT_WORDS[unit]}, for {about}, from {basis}.",
        *([BASE_ASSUMED] if base_assumed and band.kind == LOSS else []),
        coverage_words(bands, band),
        *error_words(bands, band, unit),
        NOISE_INSIDE,
    ]
    return [*sentences, *untested_words(band, rows), NOT_A_CHOICE]


def untested_words(band: Band, rows: Sequence[RankForecast]) -> tuple[str, ...]:
    """At which ranks the band rests on other ranks alone; that the reference rank is one of them concerns all."""
    untested = [row.r for row in rows if row.extrapolated]
    if not untested:
        return ()
    gap = f"No published line of this kind has a point at {_listed(untested)}: the band is extrapolated there."
    if band.lines_at_rank.get(REFERENCE_RANK):
        return (gap,)
    return gap, f"The reference rank r = {REFERENCE_RANK} is extrapolated too, so every shortfall rests on that."


def size_words(band: Band) -> str:
    """ "base model of 1.24 B parameters"."""
    return f"{'base' if band.base else 'instruction-tuned'} model of {count(round(band.parameters))} parameters"


def coverage_words(bands: Bands, band: Band) -> str:
    """The measured coverage of this kind beside the rule of thumb, and whether that counts as validated."""
    checked = bands.left_out.get(band.kind)
    if checked is None:
        return "Not validated: no publication of this kind could be left out."
    record = (
        f"with whole publications left out, the 80 % band held {_percent(checked.inside_80)} of {checked.points} "
        f"points ({checked.publications} publications; {_percent(checked.inside_80_by_publication)} with each "
        f"publication weighing the same){RULE_DID[checked.rule_did]}"
    )
    if checked.validated:
        return f"{record[0].upper()}{record[1:]}."
    return (
        f"Not validated: {record}. A validated kind needs {_percent(ENOUGH_INSIDE)} in both counts, from at least "
        f"{ENOUGH_POINTS} points and {ENOUGH_PUBLICATIONS} publications, and a mean error no larger than that of "
        '"no difference between ranks".'
    )


def error_words(bands: Bands, band: Band, unit: str) -> tuple[str, ...]:
    """The mean error of the whole band beside those of simpler forecasts; nothing where none was measured."""
    checked = bands.left_out.get(band.kind)
    if checked is None:
        return ()
    return (
        f"In that test the mean error of the band (CRPS, {UNIT_WORDS[unit]}) was {checked.crps:.2f}; the forecast "
        f'"no difference between ranks" had {checked.crps_no_difference:.2f} and the rule of thumb with a band '
        f"{checked.crps_rule:.2f}.",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _listed(ranks: Sequence[int]) -> str:
    names = [str(r) for r in ranks]
    return "r = " + (" and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}")
