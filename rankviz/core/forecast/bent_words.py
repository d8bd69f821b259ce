"""A forecast between own runs in sentences: what it rests on, how such bands have held, and what a third run did."""

from collections.abc import Iterable, Mapping, Sequence

from rankviz.core.forecast.bands import Bands
from rankviz.core.runs.tradeoff import NOISE_NOT_MEASURED
from rankviz.units import counted


def basis_words(ranks: Sequence[int], noise: float, known: bool, without: Sequence[int]) -> Iterable[str]:
    """What the band rests on. noise: of one run, nats. without: ranks whose runs ended without a finite loss."""
    if known:
        origin = f"The noise of one run ({noise:.3f} nats) is measured by the repeats of this sweep."
    else:
        origin = f"{NOISE_NOT_MEASURED} The band assumes {noise:g} nats, the value with which such bands were checked."
    yield f"Held-out loss in nats between your runs at r = {', '.join(map(str, ranks))}. {origin}"
    yield (
        "The band shows where one more run would land. Nothing is forecast below your lowest or above your highest "
        "rank."
    )
    for r in without:
        yield f"{no_finite_loss(r)}, so the forecast does not use it."


def no_finite_loss(r: int) -> str:
    return f"r = {r} ended without a finite loss"


def record_words(bands: Bands, *, fixed_alpha: bool, checked: bool) -> str:
    """How such bands have held, where runs of this kind were checked."""
    if not fixed_alpha:
        return (
            "Not validated: alpha differs between your ranks, so at one learning rate their losses mostly show step "
            "size. Such bands were compared with independent runs at fixed alpha only."
        )
    if not checked:
        return (
            "Not validated: the band was not checked for such runs. It was checked for two ranks with one run each, "
            "one at most r = 4 and one at least r = 32, at one learning rate."
        )
    if bands.bent_inside_80 is None or bands.bent_inside_80_left_out is None:
        return "Not validated: such bands have not been compared with independent runs."
    inside, left_out = (f"{100 * share:.0f} %" for share in (bands.bent_inside_80, bands.bent_inside_80_left_out))
    return (
        f"{'' if bands.bent_validated else 'Not validated: '}Such 80 % bands from two runs held {inside} of "
        f"{bands.bent_runs} independent runs between them, and {left_out} with the settings of the band chosen on "
        "other sweeps."
    )


def third_run_words(third: int | None, bands: Bands) -> Iterable[str]:
    """What a third run at this rank may be worth; nothing where it is not offered."""
    if third is None:
        return
    yield f"Your two runs differ by more than their noise, so a third run at r = {third} says how the loss falls."
    if bands.third_run:
        yield third_run_record(bands.third_run)


def third_run_record(record: Mapping[str, Mapping[str, float]]) -> str:
    """Errors and widths with two and with three measured runs, at the ranks that were left."""
    two, three = record["two"], record["three"]
    (median, median_3), (mean, mean_3), (width, width_3) = (
        (two[name], three[name]) for name in ("bent_median_error", "bent_mean_error", "mean_width_80")
    )
    return (
        f"In a check at {counted(two['runs'], 'point')}, a third run moved the median error of the forecast from "
        f"{median:.3f} to {median_3:.3f} nats, the mean error from {mean:.3f} to {mean_3:.3f} and the width of the "
        f"80 % band from {width:.3f} to {width_3:.3f}; the band held {_held(two)} points, then {_held(three)}."
    )


def _held(record: Mapping[str, float]) -> int:
    return round(record["inside_80"] * record["runs"])
