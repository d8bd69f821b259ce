"""A forecast in sentences: what it does not tell, what holds over published studies, and how such bands have held."""

from collections.abc import Mapping, Sequence
from typing import Any

from rankviz.core.forecast.bands import (
    ANY,
    ENOUGH_INSIDE,
    ENOUGH_POINTS,
    ENOUGH_PUBLICATIONS,
    LOSS,
    UNITS,
    Bands,
    Forecast,
    Metric,
    RankForecast,
    rank_forecasts,
)
from rankviz.core.forecast.curve import GRID
from rankviz.core.studies.lines import RL
from rankviz.units import counted

KINDS = {
    "simple": "simple tasks",
    "instruct": "instruction tuning",
    "math-code": "math and code",
    "shift": "a shifted domain or continued pretraining",
    ANY: "tasks of any kind",
    RL: "reinforcement learning",
    LOSS: "held-out loss",
}
UNIT_WORDS = {"points": "points", "percent_of_loss": "% of the loss"}
QUALITY_WORDS = {"points": "scores", "percent_of_loss": "losses"}
"""What its points are."""
HEADING = (
    "Model and task alone do not tell which rank you need: published results differ more by data and learning rate "
    "than by rank."
)
NO_SCORE_OF_RL = (
    "No score is forecast for reinforcement learning: its published studies are few and disagree. No loss is either: "
    "published losses are of supervised training. The recommendation tells what the studies found."
)
RELIABLE = 0.2
"""A share is called not reliable where publications that were left out were farther from it, on average."""
NOISE_INSIDE = "The band includes the noise of two runs and of their test sets."


def forecast(bands: Bands, metric: Metric, task: str, ranks: Sequence[int] = GRID) -> Forecast:
    """The band at these ranks, with its record and sentences.

    Args:
        bands: From assets/forecast.json.
        metric: Losses do not depend on the task: all come from one kind of data, and none from reinforcement learning.
        task: The kind of score that the use case stands for, by KIND_OF_USE_CASE.
        ranks: Any from 1 to 256.
    """
    kind = LOSS if metric == LOSS and task != RL else task
    band, checked, unit = bands.bands[metric], bands.left_out.get(kind), UNITS[metric]
    rows = () if kind == RL else rank_forecasts(band, ranks)
    facts = (NO_SCORE_OF_RL,) if task == RL else fact_words(bands, task)
    basis = (
        f"Shortfall from r = {bands.reference_rank} in {UNIT_WORDS[unit]}, the same for every model and task. Half of "
        "the band is the rule of thumb with its errors, half is no difference between ranks; both are from "
        f"{counted(band.lines, 'published line')} of {counted(band.studies, 'publication')}."
    )
    return Forecast(
        unit=unit,
        kind=kind,
        reference_rank=bands.reference_rank,
        studies=band.studies,
        lines=band.lines,
        coverage_80_left_out=checked.inside_80 if checked else None,
        validated=bool(checked and checked.validated),
        ranks=rows,
        heading=HEADING,
        facts=facts,
        sentences=(HEADING, *facts)
        if kind == RL
        else (
            HEADING,
            *facts,
            basis,
            coverage_words(bands, kind),
            *error_words(bands, kind, unit),
            NOISE_INSIDE,
            *untested_words(rows),
        ),
    )


def fact_words(bands: Bands, kind: str) -> tuple[str, ...]:
    """What holds over published studies: for this kind of score where enough publications bear it out, else for all."""
    return tuple(filter(None, (_within_noise(bands, kind), _high_rank(bands, kind), _rate(bands))))


def _of_kind(bands: Bands, statement: str, kind: str) -> Mapping[str, Any] | None:
    """The row of this kind where it is reliable, else that of all scores."""
    rows = bands.holds[statement]
    return rows[kind] if kind in rows and _is_reliable(rows[kind]) else rows.get(ANY)


def _is_reliable(held: Mapping[str, Any]) -> bool:
    return held["left_out_error"] is None or held["left_out_error"] <= RELIABLE


def _within_noise(bands: Bands, kind: str) -> str:
    held = _of_kind(bands, "low_within_noise", kind)
    return f"r = 16 scored within noise of the best rank in {_record(held)}, each taken alone." if held else ""


def _high_rank(bands: Bands, kind: str) -> str:
    score, loss = _of_kind(bands, "high_worse", kind), bands.holds["high_worse_loss"].get(LOSS)
    if score is None or loss is None:
        return ""
    how = "never" if not loss["share"] else f"in {_percent(loss['share'])} of publications"
    return (
        f"r = 64 was {how} 0.5 % of a loss worse than r = 16 ({counted(loss['lines'], 'line')}, "
        f"{counted(loss['publications'], 'publication')}), and more than a point worse in {_record(score)}."
    )


def _record(held: Mapping[str, Any]) -> str:
    """ "90 % of 20 publications (159 lines; a publication that was left out was 13 percentage points off)"."""
    of = "" if held["kind"] == ANY else f" on {KINDS[held['kind']]}"
    apart = ""
    if held["left_out_error"] is not None:
        doubt = "" if _is_reliable(held) else "not reliable: "
        apart = f"; {doubt}a publication that was left out was {100 * held['left_out_error']:.0f} percentage points off"
    publications, lines = counted(held["publications"], "publication"), counted(held["lines"], "line")
    return f"{_percent(held['share'])} of {publications}{of} ({lines}{apart})"


def _rate(bands: Bands) -> str:
    if bands.rate is None:
        return ""
    (least, most), (low, high) = bands.rate["times"], bands.rate["worse_at_3"]
    return (
        "In {models} models of one study, a learning rate {least:g} to {most:g} times too low raised the loss by "
        "{rate_cost:.1f} %, and training at a quarter of the rank raised it by {rank_cost:.1f} % (medians). The "
        "learning rate cost more in {worse} of them; a rate 3 times too low would cost more in an estimated {low} to "
        "{high}."
    ).format(least=least, most=most, low=low, high=high, **bands.rate)


def untested_words(rows: Sequence[RankForecast]) -> tuple[str, ...]:
    """At which ranks the band rests on other ranks alone."""
    untested = [str(row.r) for row in rows if row.extrapolated and row.r in GRID]
    if not untested:
        return ()
    return (f"No published line has a point at r = {', '.join(untested)}: the band is extrapolated there.",)


def coverage_words(bands: Bands, kind: str) -> str:
    """How the band held the points of this kind, and whether that counts as validated."""
    checked = bands.left_out.get(kind)
    if checked is None:
        return "Not validated: no publication of this kind could be left out."
    record = (
        f"with whole publications left out, the 80 % band held {_percent(checked.inside_80)} of {checked.points} "
        f"points of {KINDS[kind]} ({checked.publications} publications; {_percent(checked.inside_80_by_publication)} "
        "with each publication weighing the same)"
    )
    if checked.validated:
        return f"{record[0].upper()}{record[1:]}."
    return (
        f"Not validated: {record}. A validated kind needs {_percent(ENOUGH_INSIDE)} in both counts, from at least "
        f"{ENOUGH_POINTS} points and {ENOUGH_PUBLICATIONS} publications, and a mean error no larger than that of "
        '"no difference between ranks".'
    )


def error_words(bands: Bands, kind: str, unit: str) -> tuple[str, ...]:
    """The mean error of the whole band beside those of simpler forecasts; nothing where none was measured."""
    checked = bands.left_out.get(kind)
    if checked is None:
        return ()
    return (
        f"In that test the mean error of the band (CRPS, {UNIT_WORDS[unit]}) was {checked.crps:.2f}; the forecast "
        f'"no difference between ranks" had {checked.crps_no_difference:.2f}, with a band '
        f"{checked.crps_no_difference_band:.2f}, and the rule of thumb with a band {checked.crps_rule:.2f}.",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
