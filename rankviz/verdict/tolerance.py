"""How small a difference must be to count as none: in nats or points, or as a share of what training gained."""

import math

from rankviz.core.runs.metric import Metric
from rankviz.errors import InvalidSettingError


def tolerance_in(metric: Metric, tolerance: float | str, *, best: float, base: float | None) -> float:
    """0.02 or "0.02" is nats or points; "2%" is a share of the gain, base - best: losses, or errors in points."""
    text = str(tolerance).strip()
    share = text.endswith("%")
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InvalidSettingError(
            f"The tolerance must be in {metric.units}, such as {metric.tolerance:g}, or a share of the gain, such as "
            f"2% (got {text!r})."
        )
    if not share:
        return value
    if base is None:
        raise InvalidSettingError(
            f"A tolerance as a share of the gain needs the {metric.noun} of the base: give it, or give the tolerance "
            f"in {metric.units}."
        )
    if not base > best:
        shown = f"{base:.4f} nats" if not metric.higher_is_better else metric.text(metric.turned(base))
        raise InvalidSettingError(
            f"No rank is better than the base ({shown}), so there is no gain: give the tolerance in {metric.units}."
        )
    return value / 100 * (base - best)
